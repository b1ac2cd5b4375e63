"""docs/messages.md: its programs run as they stand, and every field that is refused or read is what the page says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.api.anthropic.messages.request import _EFFORT_FROM, ThinkingOptions
from serving.api.anthropic.messages.response import INVALID_JSON, UNSIGNED
from serving.engine.scripted import ScriptLine

if TYPE_CHECKING:
    from tests.http_server import Served

PAGE = (Path(__file__).parents[4] / "docs" / "messages.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
THOUGHT = "<|channel|>analysis<|message|>The user asks.<|end|><|start|>assistant"
BLUE = f"{THOUGHT}<|channel|>final<|message|>Light scatters.<|return|>"
CALL = f'{THOUGHT}<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{{"city":"Paris"}}<|call|>'
SUNNY = f"{THOUGHT}<|channel|>final<|message|>It is sunny.<|return|>"


async def test_the_programs_run(served: Served, capsys: Any) -> None:
    served.engine.in_turn = [ScriptLine(completion=text) for text in (BLUE, BLUE, CALL, SUNNY, BLUE)]
    names: dict[str, Any] = {}
    for program in PROGRAMS:
        await asyncio.to_thread(
            exec, program.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{served.port}"), names
        )
    names["client"].close()
    assert capsys.readouterr().out == "Light scatters.\nIt is sunny.\n"
    assert served.engine.in_turn == []


def test_the_words_and_numbers_are_those_of_the_code() -> None:
    assert f"the word `{UNSIGNED}`" in PAGE
    assert INVALID_JSON in PAGE
    assert all(str(least) in PAGE for least, _ in _EFFORT_FROM if least)
    assert all(f"`{field}" in PAGE or f'"{field}"' in PAGE for field in ThinkingOptions.model_fields)
