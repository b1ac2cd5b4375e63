"""The engine replica's side of the connections that requests and tokens travel on."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import zmq

from serving.cluster.transport.frames import End, Entry, entry, joined
from serving.cluster.transport.pacing import PacedFrames
from serving.cluster.transport.sockets import Readable, bind, context, encrypt_server
from serving.cluster.transport.wire import (
    Call,
    Endpoint,
    Frame,
    Hello,
    Refused,
    ToIngress,
    ToReplica,
    Welcome,
    common_version,
    failure,
)
from serving.engine.base import EngineInfo, EngineRequest, TokenDelta
from serving.engine.load import EngineLoad
from serving.errors import ApiError, EngineDiedError, EngineNotReadyError, InternalError, OverloadedError

logger = logging.getLogger(__name__)

Run = Callable[[EngineRequest, Callable[[TokenDelta], None]], Awaitable[None]]
"""PushingEngine.run of the replica's engine."""

_MOST_CALLS = 100_000
"""Calls under way; more are refused. As many as Serve is told that a replica takes."""
_MOST_WAITING = 1000
"""Frames that wait for an ingress replica which does not read; what comes later is gathered by stream."""
_FAREWELL_MS = 500
"""Wait for the last frames to be written when the endpoint closes."""
_RETRY_AFTER_S = 5.0


