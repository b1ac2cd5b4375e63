"""Batches over restarts, over several processes, and beside other requests; on the whole application."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from serving.batches.files import Files
from serving.batches.records import Batches, BatchRecord
from serving.batches.storage import Storage
from serving.engine.scripted import ScriptLine
from serving.settings.batches import BatchSettings
from serving.settings.models import ModelSettings
from serving.settings.storage import StoreSettings
from serving.store.base import StoreLimits
from serving.store.memory import MemoryStore
from serving.tenancy.usage.ledger import day_of
from tests.http_server import NOW, Serve, Served
from tests.teams_files import NewKey, WriteTeams

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
WORDS = "word " * 400
SCRIPT = (
    ScriptLine(prompt_contains="slowly", completion=f"<|channel|>final<|message|>{WORDS}<|return|>", step_ms=5),
    ScriptLine(completion="<|channel|>final<|message|>Quick.<|return|>"),
)


def chat_line(custom_id: str, content: str, **fields: Any) -> str:
    body = {"model": "demo", "messages": [{"role": "user", "content": content}], **fields}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body})


@pytest.fixture
def further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("serving.batches.run.FLUSH_S", 0.05)
    return {"batches": BatchSettings(storage=str(tmp_path / "kept"), poll_s=0.05)}


@pytest.fixture
def claims() -> MemoryStore:
    """What processes share beside the storage."""
    settings = StoreSettings()
    return MemoryStore(StoreLimits(settings.ttl_s, settings.max_bytes, settings.max_item_bytes))


async def began(served: Served, *lines: str) -> str:
    content = "\n".join(lines).encode()
    file = await served.openai.files.create(file=("work.jsonl", content), purpose="batch")
    batch = await served.openai.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    return batch.id


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 60
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def output_of(served: Served, batch_id: str, status: str = "completed") -> dict[str, Any]:
    """Results of a batch once it is over, by custom_id; of both files."""

    async def over() -> bool:
        found = (await served.openai.batches.retrieve(batch_id)).status
        assert found != "failed"
        return found in ("completed", "expired", "cancelled")

    await eventually(over)
    batch = await served.openai.batches.retrieve(batch_id)
    assert batch.status == status
    lines: list[str] = []
    for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
        lines += (await served.openai.files.content(file_id)).text.splitlines()
    results = [json.loads(line) for line in lines]
    found = {result["custom_id"]: result for result in results}
    assert len(found) == len(results)
    return found


def text_of(result: dict[str, Any]) -> str:
    return str(result["response"]["body"]["choices"][0]["message"]["content"])


async def test_after_a_restart_done_lines_are_kept_and_others_go_on_from_their_tokens(
    serve: Serve, further: dict[str, Any]
) -> None:
    async with serve(*SCRIPT, further=further) as first:
        batch_id = await began(first, *(chat_line(f"q{n}", "Hello!") for n in range(5)), chat_line("slow", "slowly"))

        async def halfway() -> bool:
            batch = await first.openai.batches.retrieve(batch_id)
            assert batch.request_counts is not None
            return batch.request_counts.completed == 5 and first.engine.deltas_taken > 50

        await eventually(halfway)
    async with serve(*SCRIPT, further=further) as second:
        results = await output_of(second, batch_id)

        assert set(results) == {"q0", "q1", "q2", "q3", "q4", "slow"}
        assert text_of(results["slow"]).strip() == WORDS.strip()
        assert [len(request.completion_token_ids) > 30 for request in second.engine.requests] == [True]
        usage = results["slow"]["response"]["body"]["usage"]
        assert usage["completion_tokens"] >= 400  # those of before the restart too


async def test_one_process_works_on_a_batch_at_a_time_and_another_takes_it_up(
    serve: Serve, further: dict[str, Any], claims: MemoryStore
) -> None:
    async with serve(*SCRIPT, further=further, store=claims) as second:
        async with serve(*SCRIPT, further=further, store=claims) as first:
            batch_id = await began(first, *(chat_line(f"{n}", "slowly") for n in range(4)))

            async def at_work() -> bool:
                return first.engine.deltas_taken + second.engine.deltas_taken > 100

            await eventually(at_work)
            working = [served for served in (first, second) if served.engine.requests]
            assert len(working) == 1
            batch = await second.openai.batches.retrieve(batch_id)  # each of them can tell
            assert batch.status == "in_progress"
        results = await output_of(second, batch_id)

    assert {text_of(result).strip() for result in results.values()} == {WORDS.strip()}
    assert len(results) == 4


async def test_a_batch_of_a_lost_process_is_taken_up_when_its_claim_is_over(
    serve: Serve, further: dict[str, Any], claims: MemoryStore
) -> None:
    async with serve(*SCRIPT, further=further, store=claims) as served:
        file = await served.openai.files.create(file=("a.jsonl", chat_line("a", "Hello!").encode()), purpose="batch")
        storage = Storage(further["batches"].storage, {})
        record = kept_record("batch_1057", file.id)
        await claims.claim("batch batch_1057", "a lost process", 0.5)
        await Batches(storage, lambda: NOW, 1000).add(record)
        await asyncio.sleep(0.2)
        assert (await served.openai.batches.retrieve("batch_1057")).status == "validating"

        assert set(await output_of(served, "batch_1057")) == {"a"}


def kept_record(batch_id: str, file_id: str, **changes: Any) -> BatchRecord:
    record = BatchRecord(
        id=batch_id,
        team="default",
        key_id="",
        endpoint=CHAT,
        input_file_id=file_id,
        completion_window="24h",
        created_at=int(NOW),
        expires_at=int(NOW) + 86400,
    )
    return msgspec.structs.replace(record, **changes)


async def test_a_batch_whose_window_is_over_has_an_error_for_each_line_that_was_not_answered(
    serve: Serve, further: dict[str, Any]
) -> None:
    async with serve(*SCRIPT, further=further) as served:
        content = "\n".join(chat_line(str(number), "Hello!") for number in range(3)).encode()
        file = await served.openai.files.create(file=("a.jsonl", content), purpose="batch")
        record = kept_record("batch_1a7e", file.id, expires_at=int(NOW) - 1)
        await Batches(Storage(further["batches"].storage, {}), lambda: NOW, 1000).add(record)

        results = await output_of(served, "batch_1a7e", "expired")

        assert {result["error"]["code"] for result in results.values()} == {"batch_expired"}
        assert len(results) == 3
        assert not served.engine.requests


async def test_lines_of_a_team_that_is_gone_say_so(serve: Serve, further: dict[str, Any]) -> None:
    async with serve(*SCRIPT, further=further) as served:
        storage = Storage(further["batches"].storage, {})

        async def content() -> Any:
            yield chat_line("a", "Hello!").encode()

        files = Files(storage, further["batches"], lambda: NOW, lambda: "1")
        file = await files.add("gone", content(), filename="a.jsonl", purpose="batch")
        batches = Batches(storage, lambda: NOW, 1000)
        await batches.add(kept_record("batch_90e", file.id, team="gone"))

        async def over() -> bool:
            return (await batches.get("gone", "batch_90e")).finished

        await eventually(over)
        record = await batches.get("gone", "batch_90e")
        assert (record.status, record.failed) == ("completed", 1)
        errors = b"".join([chunk async for chunk in files.content("gone", record.error_file_id or "")])
        assert json.loads(errors)["error"]["code"] == "team_not_found"
        assert not served.engine.requests


async def test_a_line_gives_its_slot_to_a_request_and_goes_on_from_its_tokens(
    serve: Serve, further: dict[str, Any]
) -> None:
    # Two slots: one for lines, one left idle.
    models = {"demo": ModelSettings(max_num_seqs=1)}
    async with serve(*SCRIPT, further=further, models=models) as served:
        batch_id = await began(served, chat_line("slow", "slowly"))

        async def at_work() -> bool:
            return served.engine.deltas_taken > 50

        await eventually(at_work)
        replies = await asyncio.gather(
            *(served.chat(messages=[{"role": "user", "content": f"slowly {n}"}], max_tokens=40) for n in range(2))
        )

        assert [reply.status_code for reply in replies] == [200, 200]
        batch = await served.openai.batches.retrieve(batch_id)
        assert batch.status == "in_progress"
        assert text_of((await output_of(served, batch_id))["slow"]).strip() == WORDS.strip()
        continued = [request for request in served.engine.requests if request.completion_token_ids]
        assert len(continued) >= 1
        assert continued[0].request_id.endswith("-part1")
        assert served.tenancy.admission("demo").in_use == 0


async def test_a_line_of_several_choices_gives_all_its_slots_back(serve: Serve, further: dict[str, Any]) -> None:
    models = {"demo": ModelSettings(max_num_seqs=5)}  # six slots: three for lines
    async with serve(*SCRIPT, further=further, models=models) as served:
        batch_id = await began(served, chat_line("slow", "slowly", n=3))

        async def at_work() -> bool:
            return served.engine.deltas_taken > 100

        await eventually(at_work)
        many = [{"role": "user", "content": "slowly"}]
        replies = await asyncio.gather(*(served.chat(messages=many, max_tokens=40) for _ in range(6)))

        assert {reply.status_code for reply in replies} == {200}
        choices = (await output_of(served, batch_id))["slow"]["response"]["body"]["choices"]
        assert [choice["message"]["content"].strip() for choice in choices] == [WORDS.strip()] * 3
        assert served.tenancy.admission("demo").in_use == 0


async def test_lines_have_the_label_batch_in_metrics_and_are_counted(serve: Serve, further: dict[str, Any]) -> None:
    async with serve(*SCRIPT, further=further) as served:
        await output_of(served, await began(served, chat_line("a", "Hello!"), chat_line("b", "Hello!", temperature=9)))

        metrics = (await served.http.get("/metrics")).text

        assert "serving_batch_lines_total{" in metrics
        lines = [line for line in metrics.splitlines() if line.startswith("serving_batch_lines_total{")]
        assert {(line.split('outcome="')[1].split('"')[0], line.rsplit(" ", 1)[1]) for line in lines} == {
            ("completed", "1.0"),
            ("failed", "1.0"),
        }
        assert re.search(r'serving_requests_total\{.*api="batch"', metrics)
        assert "serving_batches_finished_total{" in metrics


async def test_lines_count_for_their_team_and_take_none_of_its_concurrent_requests(
    serve: Serve, further: dict[str, Any], write_teams: WriteTeams, stored_key: NewKey
) -> None:
    key, stored = stored_key()
    teams = write_teams({"one": {"keys": [stored], "concurrent_requests": 1, "tokens_per_day": 10**6}})
    async with serve(*SCRIPT, further={**further, "teams_file": str(teams)}) as served:
        client = served.openai.with_options(api_key=key.text)
        content = "\n".join(chat_line(str(number), "slowly") for number in range(3)).encode()
        file = await client.files.create(file=("a.jsonl", content), purpose="batch")
        batch = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")

        async def at_work() -> bool:
            return served.engine.deltas_taken > 50

        await eventually(at_work)
        body = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}]}
        headers = {"authorization": f"Bearer {key.text}"}
        reply = await served.http.post(CHAT, json=body, headers=headers)
        assert reply.status_code == 200

        async def over() -> bool:
            return (await client.batches.retrieve(batch.id)).status == "completed"

        await eventually(over)
        used = (await client.batches.retrieve(batch.id)).usage
        assert used is not None
        await served.tenancy.ledger.flush()
        today = day_of(NOW)
        rows = [counts for (_, team, _, _), counts in await served.tenancy.ledger.store.read(today, today)]
        assert sum(row.completion_tokens for row in rows) >= used.output_tokens >= 3 * 400


async def test_lines_that_the_budget_refuses_wait_and_others_do_not_suffer(
    serve: Serve, further: dict[str, Any], write_teams: WriteTeams, stored_key: NewKey
) -> None:
    (poor, poors), (rich, richs) = stored_key(), stored_key()
    teams = write_teams({"poor": {"keys": [poors], "tokens_per_day": 50}, "rich": {"keys": [richs]}})
    async with serve(*SCRIPT, further={**further, "teams_file": str(teams)}) as served:
        ids = {}
        for name, key in (("poor", poor), ("rich", rich)):
            client = served.openai.with_options(api_key=key.text)
            content = "\n".join(chat_line(str(number), "Hello!") for number in range(20)).encode()
            file = await client.files.create(file=("a.jsonl", content), purpose="batch")
            batch = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
            ids[name] = client, batch.id

        async def over() -> bool:
            client, batch_id = ids["rich"]
            return (await client.batches.retrieve(batch_id)).status == "completed"

        await eventually(over)
        client, batch_id = ids["poor"]
        batch = await client.batches.retrieve(batch_id)
        assert batch.status in ("validating", "in_progress")  # until the next day
        assert batch.request_counts is not None
        assert batch.request_counts.failed == 0
