from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from serving.settings.keys import Key, new_key
from serving.tenancy.auth.team_directory import TeamDirectory

WriteTeams = Callable[..., Path]
NOW = 1_760_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextlib.asynccontextmanager
async def watching(directory: TeamDirectory) -> AsyncIterator[None]:
    task = asyncio.create_task(directory.watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], deadline_s: float = 2.0) -> None:
    """2 s: the promise for a revoked key."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.01)


def test_each_of_a_teams_keys_is_the_teams(write_teams: WriteTeams, stored_key: Any, clock: Clock) -> None:
    (one, line), (two, other) = stored_key(), stored_key()
    directory = TeamDirectory(write_teams({"research": {"keys": [line, other]}}), clock)

    found = [directory.identify(key.text) for key in (one, two)]

    assert [(each.team, each.key_id) for each in found if each] == [("research", one.id), ("research", two.id)]


def test_whatever_is_wrong_with_a_key_looks_the_same(write_teams: WriteTeams, stored_key: Any, clock: Clock) -> None:
    (good, line), (revoked, gone) = stored_key(), stored_key(revoked=True)
    directory = TeamDirectory(write_teams({"research": {"keys": [line, gone]}}), clock)

    for text in ("", "sk-", "none", good.text[:-10], Key(good.id, new_key().secret).text, new_key().text, revoked.text):
        assert directory.identify(text) is None


def test_a_key_expires(write_teams: WriteTeams, stored_key: Any, clock: Clock) -> None:
    key, line = stored_key(expires="2025-10-09T10:00:00Z")
    directory = TeamDirectory(write_teams({"research": {"keys": [line]}}), clock)
    assert directory.identify(key.text)

    clock.now += 3600 * 2

    assert directory.identify(key.text) is None


async def test_a_revoked_key_stops_within_two_seconds(write_teams: WriteTeams, stored_key: Any, clock: Clock) -> None:
    (kept, line), (revoked, other) = stored_key(), stored_key()
    directory = TeamDirectory(write_teams({"research": {"keys": [line, other]}}), clock)
    async with watching(directory):
        write_teams({"research": {"keys": [line]}})

        await until(lambda: directory.identify(revoked.text) is None)

        assert directory.identify(kept.text)


async def test_a_swapped_link_is_noticed(
    tmp_path: Path, write_teams: WriteTeams, stored_key: Any, clock: Clock
) -> None:
    (old, line), (new, other) = stored_key(), stored_key()
    for folder, each in (("v1", line), ("v2", other)):
        (tmp_path / folder).mkdir()
        write_teams({"research": {"keys": [each]}}).rename(tmp_path / folder / "teams.yaml")
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "teams.yaml").symlink_to("..data/teams.yaml")
    directory = TeamDirectory(tmp_path / "teams.yaml", clock)
    assert directory.identify(old.text)
    async with watching(directory):
        (tmp_path / "..new").symlink_to("v2")
        (tmp_path / "..new").rename(tmp_path / "..data")

        await until(lambda: directory.identify(new.text) is not None)

    assert directory.identify(old.text) is None


@pytest.mark.parametrize("content", ["teams: [", "", None])
async def test_a_wrong_file_changes_nothing_and_is_told(
    write_teams: WriteTeams, stored_key: Any, clock: Clock, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    key, line = stored_key()
    path = write_teams({"research": {"keys": [line]}})
    directory = TeamDirectory(path, clock)
    async with watching(directory):
        path.unlink()
        if content is not None:
            path.write_text(content)
        await until(lambda: directory.wrong is not None)

        assert directory.identify(key.text)
        assert "stay in force" in caplog.text

        write_teams({"sales": {"keys": [line]}})
        await until(lambda: directory.wrong is None)

    found = directory.identify(key.text)
    assert found is not None
    assert found.team == "sales"
