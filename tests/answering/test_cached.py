"""Answers given again, on the whole application: what a client gets, and what an engine is spared."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from anthropic import AsyncAnthropic
from pydantic import SecretStr

from serving.engine.scripted import ScriptLine
from serving.settings.keys import Key, new_key, new_salt
from serving.settings.models import ModelSettings
from serving.settings.redis import RedisSettings
from serving.settings.storage import CacheSettings

if TYPE_CHECKING:
    from tests.http_server import Serve, Served, Until

HELLO: Any = {"role": "user", "content": "Hello!"}
WEATHER: Any = {"role": "user", "content": "How is the weather?"}
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
CACHE = {"cache": CacheSettings(backend="memory")}
SLOW = ScriptLine(completion="<|channel|>final<|message|>" + "word " * 40 + "<|return|>", step_ms=10)
ENDLESS = ScriptLine(completion="<|channel|>final<|message|>" + "word " * 20_000, step_ms=10)
STUCK = ScriptLine(completion="<|channel|>final<|message|>word<|return|>", step_ms=600_000)
KEYS: dict[str, Key] = {name: new_key() for name in ("research", "sales", "admin")}


@pytest.fixture(params=["memory", "redis"])
def further(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of a cache in each of the stores that need no cluster."""
    if request.param == "memory":
        return CACHE
    url: SecretStr = request.getfixturevalue("redis_url")
    return {"cache": CacheSettings(backend="redis"), "redis": RedisSettings(url=url)}


def teams(folder: Path, **policies: dict[str, Any]) -> dict[str, Any]:
    listed = {
        name: {**policy, "keys": [{"id": KEYS[name].id, "hash": str(KEYS[name].hashed(new_salt()))}]}
        for name, policy in policies.items()
    }
    path = folder / "teams.yaml"
    path.write_text(yaml.safe_dump({"teams": listed}))
    return {**CACHE, "teams_file": str(path), "admin_key_hash": str(KEYS["admin"].hashed(new_salt()))}


async def chat(served: Served, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    body = {"model": "demo", "messages": [HELLO], "temperature": 0, **fields}
    return await served.http.post("/v1/chat/completions", json=body, headers=headers or {})


def by(team: str, **headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[team].text}", **headers}


def chunks_of(reply: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]


def joined(reply: httpx.Response) -> dict[int, dict[str, Any]]:
    """What the chunks of a stream come to, by choice: texts, calls, log probabilities and how it ended."""
    found: dict[int, dict[str, Any]] = {}
    for chunk in chunks_of(reply):
        for choice in chunk["choices"]:
            whole = found.setdefault(choice["index"], {"logprobs": [], "channels": []})
            for name, value in choice["delta"].items():
                if name in ("content", "reasoning", "commentary"):
                    whole[name] = whole.get(name, "") + value
                elif name == "channel":
                    whole["channels"].append(value)
                elif name == "tool_calls":
                    function = value[0]["function"]
                    whole["name"] = whole.get("name", "") + function.get("name", "")
                    whole["arguments"] = whole.get("arguments", "") + function["arguments"]
                elif name == "reasoning_truncated":
                    whole[name] = value
            whole["logprobs"] += ((choice["logprobs"] or {}).get("content")) or []
            whole["finish_reason"] = choice["finish_reason"]
    return found


def as_whole(reply: httpx.Response) -> list[dict[str, Any]]:
    """The choices of a whole reply, without the ids that each reply has of its own."""
    choices: list[dict[str, Any]] = reply.json()["choices"]
    for choice in choices:
        for call in choice["message"].get("tool_calls", ()):
            call["id"] = ""
    return choices


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "several": {"n": 3},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "tools": {"messages": [WEATHER], "tools": [TOOL]},
    "one call": {"messages": [WEATHER], "tools": [TOOL], "parallel_tool_calls": False},
    "stop": {"stop": " there"},
    "cut": {"max_tokens": 5},
    "no reasoning": {"include_reasoning": False},
    "budget": {"max_reasoning_tokens": 2},
    "apart": {"separate_thinking": True},
    "forced": {"messages": [WEATHER], "tools": [TOOL], "tool_choice": "required"},
    "truncated": {"messages": [{"role": "user", "content": "old " * 2000}, HELLO], "truncation": "auto", "n": 2},
}


