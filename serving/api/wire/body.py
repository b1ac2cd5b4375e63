"""Parsing of request bodies: from bytes to a JSON object to the request, in a thread where the body is long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic_core import from_json
from starlette.requests import Request

from serving.answering.request_context import context_of
from serving.api.wire.base_model import WireModel
from serving.api.wire.presets import Expand, unchanged
from serving.api.wire.reading import UNKNOWN_FIELDS_HEADER, Reading
from serving.background import in_thread_if_long
from serving.errors import InvalidValueError, MalformedBodyError
from serving.schemas.json_type import json_type
from serving.settings.http import HttpSettings

_T = TypeVar("_T", bound=WireModel)


def parse_object(body: bytes) -> dict[str, Any]:
    """JSON object in `body` (UTF-8, RFC 8259: no NaN, no lone surrogates, at most 200 levels deep).

    Of duplicate keys the last one wins. Raises MalformedBodyError for anything else.
    """
    if not body.strip():
        raise MalformedBodyError("The request has no body. Send a JSON object.")
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedBodyError(f"The request body is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise MalformedBodyError(f"The request body must be a JSON object, not {json_type(value)}.")
    return value


async def parsed(parse: Callable[[bytes], _T], body: bytes) -> _T:
    """Run `parse(body)`; raises its errors."""
    return await in_thread_if_long(len(body), lambda: parse(body))


async def read(
    request: Request,
    http: HttpSettings,
    parse: Callable[[bytes, Expand, Reading], _T],
    expand: Expand = unchanged,
) -> _T:
    """Read the body of `request`, which may name a preset, and let the reply name what of it was ignored.

    Raises the errors of `parse`, and InvalidValueError for the header x-unknown-fields.
    """
    body = await request.body()
    context = context_of(request.scope)
    word = context.headers.get(UNKNOWN_FIELDS_HEADER, http.unknown_fields)
    if word not in ("ignore", "refuse"):
        raise InvalidValueError(f"The header {UNKNOWN_FIELDS_HEADER} is 'ignore' or 'refuse'.")
    reading = Reading(strict="refuse" in (word, http.unknown_fields))
    asked = await in_thread_if_long(len(body), lambda: parse(body, expand, reading))
    if reading.ignores:
        context.ignored(reading.headers(type(asked)), reading.ignored_fields(type(asked)))
    return asked
