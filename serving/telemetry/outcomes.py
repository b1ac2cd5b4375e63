"""Outcomes of a request: a closed set, fit for a metric's label."""

from __future__ import annotations

from typing import Literal, get_args

from serving.errors import ApiError, EngineDiedError, EngineNotReadyError, ModelUnloadedError

Outcome = Literal[
    "ok",  # answered whole
    "client_left",  # the client hung up before its reply was over
    "invalid_request",  # 400, 405, 422 and the like: the client's mistake
    "unauthenticated",  # 401
    "forbidden",  # 403
    "not_found",  # 404
    "too_large",  # 413, 431
    "rate_limited",  # 429
    "overloaded",  # 503 for want of room
    "not_ready",  # 503 while engines start or are replaced
    "unloaded",  # 503 since an administrator has unloaded the model
    "engine_died",  # the engine was lost and nothing could take over
    "timeout",  # 504 and 408
    "internal_error",  # a bug of ours
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

SERVER_FAULTS: tuple[Outcome, ...] = ("overloaded", "not_ready", "engine_died", "timeout", "internal_error")
"""What counts against availability; the client's own mistakes, its leaving and an administrator's wish do not."""

_BY_STATUS: dict[int, Outcome] = {
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    413: "too_large",
    429: "rate_limited",
    431: "too_large",
    503: "overloaded",
    504: "timeout",
}


def of_status(status: int) -> Outcome:
    """Outcome that a reply's HTTP status alone tells."""
    if status < 400:
        return "ok"
    return _BY_STATUS.get(status, "invalid_request" if status < 500 else "internal_error")


def of_error(error: ApiError) -> Outcome:
    """Outcome of a request that failed with `error`."""
    if isinstance(error, ModelUnloadedError):
        return "unloaded"
    if isinstance(error, EngineNotReadyError):
        return "not_ready"
    if isinstance(error, EngineDiedError):
        return "engine_died"
    return of_status(error.status)