class TestReplay:
    @pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
    async def test_a_whole_answer_is_given_again_as_it_was(
        self, serve: Serve, further: dict[str, Any], fields: dict[str, Any]
    ) -> None:
        async with serve(further=further, max_model_len=1024 if "truncation" in fields else 131072) as served:
            first = await chat(served, **fields)
            asked = len(served.engine.requests)
            second = await chat(served, **fields)

        assert first.status_code == second.status_code == 200, first.text
        assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
        assert len(served.engine.requests) == asked
        assert as_whole(first) == as_whole(second)
        assert first.json()["id"] != second.json()["id"]

    @pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
    @pytest.mark.parametrize("made_as_stream", [True, False])
    async def test_a_stream_is_given_again_as_a_stream(
        self, serve: Serve, fields: dict[str, Any], made_as_stream: bool
    ) -> None:
        async with serve(further=CACHE, max_model_len=1024 if "truncation" in fields else 131072) as served:
            await chat(served, **fields, stream=made_as_stream)
            asked = len(served.engine.requests)
            replayed = await chat(served, **fields, stream=True)
            assert len(served.engine.requests) == asked
            fresh = await chat(served, {"x-cache": "off"}, **fields, stream=True)

        assert replayed.headers["x-cache"] == "hit"
        assert replayed.headers["content-type"].startswith("text/event-stream")
        assert replayed.text.endswith("data: [DONE]\n\n")
        assert joined(replayed) == joined(fresh)

    async def test_a_long_text_comes_in_pieces(self, serve: Serve) -> None:
        text = "word " * 200
        async with serve(
            ScriptLine(completion=f"<|channel|>final<|message|>{text}<|return|>"), further=CACHE
        ) as served:
            await chat(served)
            replayed = await chat(served, stream=True)
        texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks_of(replayed)]
        assert "".join(texts) == text
        assert len(texts) > 5

    async def test_each_reply_has_call_ids_of_its_own(self, serve: Serve) -> None:
        async with serve(further=CACHE) as served:
            replies = [await chat(served, messages=[WEATHER], tools=[TOOL]) for _ in range(3)]
        ids = {reply.json()["choices"][0]["message"]["tool_calls"][0]["id"] for reply in replies}
        assert len(ids) == 3
        assert all(each.startswith("call_") for each in ids)

    async def test_usage_says_that_nothing_was_made(self, serve: Serve) -> None:
        async with serve(further=CACHE) as served:
            made = (await chat(served)).json()["usage"]
            kept = (await chat(served)).json()["usage"]
            streamed = chunks_of(await chat(served, stream=True, stream_options={"include_usage": True}))[-1]["usage"]

        assert "cache" not in made
        assert kept["cache"] == "hit"
        assert kept["prompt_tokens_details"]["cached_tokens"] == kept["prompt_tokens"] == made["prompt_tokens"]
        assert kept["completion_tokens"] == made["completion_tokens"]
        assert streamed == kept

    async def test_completions_are_kept_too(self, serve: Serve) -> None:
        async with serve(further=CACHE) as served:
            ask: Any = {"model": "demo", "prompt": ["One", "Two"], "max_tokens": 20, "temperature": 0, "n": 2}
            made = await served.http.post("/v1/completions", json={**ask, "logprobs": 1})
            asked = len(served.engine.requests)
            kept = await served.http.post("/v1/completions", json={**ask, "logprobs": 1})
            other = await served.http.post("/v1/completions", json=ask)
            streamed = await served.http.post("/v1/completions", json={**ask, "stream": True})

        assert asked == 4
        assert [r.headers["x-cache"] for r in (made, kept, other, streamed)] == ["miss", "hit", "miss", "hit"]
        assert made.json()["choices"] == kept.json()["choices"]
        assert kept.json()["usage"]["cache"] == "hit"
        texts: dict[int, str] = {}
        for chunk in chunks_of(streamed):
            texts[chunk["choices"][0]["index"]] = (
                texts.get(chunk["choices"][0]["index"], "") + (chunk["choices"][0]["text"])
            )
        assert texts == {choice["index"]: choice["text"] for choice in other.json()["choices"]}

    async def test_responses_and_messages_are_kept_too(self, serve: Serve) -> None:
        async with serve(further=CACHE) as served:
            ask: Any = {"model": "demo", "input": "Hello!", "temperature": 0}
            made = await served.openai.responses.with_raw_response.create(**ask)
            kept = await served.openai.responses.with_raw_response.create(**ask)
            async with served.openai.responses.stream(**ask) as events:
                types = [event.type async for event in events]
            async with AsyncAnthropic(
                api_key="none", base_url=f"http://{served.host}:{served.port}", max_retries=0
            ) as anthropic:
                message: Any = {
                    "model": "demo",
                    "max_tokens": 500,
                    "extra_body": {"temperature": 0},
                    "messages": [WEATHER],
                    "tools": [{"name": "get_weather", "input_schema": {"type": "object"}}],
                }
                first = await anthropic.messages.with_raw_response.create(**message)
                second = await anthropic.messages.with_raw_response.create(**message)

        assert (made.headers["x-cache"], kept.headers["x-cache"]) == ("miss", "hit")
        assert made.parse().output_text == kept.parse().output_text == "Hello there!"
        assert kept.parse().id != made.parse().id
        usage = kept.parse().usage
        assert usage is not None
        assert usage.input_tokens_details.cached_tokens == usage.input_tokens
        assert types[-1] == "response.completed"
        assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
        again = (await second.parse()).content
        assert [block.type for block in again] == [block.type for block in (await first.parse()).content]
        assert again[-1].type == "tool_use"
        assert again[-1].id.startswith("toolu_")
        assert len(served.engine.requests) == 2


