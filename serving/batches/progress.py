"""Progress of a batch on storage: results by line, and the tokens of lines that are not done."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from serving.batches.records import Spent
from serving.batches.storage import Storage

_NOTHING = msgspec.Raw()
Outcome = Literal["completed", "failed", "expired", "cancelled"]


class LineResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Result of a line: its line of the output or error file, or the tokens of an answer that is not complete.

    `number` is the line's in the input, from 1. `output` is a JSON object, for the output file where the `outcome` is
    "completed", else for the error file.
    """

    number: int
    output: msgspec.Raw = _NOTHING
    outcome: Outcome = "failed"
    spent: Spent = Spent()
    tokens: Mapping[str, list[int]] | None = None


class Progress:
    """Progress of one batch, in files that are written once each: what is written stays, whatever happens next.

    A batch that is taken up again has the results of all its files. A line that two processes answered, because the
    first one lost its claim and went on, counts once.
    """

    def __init__(self, storage: Storage, folder: str, holder: str) -> None:
        self._storage = storage
        self._folder = folder
        self._holder = holder
        self._written = 0

    async def load(self) -> tuple[dict[int, LineResult], dict[int, Mapping[str, list[int]]]]:
        """Load results by line, without their output, and the tokens of lines that are not done."""
        # Names in order of writing: of a line's tokens the latest count.
        self._written = len(await self._storage.names(self._folder))
        done: dict[int, LineResult] = {}
        begun: dict[int, Mapping[str, list[int]]] = {}
        async for result in self._all():
            if result.tokens is not None:
                begun[result.number] = result.tokens
            else:
                done.setdefault(result.number, msgspec.structs.replace(result, output=_NOTHING))
        return done, {number: tokens for number, tokens in begun.items() if number not in done}

    async def write(self, results: Sequence[LineResult]) -> None:
        """Write results; raises StorageFailedError, and then none of them is written."""
        content = b"".join(msgspec.json.encode(result) + b"\n" for result in results)
        await self._storage.write(f"{self._folder}/{self._written:08}-{self._holder}.jsonl", content)
        self._written += 1

    async def outputs(self, *, completed: bool) -> AsyncGenerator[bytes]:
        """Lines of the output file, or of the error file, each with its end."""
        seen: set[int] = set()
        async for result in self._all():
            if result.tokens is not None or result.number in seen:
                continue
            seen.add(result.number)
            if (result.outcome == "completed") == completed:
                yield bytes(result.output) + b"\n"

    async def delete(self) -> None:
        """Delete all of it."""
        await self._storage.delete(self._folder)

    async def _all(self) -> AsyncGenerator[LineResult]:
        decoder = msgspec.json.Decoder(LineResult)
        for name in await self._storage.names(self._folder):
            content = await self._storage.read(f"{self._folder}/{name}") or b""
            for line in content.splitlines():
                yield decoder.decode(line)


def output_line(line_id: str, custom_id: str | None, status: int, request_id: str, body: Any) -> msgspec.Raw:
    """Line of the output or error file for a request that was answered; `body` is JSON."""
    response = {"status_code": status, "request_id": request_id, "body": body}
    return msgspec.Raw(
        msgspec.json.encode({"id": line_id, "custom_id": custom_id, "response": response, "error": None})
    )


def error_line(line_id: str, custom_id: str | None, code: str | None, message: str, number: int) -> msgspec.Raw:
    """Line of the error file for a request that was not asked; `line` is its place in the input, from 1."""
    error = {"code": code, "message": message, "line": number}
    return msgspec.Raw(msgspec.json.encode({"id": line_id, "custom_id": custom_id, "response": None, "error": error}))
