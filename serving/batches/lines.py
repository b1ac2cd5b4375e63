"""Lines of a batch's input: JSON objects with custom_id, method, url and body, as OpenAI has them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from serving.batches.records import Endpoint
from serving.errors import InvalidRequestError, InvalidValueError, MalformedBodyError, UnsupportedParameterError

_LONGEST_ID = 512
_LINES_AT_ONCE = 16
_KEYS = frozenset(("custom_id", "method", "url", "body"))


@dataclass(frozen=True, slots=True)
class InputLine:
    """A line as it stands in the file; `number` counts from 1. `text` is None for a line that is too long to read."""

    number: int
    text: bytes | None


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A line that can be asked: the request's JSON, and the model that it names."""

    number: int
    custom_id: str
    body: bytes
    model: str | None


class LineInvalid(Exception):
    """A line is wrong; `custom_id` is there where it could be read."""

    def __init__(self, error: InvalidRequestError, custom_id: str | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.custom_id = custom_id


async def lines_of(chunks: AsyncGenerator[bytes, None], longest: int) -> AsyncGenerator[InputLine]:
    """Lines of a file that comes in chunks, without blank ones. None of more than `longest` bytes is held."""
    number, rest, too_long = 0, b"", False
    async with aclosing(chunks):
        async for chunk in chunks:
            *whole, last = chunk.split(b"\n")
            for part in whole:
                number += 1
                text = rest + part
                if too_long or len(text) > longest:
                    yield InputLine(number, None)
                elif text.strip():
                    yield InputLine(number, text)
                rest, too_long = b"", False
                if not number % _LINES_AT_ONCE:
                    await asyncio.sleep(0)  # requests have their turns between lines
            if not too_long:
                rest += last
            if len(rest) > longest:
                rest, too_long = b"", True
    if too_long or rest.strip():
        yield InputLine(number + 1, None if too_long else rest)


class LineReader:
    """Reader of a batch's lines; knows the custom_ids that came before."""

    def __init__(self, endpoint: Endpoint, longest: int) -> None:
        self._endpoint = endpoint
        self._longest = longest
        self._seen: dict[bytes, int] = {}

    def read(self, line: InputLine) -> BatchLine:
        """Read a line; raises LineInvalid."""
        if line.text is None:
            raise LineInvalid(
                InvalidRequestError(f"Line {line.number} is longer than {self._longest} bytes.", code="line_too_long"),
                None,
            )
        custom_id: str | None = None
        try:
            value = _object(line)
            custom_id = _custom_id(value, line.number)
            self._check_new(custom_id, line.number)
            body = self._body(value, line.number)
        except InvalidRequestError as error:
            raise LineInvalid(error, custom_id) from error
        model = body.get("model")
        return BatchLine(line.number, custom_id, to_json(body), model if isinstance(model, str) else None)

    def _check_new(self, custom_id: str, number: int) -> None:
        digest = hashlib.blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        first = self._seen.setdefault(digest, number)
        if first != number:
            raise InvalidValueError(
                f"Line {number} has the custom_id of line {first}; each is for one line.",
                code="duplicate_custom_id",
                param="custom_id",
            )

    def _body(self, value: dict[str, Any], number: int) -> dict[str, Any]:
        if unknown := next((key for key in value if key not in _KEYS), None):
            raise UnsupportedParameterError(
                f"Line {number} has the unknown key '{unknown[:64]}'; a line has custom_id, method, url and body.",
                code="unknown_parameter",
                param=unknown[:64],
            )
        if value.get("method") != "POST":
            raise InvalidValueError(
                f"Line {number} should have the method 'POST'.", code="invalid_method", param="method"
            )
        if value.get("url") != self._endpoint:
            raise InvalidValueError(
                f"Line {number} should have the url '{self._endpoint}', which is the batch's endpoint.",
                code="mismatched_endpoint",
                param="url",
            )
        body = value.get("body")
        if not isinstance(body, dict):
            raise InvalidValueError(f"Line {number} should have a JSON object as its body.", param="body")
        for name in ("stream", "background"):
            if body.get(name):
                raise UnsupportedParameterError(
                    f"Line {number} asks for '{name}', which a batch does not do: its results come in a file.",
                    param=f"body.{name}",
                )
        if self._endpoint == "/v1/responses":
            # Thousands of lines would push the responses of other requests out of the store.
            body.setdefault("store", False)
        return body


def _object(line: InputLine) -> dict[str, Any]:
    assert line.text is not None
    try:
        value = from_json(line.text, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedBodyError(f"Line {line.number} is not valid JSON: {error}.", code="invalid_json_line") from error
    if not isinstance(value, dict):
        raise MalformedBodyError(f"Line {line.number} is no JSON object.", code="invalid_json_line")
    return value


def _custom_id(value: dict[str, Any], number: int) -> str:
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id or len(custom_id) > _LONGEST_ID:
        raise InvalidValueError(
            f"Line {number} should have a custom_id, a text of 1 to {_LONGEST_ID} characters.",
            code="missing_custom_id" if custom_id is None else None,
            param="custom_id",
        )
    return custom_id
