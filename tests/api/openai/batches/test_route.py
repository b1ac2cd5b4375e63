"""Batches through OpenAI's client, on the whole application."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from openai import AsyncOpenAI, BadRequestError, ConflictError, NotFoundError
from openai.types import Batch

from serving.engine.scripted import ScriptLine
from serving.settings.batches import BatchSettings
from tests.http_server import ANSWER, HELLO, Serve, Served
from tests.teams_files import NewKey, WriteTeams

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"


def line(custom_id: str, *, url: str = CHAT, **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def chat_line(custom_id: str, content: str = "Hello!", **fields: Any) -> dict[str, Any]:
    return line(custom_id, model="demo", messages=[{"role": "user", "content": content}], **fields)


def jsonl(lines: Iterable[Mapping[str, Any] | str]) -> bytes:
    return "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines).encode()


async def made(client: AsyncOpenAI, content: bytes, endpoint: Any = CHAT, **fields: Any) -> Batch:
    file = await client.files.create(file=("work.jsonl", content), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **fields)


async def finished(client: AsyncOpenAI, batch: Batch, *, within_s: float = 60, look_every_s: float = 0.02) -> Batch:
    deadline = time.monotonic() + within_s
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < deadline, batch
        await asyncio.sleep(look_every_s)
        batch = await client.batches.retrieve(batch.id)
    return batch


async def results(client: AsyncOpenAI, file_id: str | None) -> dict[str | None, Any]:
    assert file_id is not None
    content = await client.files.content(file_id)
    return {each["custom_id"]: each for each in map(json.loads, content.text.splitlines())}


@pytest.fixture
async def batching(serve: Serve, tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(further={"batches": BatchSettings(storage=str(tmp_path / "kept"))}) as served:
        yield served


async def test_a_batch_of_chat_requests_is_answered(batching: Served) -> None:
    client = batching.openai
    batch = await made(client, jsonl(chat_line(f"line-{n}") for n in range(20)), metadata={"for": "a test"})
    assert batch.status == "validating"

    batch = await finished(client, batch)

    assert (batch.status, batch.errors, batch.error_file_id) == ("completed", None, None)
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (20, 20, 0)
    assert batch.metadata == {"for": "a test"}
    assert batch.usage is not None
    assert batch.usage.output_tokens > 0
    output = await results(client, batch.output_file_id)
    assert set(output) == {f"line-{n}" for n in range(20)}
    answer = output["line-3"]
    assert answer["error"] is None
    assert answer["response"]["status_code"] == 200
    assert answer["response"]["request_id"] == answer["id"]
    assert answer["response"]["body"]["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize(
    ("endpoint", "body", "text_of"),
    [
        ("/v1/responses", {"input": "Hello!"}, lambda body: body["output"][-1]["content"][0]["text"]),
        ("/v1/completions", {"prompt": "Hello!", "max_tokens": 50}, lambda body: body["choices"][0]["text"]),
    ],
)
async def test_responses_and_completions_are_answered_too(
    batching: Served, endpoint: str, body: dict[str, Any], text_of: Any
) -> None:
    client = batching.openai
    batch = await made(client, jsonl([line("only", url=endpoint, model="demo", **body)]), endpoint)

    batch = await finished(client, batch)

    answer = (await results(client, batch.output_file_id))["only"]["response"]["body"]
    assert ANSWER in text_of(answer)


async def test_of_10000_lines_the_broken_ones_have_an_error_each_and_all_others_an_answer(
    serve: Serve, tmp_path: Path
) -> None:
    broken: dict[int, Mapping[str, Any] | str] = {
        10: "{not json",
        500: "[]",
        1000: chat_line("line-7"),  # a custom_id that there was
        2000: {"custom_id": "no-body", "method": "POST", "url": CHAT},
        3000: line("elsewhere", url="/v1/responses", model="demo", input="x"),
        4000: {**chat_line("get"), "method": "GET"},
        5000: chat_line("streamed", stream=True),
        6000: {**chat_line("odd"), "priority": 1},
        7000: chat_line("no-number", max_tokens="many"),
        8000: line("no-model", model="nobody", messages=[HELLO]),
        9000: chat_line("too-hot", temperature=9),
    }
    lines = [broken.get(number) or chat_line(f"line-{number}") for number in range(10_000)]
    further = {"batches": BatchSettings(storage=str(tmp_path / "kept"))}
    async with serve(ScriptLine(completion="<|channel|>final<|message|>x<|return|>"), further=further) as served:
        client = served.openai
        batch = await finished(client, await made(client, jsonl(lines)), within_s=280, look_every_s=0.25)

        assert batch.status == "completed"
        assert batch.request_counts is not None
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (10_000, 10_000 - len(broken), len(broken))
        assert len(await results(client, batch.output_file_id)) == 10_000 - len(broken)
        errors = (await client.files.content(batch.error_file_id or "")).text.splitlines()
        assert len(errors) == len(broken)
        by_line = {each["error"]["line"]: each for each in map(json.loads, errors) if each["error"]}
        assert {number: each["error"]["code"] for number, each in by_line.items()} == {
            11: "invalid_json_line",
            501: "invalid_json_line",
            1001: "duplicate_custom_id",
            2001: "invalid_value",
            3001: "mismatched_endpoint",
            4001: "invalid_method",
            5001: "unsupported_parameter",
            6001: "unknown_parameter",
        }
        asked = {each["custom_id"]: each["response"] for each in map(json.loads, errors) if each["response"]}
        assert {name: reply["status_code"] for name, reply in asked.items()} == {
            "no-number": 400,
            "no-model": 404,
            "too-hot": 400,
        }
        assert asked["too-hot"]["body"]["error"]["param"] == "temperature"
        # OpenAI's list of mistakes has the lines too.
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert [each.line for each in batch.errors.data][:3] == [11, 501, 1001]


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "empty_file"), (b"\n\n", "empty_file"), (b"nonsense\n{}", "no_valid_lines")]
)
async def test_a_batch_without_a_line_that_can_be_asked_fails(batching: Served, content: bytes, code: str) -> None:
    batch = await finished(batching.openai, await made(batching.openai, content or b"\n"))

    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert batch.errors.data[0].code == code


async def test_a_cancelled_batch_has_what_was_answered_and_an_error_for_each_other_line(batching: Served) -> None:
    client = batching.openai
    content = jsonl([chat_line("quick"), *(chat_line(f"{n}", "silently") for n in range(200))])
    batch = await made(client, content)
    while (await client.batches.retrieve(batch.id)).request_counts.completed < 1:  # type: ignore[union-attr]  # is there
        pass

    cancelling = await client.batches.cancel(batch.id)
    batch = await finished(client, batch)

    assert cancelling.status == "cancelling"
    assert batch.status == "cancelled"
    assert list(await results(client, batch.output_file_id)) == ["quick"]
    errors = await results(client, batch.error_file_id)
    assert len(errors) == 200
    assert errors["7"]["error"]["code"] == "batch_cancelled"
    with pytest.raises(ConflictError, match="is cancelled already"):
        await client.batches.cancel(batch.id)


async def test_teams_see_their_own_batches_and_files_alone(
    serve: Serve, tmp_path: Path, write_teams: WriteTeams, stored_key: NewKey
) -> None:
    stored = {name: stored_key() for name in ("one", "two")}
    teams = write_teams({name: {"keys": [each]} for name, (_, each) in stored.items()})
    further = {"batches": BatchSettings(storage=str(tmp_path / "kept")), "teams_file": str(teams)}
    async with serve(further=further) as served:
        one, two = (served.openai.with_options(api_key=stored[name][0].text) for name in ("one", "two"))
        batch = await finished(one, await made(one, jsonl([chat_line("mine")])))

        assert [each.id for each in (await one.batches.list()).data] == [batch.id]
        assert not (await two.batches.list()).data
        assert not (await two.files.list()).data
        for asking in (
            two.batches.retrieve(batch.id),
            two.batches.cancel(batch.id),
            two.files.retrieve(batch.input_file_id),
            two.files.content(batch.output_file_id or ""),
            two.files.delete(batch.input_file_id),
        ):
            with pytest.raises(NotFoundError):
                await asking
        with pytest.raises(BadRequestError, match="does not exist"):
            await two.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")


async def test_lists_come_in_pages(batching: Served) -> None:
    client = batching.openai
    ids = [(await made(client, jsonl([chat_line("a")]))).id for _ in range(5)]

    first = await client.batches.list(limit=2)
    everything = [batch.id async for batch in client.batches.list(limit=2)]

    assert len(first.data) == 2
    assert first.has_more
    assert sorted(everything) == sorted(ids)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "999d"}, "completion_window"),
        ({"input_file_id": "file-nothing"}, "input_file_id"),
        ({"input_file_id": "../../etc/passwd"}, "input_file_id"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"colour": "blue"}, "colour"),
    ],
)
async def test_a_wrong_request_is_told_its_field(batching: Served, fields: dict[str, Any], param: str) -> None:
    file = await batching.openai.files.create(file=("work.jsonl", jsonl([chat_line("a")])), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", **fields}

    reply = await batching.http.post("/v1/batches", json=body)

    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


async def test_without_storage_the_routes_say_that_batches_are_off(served: Served) -> None:
    with pytest.raises(NotFoundError, match=r"batches\.storage") as told:
        await served.openai.batches.list()
    assert told.value.code == "batches_off"
    with pytest.raises(NotFoundError):
        await served.openai.files.create(file=("a.jsonl", b"{}"), purpose="batch")
