"""A request body becomes a JSON object, or a 400 that says where it is broken."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from serving.errors import MalformedBodyError
from serving.schemas.json_type import json_type


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body` (UTF-8, RFC 8259: no NaN, no lone surrogates, at most 200 levels deep).

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
