"""A server on the scripted engine for all clients, and what each program of tests/clients/programs said, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving.engine.scripted import Script
from serving.settings.models import ModelSettings
from serving.settings.tree import Settings
from tests.clients.harness import LINES, Scripted
from tests.http_server import RecordingEngine, in_thread


@pytest.fixture(scope="session")
def scripted() -> Iterator[Scripted]:
    engine = RecordingEngine(Script(LINES), max_model_len=131072, settings=ModelSettings())
    with in_thread(Settings(), engine) as url:
        yield Scripted(url, engine)
