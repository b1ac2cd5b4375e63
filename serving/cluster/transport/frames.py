"""Token frames: messages of an engine replica to an ingress replica while their unary call is under way.

A frame is one message with the new tokens of all streams that the two have in common. It is a courtesy: the call's
reply carries every token, so a frame that is lost, late, doubled or broken costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from serving.engine.base import FinishReason, TokenDelta, TokenLogprobs
from serving.engine.load import EngineLoad

_Logprobs = tuple[int, float, list[tuple[int, float]]]


class Address(msgspec.Struct, frozen=True):
    """Address of a stream: the endpoint of an ingress replica and the stream's id.

    `stream` is 16 random bytes, a secret that is needed to write into the stream. `load_key` is another one, for
    reports of the engine's load. `curve_key` is the endpoint's public key where the connection is to be encrypted.
    """

    endpoint: str
    stream: bytes
    curve_key: bytes | None = None
    load_key: bytes | None = None


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """New tokens of one stream; `offset` counts those sent before."""

    stream: bytes
    offset: int
    token_ids: list[int]
    cached_tokens: int = 0
    logprobs: list[_Logprobs] | None = None


class LoadReport(msgspec.Struct, array_like=True, frozen=True):
    """The engine's load, for the ingress replica that made `load_key`."""

    load_key: bytes
    load: EngineLoad


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """One message."""

    entries: list[Entry]
    load: LoadReport | None = None


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """An ApiError as it travels; `kind` is the name of its class."""

    kind: str
    message: str
    param: str | None = None
    code: str | None = None
    retry_after_s: float | None = None
    should_retry: bool | None = None


class End(msgspec.Struct, array_like=True, frozen=True):
    """The end of a call that came over the connection: `tokens` counts all that were sent of its stream.

    Either `finish_reason` or `failure` is set.
    """

    stream: bytes
    tokens: int
    finish_reason: FinishReason | None = None
    failure: Failure | None = None


class Reply(msgspec.Struct, frozen=True):
    """The end of a call, and the authority on it: all tokens, and with what they ended.

    `load` is the engine's, where no frames tell it.
    """

    token_ids: list[int]
    finish_reason: FinishReason
    cached_tokens: int = 0
    logprobs: list[TokenLogprobs] | None = None
    load: EngineLoad | None = None


def entry(stream: bytes, offset: int, delta: TokenDelta) -> Entry:
    """The delta as it travels."""
    logprobs = None if delta.logprobs is None else [(at.token_id, at.logprob, list(at.top)) for at in delta.logprobs]
    return Entry(stream, offset, delta.token_ids, delta.cached_tokens, logprobs)


def joined(first: Entry, second: Entry) -> Entry:
    """Two entries of one stream as one; `second` begins where `first` ends."""
    logprobs = None if first.logprobs is None or second.logprobs is None else first.logprobs + second.logprobs
    cached = max(first.cached_tokens, second.cached_tokens)
    return Entry(first.stream, first.offset, first.token_ids + second.token_ids, cached, logprobs)


def token_logprobs(logprobs: Iterable[_Logprobs]) -> list[TokenLogprobs]:
    """The entry's log probabilities as an engine gives them."""
    return [TokenLogprobs(token_id, logprob, tuple(top)) for token_id, logprob, top in logprobs]
