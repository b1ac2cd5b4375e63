"""Errors in OpenAI's form."""

from __future__ import annotations

from typing_extensions import TypedDict


class ErrorDetail(TypedDict):
    """`param` names the request's field that is at fault, `code` the kind of mistake."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(TypedDict):
    """Every reply that is not a success."""

    error: ErrorDetail
