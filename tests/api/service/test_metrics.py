"""GET /metrics of the whole app, after requests of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from serving.engine.scripted import ScriptLine
from serving.settings.keys import new_key, new_salt

BROKEN = "<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>Yes.<|return|>"


class Served(Protocol):
    http: httpx.AsyncClient
    host: str
    port: int

    async def chat(self, **fields: object) -> httpx.Response: ...


class Serve(Protocol):
    def __call__(
        self, *lines: ScriptLine, start: bool = True, **http: object
    ) -> contextlib.AbstractAsyncContextManager[Served]: ...


class Samples:
    """The samples of a scrape, found by name and some of their labels."""

    def __init__(self, text: str) -> None:
        self._samples = [s for family in text_parser.text_string_to_metric_families(text) for s in family.samples]
        self.names = {sample.name for sample in self._samples}

    def sum(self, name: str, **labels: str) -> float:
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())


async def scrape(served: Served) -> Samples:
    reply = await served.http.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Samples(reply.text)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_is_counted_by_its_kind_and_tokens(served: Served, stream: bool) -> None:
    await served.chat(model="gpt-oss", stream=stream, reasoning_effort="high")
    seen = await scrape(served)
    assert seen.sum(
        "serving_requests_total", api="chat", model="demo", team="none", effort="high", outcome="ok"
    ) == 1 == seen.sum("serving_requests_total")  # fmt: skip
    assert seen.sum("serving_request_duration_seconds_count", api="chat") == 1
    assert seen.sum("serving_time_to_first_token_seconds_count", model="demo") == stream
    assert seen.sum("serving_time_to_first_final_token_seconds_count", model="demo") == stream
    assert seen.sum("serving_time_per_output_token_seconds_count", model="demo") == stream
    assert (seen.sum("serving_inter_token_latency_seconds_count", model="demo") > 0) == stream
    assert seen.sum("serving_tokens_total", channel="prompt") > 50
    assert seen.sum("serving_tokens_total", channel="analysis") == 6
    assert seen.sum("serving_tokens_total", channel="final") == 3
    assert seen.sum("serving_reasoning_tokens_sum", effort="high") == 6
    assert seen.sum("serving_requests_in_flight") == 0


async def test_every_channel_adds_up_to_the_usage(served: Served) -> None:
    usage = (await served.chat()).json()["usage"]
    seen = await scrape(served)
    assert seen.sum("serving_tokens_total") == usage["total_tokens"]


@pytest.mark.parametrize("stream", [True, False])
async def test_tool_calls_are_counted(served: Served, stream: bool) -> None:
    weather = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    await served.chat(messages=[{"role": "user", "content": "weather?"}], tools=[weather], stream=stream)
    seen = await scrape(served)
    assert seen.sum("serving_tool_calls_total", model="demo") == 1
    assert seen.sum("serving_tokens_total", channel="tool") > 0


async def test_recoveries_are_counted_by_kind_and_start_at_zero(serve: Serve) -> None:
    async with serve(ScriptLine(completion=BROKEN)) as served:
        assert "serving_recoveries_total" in (await scrape(served)).names
        await served.chat()
        seen = await scrape(served)
    assert seen.sum("serving_recoveries_total", model="demo", kind="start_missing") == 1
    assert seen.sum("serving_recoveries_total") == 1


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"model": "gpt-17"}, "not_found"),
        ({"temperature": 99}, "invalid_request"),
        ({"messages": 1}, "invalid_request"),
    ],
)
async def test_mistakes_are_counted_by_class(served: Served, fields: dict[str, object], outcome: str) -> None:
    await served.chat(**fields)
    seen = await scrape(served)
    assert seen.sum("serving_requests_total", api="chat", outcome=outcome) == seen.sum("serving_requests_total") == 1


async def test_unknown_paths_fold_into_one(served: Served) -> None:
    for number in range(3):
        await served.http.get(f"/nothing/{number}")
    assert (await scrape(served)).sum("serving_requests_total", api="other", outcome="not_found") == 3


async def test_what_monitors_ask_is_not_counted(served: Served) -> None:
    for path in ("/health", "/ready", "/version", "/metrics"):
        await served.http.get(path)
    assert (await scrape(served)).sum("serving_requests_total") == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_bug_is_an_internal_error_also_in_a_stream(served: Served, stream: bool) -> None:
    served.engine.fails_after = 1 if stream else 0  # type: ignore[attr-defined]  # the fixture's recording engine
    await served.chat(stream=stream)
    seen = await scrape(served)
    assert seen.sum("serving_requests_total", outcome="internal_error") == seen.sum("serving_requests_total") == 1


async def test_an_engine_that_is_not_ready_is_seen(serve: Serve) -> None:
    async with serve(start=False) as served:
        await served.chat()
        seen = await scrape(served)
    assert seen.sum("serving_requests_total", outcome="not_ready") == 1
    assert seen.sum("serving_engine_ready", model="demo") == 0
    assert "serving_engine_ready" in seen.names


async def test_an_answer_that_takes_too_long_is_a_timeout(serve: Serve) -> None:
    async with serve(longest_answer_s=1) as served:
        slow = [{"role": "user", "content": "slowly"}]
        await asyncio.gather(served.chat(messages=slow), served.chat(messages=slow, stream=True))
        seen = await scrape(served)
    assert seen.sum("serving_requests_total", outcome="timeout") == seen.sum("serving_requests_total") == 2


async def test_a_client_that_leaves_its_stream_is_counted(served: Served) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "slowly"}], "stream": True}
    async with served.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        async for _ in reply.aiter_lines():
            break
        assert (await scrape(served)).sum("serving_requests_in_flight", model="demo") == 1
    await _left(served, "streaming")


async def test_a_client_that_leaves_before_the_first_token_is_counted_as_such(served: Served) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "silently"}]}
    with pytest.raises(httpx.ReadTimeout):
        await served.http.post("/v1/chat/completions", json=body, timeout=0.3)
    await _left(served, "before_first_token")


async def _left(served: Served, stage: str) -> None:
    async with asyncio.timeout(10):
        while not (seen := await scrape(served)).sum("serving_client_disconnects_total"):
            pass  # each look is a request, which gives the server its turn
    assert seen.sum("serving_client_disconnects_total", model="demo", stage=stage) == 1
    assert seen.sum("serving_requests_total", outcome="client_left") == seen.sum("serving_requests_total") == 1
    assert seen.sum("serving_requests_in_flight") == 0


async def test_openmetrics_for_those_who_ask(served: Served) -> None:
    await served.chat(stream=True)
    reply = await served.http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    parse: Any = openmetrics_parser.text_string_to_metric_families  # it has no types
    families = {family.name: family for family in parse(reply.text)}
    assert families["serving_requests"].samples[0].value == 1
    assert families["serving_scrape_replica_up"].samples[0].labels["deployment"] == "ingress"


async def test_every_series_says_whose_it_is(served: Served) -> None:
    await served.chat()
    text = (await served.http.get("/metrics")).text
    samples = [s for f in text_parser.text_string_to_metric_families(text) for s in f.samples]
    assert {sample.labels["deployment"] for sample in samples} == {"ingress"}
    assert len({sample.labels["replica"] for sample in samples}) == 1


async def test_no_content_and_no_request_id_becomes_a_label(served: Served) -> None:
    secret = "Quetzalcoatl"
    await served.chat(model=secret, messages=[{"role": "user", "content": secret}], user=secret)
    await served.chat(messages=[{"role": "user", "content": secret}])
    await served.http.get(f"/{secret}")
    assert secret not in (await served.http.get("/metrics")).text


async def test_teams_see_their_limits_keys_and_refusals_and_the_administrator_alone_sees_all(
    serve: Serve, tmp_path: Path
) -> None:
    team_key, admin_key = new_key(), new_key()
    stored = {"id": team_key.id, "hash": str(team_key.hashed(new_salt())), "expires": "2099-01-01T00:00:00Z"}
    file = tmp_path / "teams.yaml"
    file.write_text(json.dumps({"teams": {"search": {"requests_per_minute": 4, "keys": [stored]}}}))
    admin_hash = str(admin_key.hashed(new_salt()))
    async with serve(further={"teams_file": str(file), "admin_key_hash": admin_hash}) as served:
        served.http.headers["authorization"] = f"Bearer {team_key.text}"
        statuses = [(await served.chat()).status_code for _ in range(6)]
        assert (await served.http.get("/metrics")).status_code == 403
        served.http.headers["authorization"] = f"Bearer {admin_key.text}"
        text = (await served.http.get("/metrics")).text
    seen = Samples(text)
    assert statuses == [200] * 4 + [429] * 2
    assert seen.sum("serving_requests_total", team="search", outcome="ok") == 4
    assert seen.sum("serving_requests_total", team="search", outcome="rate_limited") == 2
    assert seen.sum("serving_rejections_total", team="search", reason="requests_per_minute") == 2
    assert seen.sum("serving_queue_time_seconds_count", team="search") == 4
    assert seen.sum("serving_limit_used_ratio", team="search", limit="requests_per_minute") == 1
    assert seen.sum("serving_key_expiry_timestamp_seconds", team="search", key=team_key.id) == 4070908800
    assert team_key.text.split("-")[-1] not in text