class TestWhoUsesIt:
    @pytest.mark.parametrize(
        ("fields", "header", "outcome"),
        [
            ({"temperature": 0}, None, "hit"),
            ({"temperature": 1, "seed": 7}, None, "hit"),
            ({"temperature": 1}, None, None),
            ({"temperature": 1}, "on", "hit"),
            ({"temperature": 1}, "On", "hit"),
            ({"temperature": 0}, "off", None),
            ({"temperature": 0}, "auto", "hit"),
        ],
    )
    async def test_those_that_come_out_the_same_and_those_that_ask(
        self, serve: Serve, fields: dict[str, Any], header: str | None, outcome: str | None
    ) -> None:
        headers = {"x-cache": header} if header else {}
        async with serve(further=CACHE) as served:
            await chat(served, headers, **fields)
            again = await chat(served, headers, **fields)
            assert len(served.engine.requests) == (1 if outcome else 2)
        assert again.headers.get("x-cache") == outcome

    async def test_settings_say_whether_to_keep_what_nobody_asked_for(self, serve: Serve) -> None:
        further = {"cache": CacheSettings(backend="memory", greedy=False, seeded=False)}
        async with serve(further=further) as served:
            replies = [await chat(served, seed=1) for _ in range(2)]
            replies += [await chat(served, {"x-cache": "on"}, seed=1) for _ in range(2)]
        assert [reply.headers.get("x-cache") for reply in replies] == [None, None, "miss", "hit"]

    async def test_without_a_cache_the_header_changes_nothing(self, served: Served) -> None:
        replies = [await chat(served, {"x-cache": "on"}) for _ in range(2)]
        assert [reply.status_code for reply in replies] == [200, 200]
        assert not any("x-cache" in reply.headers for reply in replies)
        assert len(served.engine.requests) == 2

    @pytest.mark.parametrize("backend", ["memory", "off"])
    async def test_another_word_in_the_header_is_a_mistake(self, serve: Serve, backend: Any) -> None:
        async with serve(further={"cache": CacheSettings(backend=backend)}) as served:
            reply = await chat(served, {"x-cache": "yes"})
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "x-cache"
        assert "on or off" in reply.json()["error"]["message"]

    async def test_off_neither_reads_nor_writes(self, serve: Serve) -> None:
        async with serve(further=CACHE) as served:
            replies = [await chat(served, headers) for headers in ({"x-cache": "off"}, {}, {"x-cache": "off"}, {})]
        assert [reply.headers.get("x-cache") for reply in replies] == [None, "miss", None, "hit"]

    @pytest.mark.parametrize(
        "other",
        [
            {"messages": [{"role": "user", "content": "Hello?"}]},
            {"temperature": 0.0, "seed": 1},
            {"top_p": 0.5},
            {"max_tokens": 50},
            {"stop": "x"},
            {"n": 2},
            {"logprobs": True},
            {"reasoning_effort": "high"},
            {"include_reasoning": False},
            {"tools": [TOOL]},
            {"response_format": {"type": "json_object"}},
            {"max_reasoning_tokens": 100},
            {"logit_bias": {"5": 1}},
        ],
        ids=str,
    )
    async def test_what_differs_in_anything_is_another_question(self, serve: Serve, other: dict[str, Any]) -> None:
        async with serve(further=CACHE) as served:
            await chat(served)
            reply = await chat(served, **other)
        assert reply.headers["x-cache"] == "miss"

    async def test_models_are_kept_apart_and_aliases_are_not(self, serve: Serve) -> None:
        models = {"demo": ModelSettings(aliases=("small",)), "large": ModelSettings(source="demo")}
        async with serve(models=models, further=CACHE) as served:
            replies = [await chat(served, model=name) for name in ("demo", "large", "small")]
        assert [reply.headers["x-cache"] for reply in replies] == ["miss", "miss", "hit"]
        assert replies[2].json()["model"] == "small"

    async def test_a_refused_request_has_no_such_header(self, serve: Serve) -> None:
        async with serve(further=CACHE) as served:
            reply = await chat(served, max_tokens=10**9)
        assert reply.status_code == 400
        assert "x-cache" not in reply.headers


