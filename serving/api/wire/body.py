"""Parsing of request bodies: from bytes to a JSON object to the request, in a thread where the body is long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic_core import from_json

from serving.api.wire.presets import Expand
from serving.background import in_thread_if_long
from serving.errors import MalformedBodyError
from serving.schemas.json_type import json_type

_T = TypeVar("_T")


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


async def expanded(parse: Callable[[bytes, Expand], _T], body: bytes, expand: Expand) -> _T:
    """Run `parse(body, expand)`, for a request that may name a preset; raises its errors."""
    return await in_thread_if_long(len(body), lambda: parse(body, expand))
