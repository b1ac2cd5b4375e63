"""The composition root: what it has built it closes, in reverse order, also where building fails halfway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.engine.lifecycle.manager import ModelManager
from serving.engine.lifecycle.model import Observer
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.errors import SettingsError
from serving.parts import Parts, Platform
from serving.settings.storage import CacheSettings
from serving.settings.tree import Settings
from serving.store.from_settings import limits
from serving.store.memory import MemoryStore
from serving.store.registrations import MemoryRegistrations
from serving.tenancy.rate_limits.memory import MemoryLimitStore

SETTINGS = Settings(cache=CacheSettings(backend="memory"))


class Closings:
    """A platform whose pieces note in `closed` that they were closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.closed: list[str] = []
        self.engines = {"demo": ScriptedEngine(Script((ScriptLine(completion="<|return|>"),)))}
        own = Platform.in_process(SETTINGS, self.engines)
        store, answers = MemoryStore(limits(SETTINGS.responses)), MemoryStore(limits(SETTINGS.cache))
        backends, adapters, budgets = MemoryRegistrations(), MemoryRegistrations(), MemoryLimitStore(own.clock)
        for name, piece in {
            "responses": store,
            "answers": answers,
            "backends": backends,
            "adapters": adapters,
            "limits": budgets,
        }.items():
            monkeypatch.setattr(piece, "close", self._noting(name))
        self.platform = replace(
            own,
            responses_store=store,
            answer_store=answers,
            backend_registrations=backends,
            adapter_registrations=adapters,
            limit_store=budgets,
        )

    def _noting(self, name: str) -> Callable[[], Any]:
        async def close() -> None:
            self.closed.append(name)

        return close


@pytest.fixture
def closings(monkeypatch: pytest.MonkeyPatch) -> Closings:
    return Closings(monkeypatch)


async def test_all_parts_are_closed_the_last_one_first(closings: Closings) -> None:
    async with Parts.open(SETTINGS, closings.engines, closings.platform):
        assert closings.closed == []
    assert closings.closed == ["adapters", "answers", "backends", "responses", "limits"]


async def test_parts_are_closed_where_a_later_one_cannot_be_built(closings: Closings) -> None:
    def none(settings: Settings, observer: Observer) -> ModelManager:
        raise RuntimeError("no model manager")

    with pytest.raises(RuntimeError, match="no model manager"):
        async with Parts.open(SETTINGS, closings.engines, replace(closings.platform, model_manager=none)):
            pytest.fail("it was built")
    assert closings.closed == ["adapters", "answers", "backends", "responses", "limits"]


async def test_a_wrong_teams_file_is_said_and_leaves_nothing_open(closings: Closings, tmp_path: Path) -> None:
    (tmp_path / "teams.yaml").write_text("teams: [")
    settings = SETTINGS.model_copy(update={"teams_file": str(tmp_path / "teams.yaml")})
    with pytest.raises(SettingsError):
        async with Parts.open(settings, closings.engines, closings.platform):
            pytest.fail("it was built")