class TestSharing:
    async def test_equal_requests_at_once_share_one_generation(self, serve: Serve) -> None:
        async with serve(SLOW, further=CACHE) as served:
            replies = await asyncio.gather(*(chat(served, stream=number % 2 == 0) for number in range(8)))
            assert len(served.engine.requests) <= 2  # one for those who watch, at most one for those who do not
        outcomes = sorted(reply.headers["x-cache"] for reply in replies)
        assert outcomes.count("shared") >= 6
        texts = {joined(reply)[0]["content"] for reply in replies if "event-stream" in reply.headers["content-type"]}
        texts |= {
            reply.json()["choices"][0]["message"]["content"]
            for reply in replies
            if "json" in reply.headers["content-type"]
        }
        assert texts == {"word " * 40}

    async def test_who_shares_is_told_in_usage(self, serve: Serve) -> None:
        async with serve(SLOW, further=CACHE) as served:
            replies = await asyncio.gather(*(chat(served) for _ in range(3)))
        marks = sorted(str(reply.json()["usage"].get("cache")) for reply in replies)
        assert marks == ["None", "shared", "shared"]

    async def test_a_stream_that_joins_gets_what_was_there_and_then_what_comes(
        self, serve: Serve, until: Until
    ) -> None:
        async with serve(ENDLESS, further=CACHE) as served:
            async with _streaming(served) as first:
                for _ in range(20):
                    await first.__anext__()
                async with _streaming(served) as second:
                    late = [await second.__anext__() for _ in range(30)]
            await until(lambda: served.engine.running == 0)
        assert len(served.engine.requests) == 1
        assert "".join(text for text in late).startswith("word word word")

    async def test_who_leaves_ends_it_for_nobody_else(self, serve: Serve, until: Until) -> None:
        async with serve(SLOW, further=CACHE) as served:
            async with _streaming(served) as first:
                await first.__anext__()
                others = [asyncio.create_task(chat(served, stream=True)) for _ in range(3)]
                await until(lambda: served.engine.deltas_taken > 5)
                others[1].cancel()
            # The one that began it has left by now.
            for task in (others[0], others[2]):
                reply = await task
                assert joined(reply)[0]["content"] == "word " * 40
                assert reply.headers["x-cache"] == "shared"
            assert (await chat(served)).headers["x-cache"] == "hit"
        assert len(served.engine.requests) == 1

    async def test_when_the_last_has_left_the_engine_stops_and_nothing_is_kept(
        self, serve: Serve, until: Until
    ) -> None:
        async with serve(ENDLESS, further=CACHE) as served:
            async with _streaming(served) as first, _streaming(served) as second:
                await first.__anext__()
                await second.__anext__()
                assert served.engine.running == 1
            assert await until(lambda: served.engine.running == 0) < 1
            async with _streaming(served):
                pass
        assert len(served.engine.requests) == 2

    async def test_a_failure_is_everybodys_and_is_not_kept(self, serve: Serve) -> None:
        async with serve(SLOW, further=CACHE) as served:
            served.engine.fails_after = 0
            replies = await asyncio.gather(*(chat(served) for _ in range(3)))
            assert [reply.status_code for reply in replies] == [500, 500, 500]
            assert len(served.engine.requests) == 1
            served.engine.fails_after = None
            again = await chat(served)
        assert again.headers["x-cache"] == "miss"
        assert again.json()["choices"][0]["message"]["content"] == "word " * 40

    async def test_a_deadline_is_one_requests_own(self, serve: Serve) -> None:
        async with serve(SLOW, further=CACHE) as served:
            hasty = asyncio.create_task(chat(served, {"x-request-timeout": "0.15"}))
            patient = asyncio.create_task(chat(served))
            assert (await hasty).status_code == 504
            reply = await patient
        assert reply.status_code == 200
        assert reply.json()["choices"][0]["message"]["content"] == "word " * 40
        assert len(served.engine.requests) == 1

    async def test_whose_time_runs_out_in_line_takes_nobody_along(self, serve: Serve, until: Until) -> None:
        models = {"demo": ModelSettings(max_num_seqs=1)}
        async with serve(SLOW, further=CACHE, models=models) as served:
            running = [
                asyncio.create_task(chat(served, messages=[{"role": "user", "content": f"Other {i}"}]))
                for i in range(2)
            ]
            await until(lambda: served.engine.running > 0)
            hasty = asyncio.create_task(chat(served, {"x-request-timeout": "0.1"}))
            await asyncio.sleep(0)
            patient = asyncio.create_task(chat(served))
            assert (await hasty).status_code == 504
            assert (await patient).status_code == 200
            await asyncio.gather(*running)


