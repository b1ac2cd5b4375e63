"""docs/cache.md: its settings are right and complete, its example runs, and it names the metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml

from serving.cache.answers import Failure
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.settings.loading.load import load_settings
from serving.settings.storage import CacheSettings
from serving.settings.tree import Settings
from serving.telemetry.definitions import DEFINITIONS
from serving.telemetry.metrics import CacheFailure
from serving.telemetry.record import CacheOutcome
from tests.http_server import in_thread

PAGE = (Path(__file__).parents[2] / "docs" / "cache.md").read_text()
(SETTINGS,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_settings_are_right_complete_and_else_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(SETTINGS)
    cache = load_settings(config=file, overrides={}, environ={}).cache
    assert cache.model_fields_set == set(CacheSettings.model_fields)
    assert cache == CacheSettings(backend="memory")


def test_every_metric_of_the_cache_is_named_and_every_value() -> None:
    names = {d.name for d in DEFINITIONS if d.name.startswith("serving_cache_")}
    assert {name for name in names if f"`{name}`" not in PAGE} == set()
    assert get_args(Failure) == get_args(CacheFailure)
    assert {v for v in (*get_args(CacheFailure), *get_args(CacheOutcome)) if f"`{v}`" not in PAGE} == set()


@pytest.fixture
def address() -> Iterator[str]:
    """A server in a thread with the page's settings."""
    settings = Settings(**yaml.safe_load(SETTINGS))
    script = Script((ScriptLine(completion="<|channel|>final<|message|>It scatters.<|return|>"),))
    engine = ScriptedEngine(script, model="demo", max_model_len=4096)
    with in_thread(settings, engine) as url:
        yield url


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the page does not close its client
def test_the_example_runs(address: str) -> None:
    exec(compile(EXAMPLE.replace("http://127.0.0.1:8000", address), "<docs/cache.md>", "exec"), {})  # our own page