class ReplicaEndpoint:
    """Takes calls of ingress replicas at a port of `host`, has `run` complete them, and sends what it pushes.

    `info` describes the engine, and raises while it is not ready. `pace_s` as in PacedFrames; `curve_keys` are a public
    and a secret key in Z85, to encrypt connections. Loads given to report() go to every ingress replica that is
    connected. An ingress replica that is gone is noticed by the next frame that is for it, and its calls are cancelled.
    """

    def __init__(
        self,
        host: str,
        run: Run,
        info: Callable[[], Awaitable[EngineInfo]],
        pace_s: float = 0.0,
        curve_keys: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.run = run
        self.pace_s = pace_s
        self._info = info
        self._key = secrets.token_bytes(32)
        self._peers: dict[bytes, _Ingress] = {}
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(ToReplica)
        self._context = context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.SNDHWM, _MOST_WAITING)
        encrypt_server(self._socket, curve_keys)
        address = bind(self._socket, host)
        self.endpoint = Endpoint(address, self._key, curve_key=None if curve_keys is None else curve_keys[0])
        self._readable = Readable(self._socket, self._read)

    @property
    def calls(self) -> int:
        """Number of calls under way."""
        return sum(len(peer.calls) for peer in self._peers.values())

    def report(self, load: EngineLoad) -> None:
        """Send the load to every ingress replica, with its next frame."""
        for peer in list(self._peers.values()):
            peer.frames.report(load)

    async def drain(self) -> None:
        """Take no new call; returns when all that were taken are over."""
        self._draining = True
        await self._idle.wait()

    async def close(self) -> None:
        """Cancel all calls and stop listening."""
        self._draining = True
        for identity in list(self._peers):
            self._lose(identity)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._readable.close()
        await asyncio.to_thread(self._context.destroy, _FAREWELL_MS)

    def send(self, identity: bytes, message: ToIngress) -> bool:
        """Send one message; False when the peer's queue is full. What is for a peer that is gone is thrown away."""
        if self._socket.closed:
            return True
        try:
            self._socket.send(identity, zmq.SNDMORE | zmq.NOBLOCK)
            self._socket.send(self._encoder.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._lose(identity)
        self._readable.look_again()
        return True

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin `work`; close() cancels it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def changed(self) -> None:
        """Note that the number of calls is another."""
        if any(peer.calls for peer in self._peers.values()):
            self._idle.clear()
        else:
            self._idle.set()

    def refusal(self) -> ApiError | None:
        """The reason why no call is taken now, if there is one."""
        if self._draining:
            return EngineNotReadyError("This engine replica is stopping.", retry_after_s=_RETRY_AFTER_S)
        if self.calls >= _MOST_CALLS:
            return OverloadedError("Too many requests are at one engine replica.", retry_after_s=_RETRY_AFTER_S)
        return None

    def _read(self) -> bool:
        """Take one message; False when there is none."""
        try:
            identity, message = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        except ValueError:
            logger.warning("a message of several parts was thrown away")
            return True
        try:
            self._take(identity, self._decoder.decode(message))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("a message was thrown away: %s", error)
        return True

    def _take(self, identity: bytes, message: ToReplica) -> None:
        if isinstance(message, Hello):
            if not secrets.compare_digest(message.key, self._key):
                logger.warning("a greeting with another key was thrown away")
                return
            self.own(self._greet(identity, message))
            return
        peer = self._peers.get(identity)
        if peer is None:
            logger.warning("a message of a stranger was thrown away")
        elif isinstance(message, Call):
            peer.begin(message)
        else:
            peer.cancel(message.stream)

    async def _greet(self, identity: bytes, hello: Hello) -> None:
        version = common_version(hello.oldest, hello.newest)
        if version is None:
            self.send(identity, Refused("no common version"))
            return
        if self._draining:
            self.send(identity, Refused("this replica is stopping"))
            return
        try:
            info = await self._info()
        except ApiError as error:
            self.send(identity, Refused(str(error)))
            return
        if identity not in self._peers:
            self._peers[identity] = _Ingress(self, identity)
        namespace = (await asyncio.to_thread(Path("/proc/self/ns/pid").stat)).st_ino
        self.send(identity, Welcome(version, info, os.getpid(), namespace))

    def _lose(self, identity: bytes) -> None:
        peer = self._peers.pop(identity, None)
        if peer is not None:
            peer.close()
            self.changed()


class _Ingress:
    """One ingress replica: its calls, and the frames to it."""

    def __init__(self, owner: ReplicaEndpoint, identity: bytes) -> None:
        self.calls: dict[bytes, asyncio.Task[None]] = {}
        self.frames = PacedFrames(owner.pace_s, self._send)
        self._owner = owner
        self._identity = identity

    def begin(self, call: Call) -> None:
        """Answer a call; one that has been taken is not begun again."""
        stream = call.stream
        if stream in self.calls:
            logger.warning("a call that is under way came again and was thrown away")
            return
        if (error := self._owner.refusal()) is not None:
            self.frames.end(End(stream, 0, failure=failure(error)), None)
            return
        self.frames.take(stream)
        task = self.calls[stream] = self._owner.own(self._answer(stream, call.request))
        task.add_done_callback(functools.partial(self._over, stream))
        self._owner.changed()

    def cancel(self, stream: bytes) -> None:
        """Stop a call that nobody waits for."""
        task = self.calls.pop(stream, None)
        if task is not None:
            task.cancel()
            self._owner.changed()

    def close(self) -> None:
        """Stop all calls, and send nothing more."""
        for stream in list(self.calls):
            self.cancel(stream)
        self.frames.close()

    async def _answer(self, stream: bytes, request: EngineRequest) -> None:
        answer = _Answer(stream, request.stream, self.frames)
        try:
            await self._owner.run(request, answer.push)
            if answer.end is None:
                raise EngineDiedError("The engine stopped sending before the answer was complete.")
        except ApiError as error:
            answer.end = End(stream, answer.sent, failure=failure(error))
        except Exception:
            logger.exception("request %s failed", request.request_id)
            bug = InternalError("The engine failed on this request.")
            answer.end = End(stream, answer.sent, failure=failure(bug))
        self.frames.end(answer.end, answer.held)

    def _over(self, stream: bytes, task: asyncio.Task[None]) -> None:
        if self.calls.get(stream) is not task:
            return  # cancel() has seen to it
        del self.calls[stream]
        if task.cancelled():  # by the engine: somebody waits
            error = EngineDiedError("The engine gave up this request.")
            self.frames.end(End(stream, 0, failure=failure(error)), None)
        self._owner.changed()

    def _send(self, entries: list[Entry], taken: list[bytes], ends: list[End], load: EngineLoad | None) -> bool:
        return self._owner.send(self._identity, Frame(entries, taken, ends, load))


class _Answer:
    """The tokens of one call on their way. `held` are those that go with the end: of a whole answer all of them."""

    __slots__ = ("_frames", "_stream", "_streamed", "end", "held", "sent")

    def __init__(self, stream: bytes, streamed: bool, frames: PacedFrames) -> None:
        self.sent = 0
        self.held: Entry | None = None
        self.end: End | None = None
        self._stream = stream
        self._streamed = streamed
        self._frames = frames

    def push(self, delta: TokenDelta) -> None:
        """Send a delta, or keep it for the end."""
        new = entry(self._stream, self.sent, delta)
        first, self.sent = not self.sent, self.sent + len(delta.token_ids)
        if delta.finish_reason is not None:
            self.end = End(self._stream, self.sent, delta.finish_reason)
        elif self._streamed:
            self._frames.add(new, urgent=first)
            return
        self.held = new if self.held is None else joined(self.held, new)
