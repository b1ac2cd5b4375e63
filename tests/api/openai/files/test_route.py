from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIStatusError, BadRequestError, ConflictError, NotFoundError

from serving.settings.batches import BatchSettings
from tests.http_server import NOW, Serve, Served


@pytest.fixture
async def keeping(serve: Serve, tmp_path: Path) -> AsyncIterator[Served]:
    settings = BatchSettings(storage=str(tmp_path / "kept"), max_file_bytes=100_000, max_team_bytes=150_000)
    async with serve(further={"batches": settings}, max_body_bytes=10_000) as served:
        yield served


async def test_a_file_is_kept_found_read_and_deleted(keeping: Served) -> None:
    files = keeping.openai.files
    content = b'{"custom_id": "a"}\n' * 1000  # larger than other bodies may be

    file = await files.create(file=("../../work.jsonl", content), purpose="batch")

    assert (file.object, file.purpose, file.bytes, file.filename) == ("file", "batch", 19_000, "../../work.jsonl")
    assert file.expires_at == int(NOW) + 30 * 86400
    assert await files.retrieve(file.id) == file
    assert (await files.list()).data == [file]
    assert (await files.list(purpose="batch_output")).data == []
    assert (await files.content(file.id)).content == content
    assert (await files.delete(file.id)).deleted
    with pytest.raises(NotFoundError, match="No such File object"):
        await files.retrieve(file.id)


async def test_a_file_may_expire_sooner(keeping: Served) -> None:
    file = await keeping.openai.files.create(
        file=("a.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == int(NOW) + 3600


async def test_a_file_above_the_limit_is_refused_and_not_kept(keeping: Served) -> None:
    with pytest.raises(APIStatusError, match="100000 bytes") as told:
        await keeping.openai.files.create(file=("a.jsonl", b"x" * 100_001), purpose="batch")
    assert told.value.status_code == 413
    assert not (await keeping.openai.files.list()).data


async def test_a_team_without_room_is_told(keeping: Served) -> None:
    await keeping.openai.files.create(file=("a.jsonl", b"x" * 90_000), purpose="batch")
    with pytest.raises(BadRequestError, match="Delete some first") as told:
        await keeping.openai.files.create(file=("b.jsonl", b"x" * 90_000), purpose="batch")
    assert told.value.code == "storage_quota_exceeded"
    assert len((await keeping.openai.files.list()).data) == 1


async def test_a_file_that_a_batch_reads_is_not_deleted(keeping: Served) -> None:
    line = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "demo", "messages": '
    line += b'[{"role": "user", "content": "silently"}]}}'
    file = await keeping.openai.files.create(file=("a.jsonl", line), purpose="batch")
    batch = await keeping.openai.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    with pytest.raises(ConflictError, match=batch.id):
        await keeping.openai.files.delete(file.id)


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"data": {"purpose": "batch"}}, "file"),
        ({"files": {"file": b"{}"}}, "purpose"),
        ({"data": {"purpose": "fine-tune"}, "files": {"file": b"{}"}}, "purpose"),
        ({"data": {"purpose": "batch", "colour": "blue"}, "files": {"file": b"{}"}}, "colour"),
        ({"data": {"purpose": "batch", "file": "text"}, "files": {"x": b"{}"}}, "x"),
        (
            {"data": {"purpose": "batch", "expires_after[anchor]": "now"}, "files": {"file": b"{}"}},
            "expires_after.anchor",
        ),
        (
            {
                "data": {
                    "purpose": "batch",
                    "expires_after[anchor]": "created_at",
                    "expires_after[seconds]": "9" * 5000,
                },
                "files": {"file": b"{}"},
            },
            "expires_after.seconds",
        ),
    ],
)
async def test_a_wrong_form_is_told_its_field(keeping: Served, form: dict[str, Any], param: str) -> None:
    if "files" not in form:
        form = {**form, "files": {}, "headers": {"content-type": "multipart/form-data; boundary=x"}}
        form = {"content": b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n', **form}
        form.pop("data"), form.pop("files")
    reply = await keeping.http.post("/v1/files", **form)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x"),
        (b"{}", "application/json"),
        (b"\xff" * 100, "multipart/form-data; boundary=x"),
        (b"--x\r\n" + b"A: b\r\n" * 1000, "multipart/form-data; boundary=x"),
    ],
)
async def test_what_is_no_form_is_told(keeping: Served, content: bytes, kind: str) -> None:
    reply = await keeping.http.post("/v1/files", content=content, headers={"content-type": kind})
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("file_id", ["file-", "file-%2e%2e", "file-x/../y", "batch_1", "file-" + "a" * 500])
async def test_an_id_that_is_none_is_not_found(keeping: Served, file_id: str) -> None:
    reply: httpx.Response = await keeping.http.get(f"/v1/files/{file_id}")
    assert reply.status_code == 404
