"""serving/demo/README.md promises what the model was trained on."""

from __future__ import annotations

import re
from pathlib import Path

from serving import demo
from training import toolbox

README = (Path(demo.__file__).parent / "README.md").read_text()


def test_the_tools_it_knows_are_those_of_the_corpus() -> None:
    (told,) = re.findall(r"^- Weather and time.*?(?=^- )", README, re.MULTILINE | re.DOTALL)
    for names in toolbox.TOOL_NAMES.values():
        assert {name for name in names if f"`{name}`" not in told} == set()
    assert {name for name in toolbox.PLACE_ARGUMENTS if f"`{name}`" not in told} == set()
