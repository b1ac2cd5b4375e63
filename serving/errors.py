"""Every error this project raises, and its one mapping to OpenAI's error JSON.

ServingError
├── SettingsError                    a settings file, variable or flag is wrong; never reaches a client
├── CheckpointError                  a model's files cannot be found, made or trusted
├── ClusterError                     Ray or Ray Serve could not be started, joined or stopped
├── BenchError                       a server cannot be measured: it does not answer, or names no model
├── ClientError                      a server cannot be talked with: it is away, refuses, or breaks off
├── ItemTooLargeError                a store keeps no item of this size
├── SealError                        a sealed text cannot be read: of another key, team or model, or changed
└── ApiError                         anything a client is told, with an HTTP status
    ├── InvalidRequestError          400: a mistake in the request, with the field named
    │   ├── MalformedBodyError           the body is not JSON, or not an object
    │   ├── InvalidValueError            a field has the wrong type or a value out of range
    │   ├── UnsupportedParameterError    a field we do not know, or know and do not support
    │   └── ContextLengthExceededError   prompt and max_tokens do not fit the model
    ├── AuthenticationError          401
    │   └── InvalidTokenError            a token of the identity provider is not accepted, for the reason told
    ├── PermissionDeniedError        403
    │   └── TokenTeamError               a token is valid, and names no team of this server
    ├── NotFoundError                404: no such route
    │   ├── ModelNotFoundError           no such model
    │   ├── ConversationNotFoundError    no such conversation, or not the caller's
    │   ├── ResponseNotFoundError        no such stored response, or not the caller's
    │   └── ItemNotFoundError            no such file or batch, or not the caller's
    ├── MethodNotAllowedError        405
    ├── RequestTimeoutError          408: the body did not arrive in time
    ├── ConflictError                409: what is asked for does not fit how things are
    ├── BodyTooLargeError            413
    ├── RateLimitError               429: the team's requests or tokens of this minute are used
    │   └── QuotaExceededError           its tokens of this day or month are
    ├── HeadersTooLargeError         431
    ├── OverloadedError              503: full; come back later
    ├── EngineNotReadyError          503: starting or restarting; come back later
    │   ├── BackendUnavailableError      another server that should answer cannot be reached, or fails
    │   └── ModelUnloadedError           an administrator has unloaded the model
    ├── AdapterUnavailableError      503: a LoRA adapter that is known cannot be loaded
    ├── StoreUnavailableError        503: what requests share cannot be reached; come back later
    ├── StorageFailedError           503: files and batches cannot be read or written; come back later
    ├── EngineDiedError              500: the engine was lost while it worked on this request
    ├── AnswerTimeoutError           504: the answer took longer than the server allows
    └── InternalError                500: a bug of ours; details are in the log under the request's id
"""

from __future__ import annotations

import math
from typing import Any, ClassVar


class ServingError(Exception):
    """Root of the tree. `str(error)` is meant for people and says what to do next."""


class SettingsError(ServingError):
    """One or more settings are wrong.

    `problems` holds (field, what is wrong and how to fix it), field in dotted form: "models.demo.replicas.min".
    """

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{field}: {problem}" for field, problem in problems))


class CheckpointError(ServingError):
    """A model's files cannot be found, made or trusted."""


class ClusterError(ServingError):
    """Ray or Ray Serve could not be started, joined or stopped."""


class ItemTooLargeError(ServingError):
    """A store keeps no item of this size."""


class SealError(ServingError):
    """A sealed text cannot be read; `str(error)` says why, as the end of a sentence."""


class BenchError(ServingError):
    """A server cannot be measured: it does not answer, or names no model."""


class ClientError(ServingError):
    """A server cannot be talked with: it is away, refuses, or breaks off."""


class ApiError(ServingError):
    """Anything a client is told.

    `status`, `type` and `code` follow OpenAI's error reference. `retry_after_s` becomes the Retry-After header;
    `should_retry=False` becomes `x-should-retry: false`, which OpenAI's clients obey.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None
    default_should_retry: ClassVar[bool | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry if should_retry is not None else self.default_should_retry

    def body(self) -> dict[str, Any]:
        """OpenAI's error JSON: {"error": {"message", "type", "param", "code"}}."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Headers that go with the error; lower-case names."""
        headers: dict[str, str] = {}
        if self.retry_after_s is not None:
            # Never less than was meant: who waits that long gets in. OpenAI's clients prefer the milliseconds.
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
            headers["retry-after-ms"] = str(max(1, math.ceil(self.retry_after_s * 1000)))
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        return headers


class InvalidRequestError(ApiError):
    """A mistake in the request."""

    status = 400
    type = "invalid_request_error"


class MalformedBodyError(InvalidRequestError):
    """The body is not JSON, or not a JSON object."""

    default_code = "invalid_json"


