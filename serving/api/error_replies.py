"""Error replies in the form of the client's API: OpenAI's, or Anthropic's below /v1/messages."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import Scope

from serving.answering.request_context import context_of
from serving.api.wire.anthropic_errors import messages_error
from serving.errors import ApiError, InternalError

ANTHROPIC_PATH = "/v1/messages"


def is_anthropic(path: str) -> bool:
    """Whether clients of a path speak Anthropic's API."""
    return path == ANTHROPIC_PATH or path.startswith(f"{ANTHROPIC_PATH}/")


def error_response(error: ApiError, scope: Scope) -> JSONResponse:
    """Reply that tells `error` to the client of the request in `scope`."""
    if not is_anthropic(scope["path"]):
        return JSONResponse(error.body(), status_code=error.status, headers=error.headers())
    request_id = context_of(scope).request_id
    headers = {**error.headers(), "request-id": request_id}
    return JSONResponse(messages_error(error, request_id), status_code=error.status, headers=headers)


def internal_error(request_id: str) -> InternalError:
    """Error for a bug of ours: it names the request's id in the log, and nothing of the bug."""
    return InternalError(f"The server failed on this request. Its log has the details under {request_id}.")
