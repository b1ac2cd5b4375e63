"""Errors in Anthropic's form: {"type": "error", "error": {"type", "message", "details"}, "request_id"}."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from serving.errors import ApiError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

# Chat's names of fields, which errors from deeper down carry, and what they are called here.
_FIELDS = {"response_format": "output_config.format", "reasoning_effort": "output_config.effort"}


class ErrorCode(TypedDict):
    """Kind of the mistake, for programs."""

    error_code: str


class MessagesErrorDetail(TypedDict):
    """`type` is the kind of mistake; the message names the field that is at fault."""

    type: str
    message: str
    details: NotRequired[ErrorCode]


class MessagesErrorResponse(TypedDict):
    """Every reply of these routes that is not a success."""

    type: Literal["error"]
    error: MessagesErrorDetail
    request_id: str


def messages_error(error: ApiError, request_id: str) -> MessagesErrorResponse:
    """The error JSON for `error`."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    detail = MessagesErrorDetail(type=kind, message=_message(error))
    if error.code is not None:
        detail["details"] = {"error_code": error.code}
    return MessagesErrorResponse(type="error", error=detail, request_id=request_id)


def _message(error: ApiError) -> str:
    """Message that names the field at fault: Anthropic's form has no other place for it."""
    if error.param is None:
        return error.message
    place = _place(error.param)
    return error.message if place in error.message else f"{place}: {error.message}"


def _place(param: str) -> str:
    first, _, rest = param.partition(".")
    if not first.startswith("tools["):
        return _FIELDS.get(first, param)
    rest = rest.removeprefix("function").removeprefix(".").replace("parameters", "input_schema", 1)
    return f"{first}.{rest}" if rest else first
