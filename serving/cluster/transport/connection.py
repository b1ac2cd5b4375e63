"""The ingress replica's side of a connection to one engine replica."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from pathlib import Path
from typing import Protocol

import msgspec
import zmq

from serving.cluster.transport.frames import Address, Entry, Reply
from serving.cluster.transport.inbox import Stream
from serving.cluster.transport.sockets import Readable, encrypt_client, prepare
from serving.cluster.transport.wire import (
    VERSIONS,
    Call,
    Cancel,
    Endpoint,
    Frame,
    Hello,
    Refused,
    ToIngress,
    ToReplica,
    Welcome,
    api_error,
)
from serving.engine.base import EngineInfo, EngineRequest
from serving.engine.load import EngineLoad
from serving.errors import EngineDiedError, EngineNotReadyError
from serving.telemetry.metrics import FrameLoss

logger = logging.getLogger(__name__)

_MOST_WAITING = 10_000
"""Messages that wait for a replica which does not read; then it takes no more calls."""
_GREET_AGAIN_S = 1.0
RETRY_AFTER_S = 5.0


class Watcher(Protocol):
    """The owner of a connection."""

    def ready(self) -> None:
        """The replica has become ready, or is no longer."""
        ...

    def lost(self, connection: Connection) -> None:
        """The replica is gone; the connection is of no use any more."""
        ...

    def ended(self, connection: Connection) -> None:
        """A call is over."""
        ...

    def on_load(self, load: EngineLoad) -> None:
        """The replica has said how it is."""
        ...

    def on_loss(self, loss: FrameLoss) -> None:
        """Tokens came that were of no use."""
        ...


class Connection:
    """A connection to the engine replica at `endpoint`: calls there, their tokens and ends back.

    The loss of the replica is told by the connection that breaks (libzmq's monitor), and where it runs on this machine
    by its process' end. Then every call of its ends: with EngineDiedError where the replica had taken it, else with
    EngineNotReadyError. `load` is what it has reported last, `calls` counts those under way from here.
    """

    def __init__(
        self,
        model: str,
        endpoint: Endpoint,
        sockets: zmq.Context[zmq.Socket[bytes]],
        watcher: Watcher,
        curve_keys: tuple[bytes, bytes] | None = None,
        node_address: str = "",
    ) -> None:
        """`node_address` is this machine's, to know whether the replica's process can be watched."""
        self.endpoint = endpoint
        self.info: EngineInfo | None = None
        self.load: EngineLoad | None = None
        self._model = model
        self._watcher = watcher
        self._node_address = node_address
        self._loop = asyncio.get_running_loop()
        self._streams: dict[bytes, Stream] = {}
        self._numbers = itertools.count()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(ToIngress)
        self._process = -1
        self._lost = False
        self._greeting: asyncio.TimerHandle | None = None
        self._socket = sockets.socket(zmq.DEALER)
        prepare(self._socket)
        self._socket.setsockopt(zmq.SNDHWM, _MOST_WAITING)
        encrypt_client(self._socket, curve_keys, endpoint.curve_key)
        self._monitor: zmq.Socket[bytes] = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._readable = Readable(self._socket, self._read)
        self._events = Readable(self._monitor, self._disconnected)
        self._socket.connect(endpoint.address)
        self._greet()

    @property
    def calls(self) -> int:
        """Number of calls under way."""
        return len(self._streams)

    def begin(self, request: EngineRequest) -> Stream:
        """Send a request; its tokens come as the stream's. Raises EngineNotReadyError if the replica takes nothing."""
        name = next(self._numbers).to_bytes(8)
        if self.info is None or not self._send(Call(name, request)):
            raise self._not_ready()
        stream = self._streams[name] = Stream(self._model, Address(self.endpoint.address, name))
        return stream

    def leave(self, stream: Stream) -> None:
        """Wait no more for a call: nothing is taken for it, and the replica stops working on it."""
        if self._streams.pop(stream.address.stream, None) is not None:
            self._send(Cancel(stream.address.stream))
            self._watcher.ended(self)

    def close(self) -> None:
        """Close the connection; calls under way end as if the replica were lost."""
        if self._socket.closed:
            return
        if self._greeting is not None:
            self._greeting.cancel()
        if self._process >= 0:
            self._loop.remove_reader(self._process)
            os.close(self._process)
            self._process = -1
        self._events.close()
        self._readable.close()
        self._socket.disable_monitor()
        self._socket.close(linger=0)
        self.info = None
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.finish(self._died() if stream.taken or stream.begun else self._not_ready())
            self._watcher.ended(self)

    def _send(self, message: ToReplica) -> bool:
        if self._socket.closed:
            return False
        try:
            self._socket.send(self._encoder.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._readable.look_again()
        return True

    def _greet(self) -> None:
        self._greeting = None
        self._send(Hello(self.endpoint.key, *VERSIONS))

    def _greet_later(self) -> None:
        if self._greeting is None:
            self._greeting = self._loop.call_later(_GREET_AGAIN_S, self._greet)

    def _read(self) -> bool:
        if self._socket.closed:
            return False
        try:
            frame = self._socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return False
        try:
            message = self._decoder.decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # What it was is not known: no call of this connection can be told to be whole.
            self._watcher.on_loss("corrupt")
            self._lose("it sent what cannot be read")
            return True
        if isinstance(message, Frame):
            self._take(message)
        elif isinstance(message, Welcome):
            self._welcomed(message)
        else:
            self._refused(message)
        return True

    def _take(self, frame: Frame) -> None:
        streams = self._streams
        for name in frame.taken:
            if (stream := streams.get(name)) is not None:
                stream.taken = True
        for new in frame.entries:
            self._add(new)
        for end in frame.ends:
            stream = streams.pop(end.stream, None)
            if stream is None:
                continue
            if end.failure is not None:
                stream.finish(api_error(end.failure))
                if end.failure.kind == EngineNotReadyError.__name__:
                    self._doubt()
            elif end.finish_reason is None or end.tokens != stream.seen:
                self._watcher.on_loss("missing")
                stream.finish(self._died())
            else:
                stream.finish(Reply([], end.finish_reason))
            self._watcher.ended(self)
        if frame.load is not None:
            self.load = frame.load
            self._watcher.on_load(frame.load)

    def _add(self, new: Entry) -> None:
        stream = self._streams.get(new.stream)
        if stream is None:
            self._watcher.on_loss("foreign")  # often the last tokens of a call whose client has left
        elif (loss := stream.add(new)) is not None:
            self._watcher.on_loss(loss)

    def _welcomed(self, welcome: Welcome) -> None:
        self.info = welcome.info
        if welcome.info.load is not None:
            self.load = welcome.info.load
            self._watcher.on_load(welcome.info.load)
        self._watch(welcome)
        self._watcher.ready()

    def _refused(self, refusal: Refused) -> None:
        logger.debug("an engine replica of %s takes no calls: %s", self._model, refusal.reason)
        self._doubt()

    def _doubt(self) -> None:
        """Send nothing until the replica says that it is ready."""
        was_ready, self.info = self.info is not None, None
        self._greet_later()
        if was_ready:
            self._watcher.ready()

    def _watch(self, welcome: Welcome) -> None:
        host = self.endpoint.address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
        if self._process >= 0 or host != self._node_address or not hasattr(os, "pidfd_open"):
            return
        try:
            if Path("/proc/self/ns/pid").stat().st_ino != welcome.pid_namespace:
                return
            self._process = os.pidfd_open(welcome.process)
        except OSError as error:
            logger.debug("the process of an engine replica of %s cannot be watched: %s", self._model, error)
            return
        self._loop.add_reader(self._process, self._ended)

    def _ended(self) -> None:
        self._lose("its process has ended")

    def _disconnected(self) -> bool:
        try:
            self._monitor.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._lose("the connection is broken")
        return False

    def _lose(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = True
        while self._read():
            pass  # what it said last
        logger.info("an engine replica of %s is lost with %d calls: %s", self._model, self.calls, reason)
        self.close()
        self._watcher.lost(self)

    def _died(self) -> EngineDiedError:
        return EngineDiedError(f"The engine of model '{self._model}' was lost while it worked on this request.")

    def _not_ready(self) -> EngineNotReadyError:
        return EngineNotReadyError(
            f"The engine of model '{self._model}' is not ready; it is starting or being replaced.",
            retry_after_s=RETRY_AFTER_S,
        )