class InvalidValueError(InvalidRequestError):
    """A field has the wrong type or a value out of range."""

    default_code = "invalid_value"


class UnsupportedParameterError(InvalidRequestError):
    """A field that would change the answer and that we do not know or do not support."""

    default_code = "unsupported_parameter"


class ContextLengthExceededError(InvalidRequestError):
    """The prompt, or the prompt and max_tokens together, do not fit the model."""

    default_code = "context_length_exceeded"


class AuthenticationError(ApiError):
    """No key or a wrong key; the message never says which."""

    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        """As ApiError's, and the challenge that RFC 9110 (11.6.1) wants beside a 401."""
        return {**super().headers(), "www-authenticate": "Bearer"}


class InvalidTokenError(AuthenticationError):
    """A token of the identity provider is not accepted. The message says why: a token is no secret to its owner."""

    default_code = "invalid_token"

    def headers(self) -> dict[str, str]:
        """As AuthenticationError's, with the error of RFC 6750 (3.1)."""
        return {**super().headers(), "www-authenticate": 'Bearer error="invalid_token"'}


class PermissionDeniedError(ApiError):
    """The caller is known and may not do this."""

    status = 403
    type = "invalid_request_error"
    default_code = "permission_denied"


class TokenTeamError(PermissionDeniedError):
    """A token is valid, and its claims name no team of this server."""

    default_code = "no_team"


class NotFoundError(ApiError):
    """No such route."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class ModelNotFoundError(NotFoundError):
    """No model or alias of that name."""

    default_code = "model_not_found"


class ResponseNotFoundError(NotFoundError):
    """No stored response of that id: never stored, gone, deleted or another owner's; which of them is not told."""

    default_code = "response_not_found"


class ItemNotFoundError(NotFoundError):
    """No file or batch of that id: never made, expired, deleted or another team's; which of them is not told."""


class ConversationNotFoundError(NotFoundError):
    """No conversation or item of that id, or another owner's; which of them is not told."""

    default_code = "conversation_not_found"


class MethodNotAllowedError(ApiError):
    """The route exists, the method does not."""

    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


class BodyTooLargeError(ApiError):
    """The request body is larger than the server reads."""

    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class HeadersTooLargeError(ApiError):
    """The request's headers are larger than the server reads."""

    status = 431
    type = "invalid_request_error"
    default_code = "headers_too_large"


class RequestTimeoutError(ApiError):
    """The request's body did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"


class ConflictError(ApiError):
    """Error of a request that does not fit the present state; the message says what to do first."""

    status = 409
    type = "invalid_request_error"
    default_code = "conflict"


class RateLimitError(ApiError):
    """The team used its requests or tokens of this minute, or has too many requests under way or in line."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"
    limit: str | None = None
    """The limit's name in the teams file; None where it is the line that the team has too many requests in."""


class QuotaExceededError(RateLimitError):
    """The team used its tokens of this day or month."""

    type = "insufficient_quota"
    default_code = "insufficient_quota"


class OverloadedError(ApiError):
    """No room for the request now."""

    status = 503
    type = "server_error"
    default_code = "overloaded"


class EngineNotReadyError(ApiError):
    """The model's engines are starting, restarting or gone."""

    status = 503
    type = "server_error"
    default_code = "engine_not_ready"


class BackendUnavailableError(EngineNotReadyError):
    """Another server that should answer cannot be reached, breaks off, or does not take our key."""

    default_code = "backend_unavailable"


class ModelUnloadedError(EngineNotReadyError):
    """An administrator has unloaded the model, and nobody else loads it."""

    default_code = "model_unloaded"


class StoreUnavailableError(ApiError):
    """The store that ingress replicas share cannot be reached, or does not answer in time."""

    status = 503
    default_code = "store_unavailable"


class StorageFailedError(ApiError):
    """The storage of files and batches cannot be reached, or does not take what it is given."""

    status = 503
    default_code = "storage_unavailable"


class EngineDiedError(ApiError):
    """The engine was lost while it worked on this request."""

    default_code = "engine_died"


class AdapterUnavailableError(ApiError):
    """A LoRA adapter that is known cannot be loaded; its files are gone or wrong."""

    status = 503
    default_code = "adapter_unavailable"


class AnswerTimeoutError(ApiError):
    """The answer took longer than `http.longest_answer_s`; a retry would most likely take as long."""

    status = 504
    default_code = "answer_timeout"
    default_should_retry = False


class DeadlineExceededError(AnswerTimeoutError):
    """The request's own time has run out."""

    default_code = "deadline_exceeded"


class InternalError(ApiError):
    """A bug of ours. The client gets the request id, the log gets the traceback."""

    default_code = "internal_error"
