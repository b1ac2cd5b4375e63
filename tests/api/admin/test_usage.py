from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from serving.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code in (None, 0)
    return capsys.readouterr().out


async def test_usage_is_what_requests_were_told_they_cost(serve: Any) -> None:
    async with serve() as served:
        replies = [await served.chat(reasoning_effort=effort) for effort in ("low", "low", "high")]
        summary = (await served.http.get("/admin/usage?by=team,model,effort")).json()["data"]

    costs = [reply.json()["usage"] for reply in replies]
    low = next(row for row in summary if row["effort"] == "low")
    assert [(row["team"], row["model"], row["effort"]) for row in summary] == [
        ("default", "demo", "high"),
        ("default", "demo", "low"),
    ]
    assert (low["requests"], low["failed"]) == (2, 0)
    assert low["prompt_tokens"] == costs[0]["prompt_tokens"] * 2
    assert low["completion_tokens"] == costs[0]["completion_tokens"] * 2
    assert low["reasoning_tokens"] == costs[0]["completion_tokens_details"]["reasoning_tokens"] * 2
    assert low["final_tokens"] > 0


async def test_what_a_client_that_left_had_spent_counts(serve: Any, until: Any) -> None:
    async with serve() as served:
        body = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "slowly"}]}
        async with served.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            async for line in reply.aiter_lines():
                if "word" in line:
                    break
        await until(lambda: served.tenancy.admission("demo").in_use == 0)
        (row,) = (await served.http.get("/admin/usage?by=team")).json()["data"]

    assert (row["requests"], row["failed"]) == (1, 1)
    assert row["prompt_tokens"] > 10
    assert row["completion_tokens"] > 0


@pytest.mark.parametrize(
    ("query", "field"), [("from=soon", "from"), ("to=2025-13-01", "to"), ("by=user", "by"), ("from=2020-01-01", "from")]
)
async def test_a_wrong_query_is_told(serve: Any, query: str, field: str) -> None:
    async with serve() as served:
        reply = await served.http.get(f"/admin/usage?{query}")

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, field)


async def test_what_the_server_has_kept_is_there_after_its_stop(serve: Any, tmp_path: Path) -> None:
    settings = {"usage": {"backend": "sqlite", "database": str(tmp_path / "usage.sqlite")}}
    async with serve(further=settings) as served:
        await served.chat()
    async with serve(further=settings) as served:
        await served.chat()
        (row,) = (await served.http.get("/admin/usage")).json()["data"]

    assert row["requests"] == 2


async def test_the_command_line_reads_what_the_server_has_kept(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = str(tmp_path / "usage.sqlite")
    async with serve(further={"usage": {"backend": "sqlite", "database": database}}) as served:
        for _ in range(3):
            await served.chat()
    flags = ["usage", "--config", _settings(tmp_path, database), "--from", "2025-10-01", "--to", "2025-10-31"]

    def printed(*further: str) -> Any:
        return asyncio.to_thread(run, capsys, *flags, *further)  # it makes an event loop of its own

    (row,) = json.loads(await printed("--format", "json"))
    (same,) = csv.DictReader(io.StringIO(await printed("--format", "csv")))
    table = await printed()
    nothing = await printed("--team", "sales")

    assert (row["day"], row["team"], row["requests"]) == ("2025-10-09", "default", 3)
    assert {name: str(value) for name, value in row.items()} == same
    assert f"{row['prompt_tokens']:,}" in table
    assert "commentary" in table
    assert "nothing was used" in nothing


def _settings(folder: Path, database: str) -> str:
    path = folder / "serving.yaml"
    path.write_text(json.dumps({"usage": {"backend": "sqlite", "database": database}}))
    return str(path)


async def test_the_audit_log_has_each_request_and_no_content(serve: Any, tmp_path: Path) -> None:
    async with serve(further={"audit": {"file": str(tmp_path / "audit")}}) as served:
        await served.chat(messages=[{"role": "user", "content": "the secret plan"}])
        await served.chat(temperature=9)
        path = served.tenancy.audit.path

    lines = [json.loads(line) for line in _read(path).splitlines()]
    assert [line["status"] for line in lines] == [200, 400]
    assert lines[0]["address"] == "127.0.0.1"
    assert lines[0]["completion_tokens"] > 0
    assert "secret" not in _read(path)
    assert "Hello there" not in _read(path)


def _read(path: Path) -> str:
    return path.read_text()