class TestTeams:
    async def test_no_answer_crosses_teams(self, serve: Serve, tmp_path: Path) -> None:
        async with serve(SLOW, further=teams(tmp_path, research={}, sales={})) as served:
            at_once = await asyncio.gather(*(chat(served, by(team)) for team in ("research", "sales")))
            later = [await chat(served, by(team)) for team in ("research", "sales")]
        assert [reply.headers["x-cache"] for reply in at_once] == ["miss", "miss"]
        assert [reply.headers["x-cache"] for reply in later] == ["hit", "hit"]
        assert len(served.engine.requests) == 2

    async def test_what_is_kept_costs_a_request(self, serve: Serve, tmp_path: Path) -> None:
        limited = {"requests_per_minute": 4, "tokens_per_minute": 400}
        async with serve(further=teams(tmp_path, research=limited)) as served:
            replies = [await chat(served, by("research"), max_tokens=20) for _ in range(5)]
        assert [reply.status_code for reply in replies] == [200, 200, 200, 200, 429]
        assert [reply.headers.get("x-cache") for reply in replies] == ["miss", "hit", "hit", "hit", None]
        assert [int(reply.headers["x-ratelimit-remaining-requests"]) for reply in replies[:4]] == [3, 2, 1, 0]

    async def test_what_is_kept_or_shared_costs_no_tokens(self, serve: Serve, tmp_path: Path) -> None:
        limited = {"requests_per_minute": 100_000, "tokens_per_minute": 10_000}
        async with serve(SLOW, further=teams(tmp_path, research=limited)) as served:
            replies = await asyncio.gather(*(chat(served, by("research")) for _ in range(4)))
            await _settled(served, left=10_000 - replies[0].json()["usage"]["total_tokens"])

    async def test_tokens_made_after_their_first_asker_left_are_paid_for(
        self, serve: Serve, tmp_path: Path, until: Until
    ) -> None:
        limited = {"requests_per_minute": 100_000, "tokens_per_minute": 10_000, "concurrent_requests": 5}
        async with serve(SLOW, further=teams(tmp_path, research=limited)) as served:
            async with _streaming(served, by("research")) as first:
                await first.__anext__()
                other = asyncio.create_task(chat(served, by("research"), stream=True))
                await until(lambda: served.engine.deltas_taken > 3)
                await asyncio.sleep(0.05)
            assert (await other).headers["x-cache"] == "shared"
            spent = (await chat(served, by("research"))).json()["usage"]["total_tokens"]
            await _settled(served, left=10_000 - spent)

    async def test_usage_has_what_was_replayed_apart(self, serve: Serve, tmp_path: Path) -> None:
        async with serve(further=teams(tmp_path, research={})) as served:
            made = (await chat(served, by("research"))).json()["usage"]
            for stream in (True, False):
                await chat(served, by("research"), stream=stream)
            await served.tenancy.ledger.flush()
            reply = await served.http.get("/admin/usage", params={"by": "team"}, headers=by("admin"))
        (row,) = reply.json()["data"]
        assert (row["requests"], row["failed"]) == (3, 0)
        assert row["prompt_tokens"] == made["prompt_tokens"]
        assert row["completion_tokens"] == made["completion_tokens"]
        assert row["replayed_tokens"] == 2 * made["total_tokens"]

    async def test_what_is_kept_needs_no_place_in_a_full_line(self, serve: Serve, until: Until) -> None:
        models = {"demo": ModelSettings(max_num_seqs=1)}
        quick = ScriptLine(prompt_contains="Hello!", completion="<|channel|>final<|message|>Hi<|return|>")
        further = {**CACHE, "admission": {"max_queued": 1}}
        async with serve(quick, STUCK, further=further, models=models) as served:
            await chat(served)
            busy = [asyncio.create_task(chat(served, messages=[{"role": "user", "content": str(i)}])) for i in range(3)]
            line = served.tenancy.admission("demo")
            await until(lambda: line.waiting == 1)
            kept = await chat(served)
            new = await chat(served, messages=[{"role": "user", "content": "new"}])
            sampled = await chat(served, temperature=1)
            metrics = (await served.http.get("/metrics")).text
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
        assert (kept.status_code, kept.headers["x-cache"]) == (200, "hit")
        assert (new.status_code, sampled.status_code) == (503, 503)
        assert new.json()["error"]["code"] == "queue_full"
        assert _value(metrics, "serving_rejections_total", reason="queue_full") == 2


