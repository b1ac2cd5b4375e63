"""Client of one server, by OpenAI's library: streams chunks, maps errors to those of serving/errors.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx2
import msgspec
import openai
from openai import AsyncOpenAI
from pydantic import SecretStr

from serving.backends.addresses import Gate
from serving.backends.chunks import DECODER, Chunk
from serving.backends.transport import GuardedTransport
from serving.errors import (
    ApiError,
    BackendUnavailableError,
    BodyTooLargeError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
)
from serving.settings.backends import RetrySettings
from serving.sse_decoder import EventStream

_LONGEST_MESSAGE = 500
_LARGEST_REPLY = 64 * 1024 * 1024
_MOST_LISTED = 10_000


class BackendClient:
    """Client of the server at `url`. It retries nothing and follows no redirect.

    `name` is what people call it, in errors. The key is in no message and no repr.
    """

    def __init__(self, name: str, url: str, key: SecretStr | None, gate: Gate, retry: RetrySettings) -> None:
        self._name = name
        self._retry = retry
        timeout = httpx2.Timeout(None, connect=retry.connect_s)
        self._http = httpx2.AsyncClient(
            transport=GuardedTransport(gate), timeout=timeout, follow_redirects=False, trust_env=False
        )
        self._client = AsyncOpenAI(
            base_url=url,
            api_key=key.get_secret_value() if key is not None else "none",
            max_retries=0,
            timeout=timeout,
            http_client=self._http,
        )

    async def chunks(self, body: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """Chunks of the answer to POST /chat/completions, streamed.

        Raises BackendUnavailableError where the server cannot be reached, breaks off or says nonsense, OverloadedError
        where it is full, ModelNotFoundError, and InvalidRequestError for what it refuses.
        """
        request = self._client.chat.completions.with_streaming_response.create(**_arguments(body))
        try:
            async with request as response:
                if response.headers.get("content-type", "").startswith("application/json"):
                    yield self._decoded(await self._whole(response.iter_bytes()))
                    return
                async for payload in _payloads(response.iter_bytes()):
                    chunk = self._decoded(payload)
                    if chunk.error is not None:
                        raise self._unavailable("broke the answer off with an error")
                    yield chunk
        except openai.OpenAIError as error:
            raise self._ours(error) from error
        except (httpx2.HTTPError, httpx2.StreamError, ValueError, OSError) as error:
            raise self._unavailable(f"broke off ({type(error).__name__})") from error

    async def models(self) -> tuple[str, ...]:
        """Names that GET /models lists. Raises as chunks() does."""
        try:
            async with asyncio.timeout(2 * self._retry.connect_s):
                async with self._client.models.with_streaming_response.list() as response:
                    return _names(await self._whole(response.iter_bytes()))
        except TimeoutError as error:
            raise self._unavailable("did not answer in time") from error
        except openai.OpenAIError as error:
            raise self._ours(error) from error
        except (httpx2.HTTPError, httpx2.StreamError, ValueError, OSError) as error:
            raise self._unavailable(f"does not answer as a server of models does ({type(error).__name__})") from error

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def _whole(self, pieces: Any) -> bytes:
        content = bytearray()
        async for piece in pieces:
            content += piece
            if len(content) > _LARGEST_REPLY:
                raise ValueError("a reply without end")
        return bytes(content)

    def _decoded(self, payload: bytes) -> Chunk:
        try:
            return DECODER.decode(payload)
        except msgspec.DecodeError as error:
            # `from None`: the cause would quote the answer in a traceback.
            raise self._unavailable(f"sent what is no chat completion ({type(error).__name__})") from None

    def _unavailable(self, what: str, code: str | None = None) -> BackendUnavailableError:
        return BackendUnavailableError(f"The backend '{self._name}' {what}.", code=code)

    def _ours(self, error: openai.OpenAIError) -> ApiError:
        if isinstance(error, openai.APITimeoutError):
            return self._unavailable("could not be connected to in time")
        if isinstance(error, openai.APIConnectionError):
            return self._unavailable("cannot be reached")
        if not isinstance(error, openai.APIStatusError):
            return self._unavailable(f"broke off ({type(error).__name__})")
        status, wait = error.status_code, _retry_after_s(error.response.headers)
        if status in (401, 403):
            return self._unavailable("does not take our key", "backend_refused_key")
        if status == 404:
            return ModelNotFoundError(f"The backend '{self._name}' does not have this model.", param="model")
        if status == 413:
            return BodyTooLargeError(f"The request is larger than the backend '{self._name}' reads.")
        if status == 429 or (status == 503 and wait is not None):
            return OverloadedError(f"The backend '{self._name}' is full.", code="backend_full", retry_after_s=wait)
        if status in (400, 422):
            said = _message(error.body)[:_LONGEST_MESSAGE]
            return InvalidRequestError(f"The backend '{self._name}' refused the request: {said}", code="refused")
        return self._unavailable(f"answered with status {status}")


def _arguments(body: Mapping[str, Any]) -> dict[str, Any]:
    """The client wants three fields by name and takes any others beside them."""
    others = {name: value for name, value in body.items() if name not in ("model", "messages", "stream")}
    return {"model": body["model"], "messages": body["messages"], "stream": True, "extra_body": others}


async def _payloads(pieces: Any) -> AsyncGenerator[bytes, None]:
    """The payloads up to [DONE], or to the end of the bytes."""
    events = EventStream()
    async for piece in pieces:
        for payload in events.feed(piece):
            if payload == b"[DONE]":
                return
            yield payload
    for payload in events.feed(b"\n\n"):
        if payload != b"[DONE]":
            yield payload


class _Listed(msgspec.Struct):
    id: str


class _List(msgspec.Struct):
    data: list[_Listed]


def _names(content: bytes) -> tuple[str, ...]:
    try:
        listed = msgspec.json.decode(content, type=_List)
    except msgspec.DecodeError as error:
        raise ValueError("no list of models") from error
    names = (each.id for each in listed.data[:_MOST_LISTED])
    return tuple(name for name in names if 0 < len(name) <= 200 and name.isprintable() and " " not in name)


def _message(body: object) -> str:
    """Message of the server's error, in OpenAI's form or a simpler one."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict):
            inner = inner.get("message")
        if isinstance(inner, str):
            return inner
    return "no reason was given."


def _retry_after_s(headers: Any) -> float | None:
    """Seconds that retry-after-ms or Retry-After asks for."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) / unit
        except ValueError:
            continue
        if 0 <= seconds < 86_400:
            return seconds
    return None


def quiet_client() -> None:
    """Silence the client library's log lines: at debug they would name addresses and requests."""
    for name in ("openai", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
