from __future__ import annotations

import asyncio

import pytest

from serving.batches.asking import Answer, Places, Retries


def answer(status: int, code: str = "x", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, f'"{code}"'.encode())


def test_a_refusal_is_waited_out_for_as_long_as_it_says() -> None:
    wait_s = Retries().wait_s(answer(429, retry_after_ms="1500"))
    assert wait_s is not None
    assert 1.5 <= wait_s <= 1.8


@pytest.mark.parametrize("status", [429, 503])
def test_a_line_that_is_always_refused_fails_in_the_end(status: int) -> None:
    retries = Retries()
    waits = [retries.wait_s(answer(status)) for _ in range(101)]
    assert None not in waits[:100]
    assert waits[100] is None


def test_a_lost_engine_is_tried_three_times_more() -> None:
    retries = Retries()
    waits = [retries.wait_s(answer(500, "engine_died")) for _ in range(4)]
    assert [wait is None for wait in waits] == [False, False, False, True]


@pytest.mark.parametrize(("status", "code"), [(200, "x"), (400, "x"), (404, "x"), (500, "internal_error")])
def test_everything_else_is_the_result(status: int, code: str) -> None:
    assert Retries().wait_s(answer(status, code)) is None


async def test_places_are_as_many_as_engines_have_now_and_are_given_in_turn() -> None:
    most = 2
    places = Places(lambda: most)
    first, second = await places.take(), await places.take()
    third = asyncio.create_task(places.take())
    fourth = asyncio.create_task(places.take())
    await asyncio.sleep(0.01)
    assert not third.done()

    first.give_back()
    first.give_back()  # once is enough
    await third
    await asyncio.sleep(0.01)
    assert not fourth.done()

    most = 1
    second.give_back()
    await asyncio.sleep(0.01)
    assert not fourth.done()
    (await third).give_back()
    await fourth
    assert places.taken == 1
