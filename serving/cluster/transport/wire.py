"""Messages of the connection between an ingress replica and an engine replica, both ways, and their versions.

Each message is a MessagePack array that begins with its kind. A release may append fields to a message, and to what a
request is made of, under the same version: readers skip those they do not know and fill in those that are missing. A
change that readers have to understand takes another version. Of the versions that both sides speak the newest is taken;
where there is none the ingress replica asks by actor call, as it does where an engine replica has no endpoint.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

import serving.errors
from serving.cluster.transport.frames import End, Entry, Failure
from serving.engine.base import EngineInfo, EngineRequest
from serving.engine.load import EngineLoad
from serving.errors import ApiError, InternalError

VERSIONS = (1, 1)
"""The oldest and the newest version that this release speaks."""

METADATA = "frames"
"""Name of the endpoint in what Serve tells ingress replicas of each engine replica."""


class Endpoint(msgspec.Struct, frozen=True):
    """The place where an engine replica takes requests.

    `key` is 32 random bytes, a secret that is needed to be listened to; `curve_key` the endpoint's public key where the
    connection is encrypted. `versions` as VERSIONS.
    """

    address: str
    key: bytes
    versions: tuple[int, int] = VERSIONS
    curve_key: bytes | None = None

    def metadata(self) -> dict[str, Any]:
        """The endpoint for the replica's metadata, in what JSON has."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {METADATA: plain}

    @staticmethod
    def of(metadata: Mapping[str, Any]) -> Endpoint | None:
        """The endpoint in a replica's metadata; None where there is none, or none in a version that we speak."""
        try:
            endpoint = msgspec.convert(metadata.get(METADATA), Endpoint)
        except msgspec.ValidationError:
            return None
        return None if common_version(*endpoint.versions) is None else endpoint


def common_version(oldest: int, newest: int) -> int | None:
    """The newest version of ours that the other side, which speaks `oldest` to `newest`, speaks too."""
    version = min(newest, VERSIONS[1])
    return version if version >= max(oldest, VERSIONS[0]) else None


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """The first message of an ingress replica."""

    key: bytes
    oldest: int
    newest: int


class Call(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A request. `stream` names it on this connection, and never another one."""

    stream: bytes
    request: EngineRequest


class Cancel(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Nobody waits for the answer any more; nothing more is sent of it."""

    stream: bytes


class Welcome(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """The answer to Hello: calls are taken.

    `process` is the engine replica's process id in the PID namespace whose inode is `pid_namespace`.
    """

    version: int
    info: EngineInfo
    process: int
    pid_namespace: int


class Refused(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The other answer to Hello, for now: the engine is not ready, or the replica is stopping."""

    reason: str


class Frame(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """New tokens of calls, and then what became of calls: `taken` ones have come, `ends` are over."""

    entries: list[Entry]
    taken: list[bytes] = []
    ends: list[End] = []
    load: EngineLoad | None = None


ToReplica = Hello | Call | Cancel
ToIngress = Welcome | Refused | Frame


def failure(error: ApiError) -> Failure:
    """The error as it travels; one of another module's as what it is a kind of."""
    kind = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _kinds())
    return Failure(kind, error.message, error.param, error.code, error.retry_after_s, error.should_retry)


def api_error(failure: Failure) -> ApiError:
    """The error that travelled. A kind that only a later release has is an InternalError."""
    return _kinds().get(failure.kind, InternalError)(
        failure.message,
        param=failure.param,
        code=failure.code,
        retry_after_s=failure.retry_after_s,
        should_retry=failure.should_retry,
    )


@functools.cache
def _kinds() -> dict[str, type[ApiError]]:
    return {
        name: kind
        for name, kind in vars(serving.errors).items()
        if isinstance(kind, type) and issubclass(kind, ApiError)
    }
