"""Tasks that run beside the requests end with their owner, and a failed one is told of."""

from __future__ import annotations

import asyncio

import pytest

from serving.background import Background


async def test_closing_ends_all_tasks_and_may_be_repeated() -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    background = Background()
    background.run(work("one"), "the first")
    background.run(work("two"), "the second")
    await asyncio.sleep(0)

    await background.close()
    await background.close()

    assert ended == ["one", "two"]


async def test_a_task_that_fails_is_told_of_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("out of paper")

    background = Background()
    background.run(fail(), "print the reports")
    await asyncio.sleep(0)
    await background.close()

    [record] = caplog.records
    assert record.levelname == "CRITICAL"
    assert "print the reports ended" in record.message
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "out of paper"


async def test_a_task_ended_by_its_owner_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    background = Background()
    background.run(asyncio.sleep(60), "wait")
    await background.close()

    assert not caplog.records