class TestTrouble:
    async def test_an_answer_that_is_too_large_is_given_and_not_kept(self, serve: Serve) -> None:
        further = {"cache": CacheSettings(backend="memory", max_item_bytes=1024)}
        line = ScriptLine(completion="<|channel|>final<|message|>" + "word " * 3000 + "<|return|>", tokens_per_step=3)
        async with serve(line, further=further) as served:
            replies = [await chat(served, stream=stream) for stream in (True, False, True)]
            metrics = (await served.http.get("/metrics")).text
        assert [reply.headers["x-cache"] for reply in replies] == ["miss"] * 3
        assert joined(replies[0])[0]["content"] == "word " * 3000
        assert _value(metrics, "serving_cache_failures_total", kind="too_large") == 3

    async def test_a_store_that_is_away_is_a_miss(self, serve: Serve) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))  # and does not listen
            url = SecretStr(f"redis://127.0.0.1:{sock.getsockname()[1]}/0")
            further = {"cache": CacheSettings(backend="redis"), "redis": RedisSettings(url=url)}
            async with serve(further=further) as served:
                replies = [await chat(served) for _ in range(3)]
                metrics = (await served.http.get("/metrics")).text
        assert [reply.status_code for reply in replies] == [200] * 3
        assert [reply.headers["x-cache"] for reply in replies] == ["miss"] * 3
        # It is asked once, and left alone for a while.
        assert _value(metrics, "serving_cache_failures_total", kind="read") == 1
        assert _value(metrics, "serving_cache_failures_total", kind="write") == 0

    async def test_metrics_count_what_the_cache_had(self, serve: Serve) -> None:
        async with serve(SLOW, further=CACHE) as served:
            made, _ = await asyncio.gather(chat(served), chat(served))
            await chat(served)
            await chat(served, {"x-cache": "off"})
            metrics = (await served.http.get("/metrics")).text
        spent = made.json()["usage"]["total_tokens"]
        for outcome in ("miss", "shared", "hit"):
            assert _value(metrics, "serving_cache_requests_total", outcome=outcome) == 1
        assert _value(metrics, "serving_cache_saved_tokens_total") == 2 * spent
        worked_on = sum(_values(metrics, "serving_tokens_total"))
        assert worked_on == 2 * spent


