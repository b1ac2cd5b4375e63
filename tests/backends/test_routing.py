"""Balancing, retries and circuit breakers over real servers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from serving.engine.scripted import ScriptLine

DELTAS = ({"content": "A"}, {"content": "B"})


def several(*servers: Any) -> dict[str, Any]:
    return {f"b{number}": {"url": server.url, "type": "vllm"} for number, server in enumerate(servers)}


async def test_work_goes_to_the_least_busy(house: Any, dialects: Any, running: Any) -> None:
    busy = dialects["any"](models=("m",), deltas=DELTAS, pause_s=0.05)
    idle = dialects["any"](models=("m",), deltas=DELTAS, pause_s=0.05)
    async with running(busy), running(idle), house(servers=several(busy, idle)) as ours:
        replies = await asyncio.gather(*(ours.ask("m") for _ in range(8)))

    assert [reply.status_code for reply in replies] == [200] * 8
    assert (len(busy.asked), len(idle.asked)) == (4, 4)


async def test_no_request_without_a_token_fails_when_a_backend_is_killed(
    house: Any, dialects: Any, running: Any, until: Any
) -> None:
    stays = dialects["any"](models=("m",), deltas=DELTAS, pause_s=0.01)
    dies = dialects["any"](models=("m",), deltas=DELTAS, pause_s=0.2)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(running(stays))
        doomed = await stack.enter_async_context(contextlib.AsyncExitStack())
        await doomed.enter_async_context(running(dies))
        ours = await stack.enter_async_context(house(servers=several(stays, dies)))
        under_way = [asyncio.create_task(ours.ask("m")) for _ in range(6)]
        await until(lambda: len(dies.asked) >= 2)
        await doomed.aclose()
        later = [await ours.ask("m") for _ in range(4)]
        replies = [*await asyncio.gather(*under_way), *later]

    assert [reply.status_code for reply in replies] == [200] * 10
    assert {reply.headers["x-served-by"] for reply in later} == {"b0:m"}


async def test_a_stream_that_has_begun_ends_with_an_error_and_is_not_begun_again(
    house: Any, dialects: Any, running: Any
) -> None:
    breaks_off = dialects["any"](models=("m",), deltas=DELTAS, finish=None)
    async with running(breaks_off), house(servers=several(breaks_off)) as ours:
        reply = await ours.ask("m", stream=True)

    assert "A" in reply.text
    assert '"code":"engine_died"' in reply.text.replace(" ", "")
    assert len(breaks_off.asked) == 1


async def test_a_full_backend_is_left_alone_for_as_long_as_it_says(house: Any, dialects: Any, running: Any) -> None:
    full = dialects["any"](models=("m",), deltas=DELTAS, failures=1, status=429, headers={"retry-after": "100"})
    other = dialects["any"](models=("m",), deltas=DELTAS)
    async with running(full), running(other), house(servers=several(full, other)) as ours:
        replies = [await ours.ask("m") for _ in range(4)]

    assert [reply.status_code for reply in replies] == [200] * 4
    assert (len(full.asked), len(other.asked)) == (1, 4)


async def test_who_is_alone_and_full_is_asked_again_when_it_said(house: Any, dialects: Any, running: Any) -> None:
    full = dialects["any"](models=("m",), deltas=DELTAS, failures=1, status=429, headers={"retry-after-ms": "30"})
    async with running(full), house(servers=several(full)) as ours:
        reply = await ours.ask("m")

    assert reply.status_code == 200
    assert len(full.asked) == 2


async def test_a_wait_that_is_too_long_is_the_clients_to_wait(house: Any, dialects: Any, running: Any) -> None:
    full = dialects["any"](models=("m",), deltas=DELTAS, failures=9, status=429, headers={"retry-after": "77"})
    async with running(full), house(servers=several(full)) as ours:
        reply = await ours.ask("m")

    assert (reply.status_code, reply.headers["retry-after"]) == (503, "77")


async def test_the_clients_own_mistake_is_told_and_not_tried_again(house: Any, dialects: Any, running: Any) -> None:
    refuses = dialects["any"](models=("m",), deltas=DELTAS, failures=9, status=400)
    async with running(refuses), house(servers=several(refuses)) as ours:
        reply = await ours.ask("m")

    assert reply.status_code == 400
    assert "not now" in reply.json()["error"]["message"]
    assert len(refuses.asked) == 1


async def test_a_circuit_opens_after_failures_and_closes_after_a_success(
    house: Any, dialects: Any, running: Any, until: Any
) -> None:
    flaky = dialects["any"](models=("m",), deltas=DELTAS, failures=3)
    patience = {"failures": 3, "closed_s": 0.3, "attempts": 3}
    async with running(flaky), house(servers=several(flaky), patience=patience) as ours:
        failed = await ours.ask("m")
        refused = await ours.ask("m")
        (card,) = (await ours.http.get("/backends")).json()["data"]
        asked = len(flaky.asked)
        await until(lambda: ours.backends.all()[0].breaker.allows)
        again = await ours.ask("m")
        (healed,) = (await ours.http.get("/backends")).json()["data"]

    assert (failed.status_code, refused.status_code) == (503, 503)
    assert "retry-after" in refused.headers
    assert asked == 3  # the open circuit let nothing through
    assert (card["breaker"], card["ready"]) == ("open", False)
    assert again.status_code == 200
    assert (healed["breaker"], healed["ready"]) == ("closed", True)


@pytest.mark.parametrize("limit", ["first_token_s", "between_tokens_s"])
async def test_silence_has_an_end(house: Any, dialects: Any, running: Any, limit: str) -> None:
    deltas = DELTAS if limit == "first_token_s" else ({"content": "A"}, *DELTAS)
    silent = dialects["any"](models=("m",), deltas=deltas, pause_s=0.4)
    patience = {limit: 0.05 if limit == "first_token_s" else 0.1, "attempts": 1}
    if limit == "between_tokens_s":
        patience["first_token_s"] = 5.0
    async with running(silent), house(servers=several(silent), patience=patience) as ours:
        reply = await ours.ask("m", stream=True)

    if limit == "first_token_s":
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "backend_timeout")
    else:
        assert "engine_died" in reply.text
        assert "[DONE]" not in reply.text


async def test_a_client_that_leaves_stops_the_backends_work(house: Any, until: Any) -> None:
    line = ScriptLine(completion="<|channel|>final<|message|>" + "word " * 5000, step_ms=5)
    async with house(line) as other, house(servers={"other": {"url": other.url, "type": "serving"}}) as ours:
        body = {"model": "other:demo", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        async with ours.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            async for text in reply.aiter_lines():
                if "word" in text:
                    break
        await until(lambda: not other.tenancy.admission("demo").in_use and not ours.backends.all()[0].outstanding)


async def test_selectors_and_names(house: Any, dialects: Any, running: Any) -> None:
    one = dialects["any"](models=("own/a",), deltas=DELTAS)
    two = dialects["any"](models=("a:20b",), deltas=DELTAS)
    async with contextlib.AsyncExitStack() as stack:
        for server in (one, two):
            await stack.enter_async_context(running(server))
        servers = {
            "one": {"url": one.url, "type": "vllm", "models": {"a": "own/a"}},
            "two": {"url": two.url, "type": "ollama", "models": {"a": "a:20b"}},
        }
        ours = await stack.enter_async_context(house(servers=servers))
        for name in ("one:a", "vllm:own/a", "two:a:20b", "ollama:a", "a", "a", "local:demo"):
            assert (await ours.ask(name)).status_code == 200, name
        unknown = await ours.ask("two:b")
        listed = [card["id"] for card in (await ours.http.get("/v1/models")).json()["data"]]

    assert [asked["model"] for asked in (*one.asked, *two.asked)] == ["own/a"] * 3 + ["a:20b"] * 3
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert listed == ["demo", "a"]
