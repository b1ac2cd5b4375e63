"""Which requests are told of errors as Anthropic's API tells them, and the reply that does."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import Scope

from serving.api.anthropic.messages.error import messages_error
from serving.errors import ApiError

PATH = "/v1/messages"
COUNT_PATH = f"{PATH}/count_tokens"


def speaks_messages(scope: Scope) -> bool:
    """Whether a request is one to the Messages API."""
    path: str = scope["path"]
    return path == PATH or path.startswith(f"{PATH}/")


def messages_error_response(error: ApiError, scope: Scope) -> JSONResponse:
    """The reply that tells a client of that API of `error`."""
    request_id: str = scope.get("state", {}).get("request_id", "")
    headers = {**error.headers(), "request-id": request_id}
    return JSONResponse(messages_error(error, request_id), status_code=error.status, headers=headers)