async def _settled(served: Served, *, left: int) -> None:
    """Ask, which is free by now, until so many tokens of this minute are left to research."""
    deadline = asyncio.get_running_loop().time() + 10
    found = -1
    while asyncio.get_running_loop().time() < deadline:
        await served.tenancy.limiter.flush()
        reply = await chat(served, by("research"))
        assert reply.headers["x-cache"] == "hit"
        if (found := int(reply.headers["x-ratelimit-remaining-tokens"])) == left:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"{found} tokens are left, not {left}")


def _values(metrics: str, name: str, **labels: str) -> list[float]:
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in metrics.splitlines() if line.startswith(name + "{")]
    return [float(line.rsplit(" ", 1)[1]) for line in lines if all(each in line for each in wanted)]


def _value(metrics: str, name: str, **labels: str) -> float:
    return sum(_values(metrics, name, **labels))


@contextlib.asynccontextmanager
async def _streaming(served: Served, headers: dict[str, str] | None = None) -> AsyncIterator[AsyncIterator[str]]:
    """The texts of a streamed answer as they come; leaving the block leaves the server."""
    body = {"model": "demo", "messages": [HELLO], "temperature": 0, "stream": True}
    async with served.http.stream("POST", "/v1/chat/completions", json=body, headers=headers or {}) as reply:
        assert reply.status_code == 200
        yield _texts(reply)


async def _texts(reply: httpx.Response) -> AsyncIterator[str]:
    async for line in reply.aiter_lines():
        if line.startswith("data: {"):
            choices = json.loads(line[6:])["choices"]
            if choices and choices[0]["delta"].get("content"):
                yield choices[0]["delta"]["content"]
