"""The ingress replica's side of token frames."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable

import msgspec
import zmq

from serving.cluster.transport.frames import Address, Entry, Frame, Reply, token_logprobs
from serving.engine.base import TokenDelta, TokenLogprobs
from serving.engine.load import EngineLoad
from serving.telemetry.metrics import FrameLoss

OnFrameLoss = Callable[[str | None, FrameLoss], None]
"""Told of each entry that was of no use: of which model, where that can be known, and why."""

_FRAMES_A_TURN = 64
"""Frames read before others get their turn on the loop."""
_LONGEST_FRAME = 16 * 1024 * 1024


class Stream:
    """Tokens of one call as they arrive: from frames first, and at last from the reply.

    For one reader. The call's tokens bound the backlog, and a slow reader delays no other stream. `seen` counts the
    tokens that have come; `taken` is set once the replica has said that it has the call.
    """

    __slots__ = ("_cached_tokens", "_end", "_logprobs", "_tokens", "_waiter", "address", "model", "seen", "taken")

    def __init__(self, model: str, address: Address) -> None:
        self.model = model
        self.address = address
        self.seen = 0
        self.taken = False
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprobs] = []
        self._cached_tokens = 0
        self._end: Reply | Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def begun(self) -> bool:
        """True once any token has come."""
        return self.seen > 0

    def add(self, new: Entry) -> FrameLoss | None:
        """Take an entry; tokens already here are not taken twice, and none are taken over a gap."""
        known = self.seen - new.offset
        if self._end is not None:
            return "late"
        if known < 0:
            return "missing"
        if known >= len(new.token_ids):
            return "doubled"
        if new.offset < 0 or len(new.logprobs or new.token_ids) != len(new.token_ids):
            return "corrupt"
        self._take(new.token_ids[known:], token_logprobs(new.logprobs[known:]) if new.logprobs else ())
        self._cached_tokens = max(self._cached_tokens, new.cached_tokens)
        return None

    def finish(self, end: Reply | Exception) -> None:
        """The call is over: what no frame brought comes from its reply."""
        if isinstance(end, Reply):
            rest = (end.logprobs or ())[self.seen :]
            self._take(end.token_ids[self.seen :], rest)
            self._cached_tokens = max(self._cached_tokens, end.cached_tokens)
        self._end = end
        self._wake()

    async def next(self) -> TokenDelta:
        """Everything that has come since; waits for something. Raises the call's error once all tokens are read."""
        while not self._tokens and self._end is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        tokens, self._tokens = self._tokens, []
        logprobs, self._logprobs = self._logprobs, []
        end = self._end
        if isinstance(end, Exception) and not tokens:
            raise end
        reason = end.finish_reason if isinstance(end, Reply) else None
        return TokenDelta(tokens, reason, logprobs or None, self._cached_tokens)

    def _take(self, tokens: list[int], logprobs: list[TokenLogprobs] | tuple[TokenLogprobs, ...]) -> None:
        self.seen += len(tokens)
        self._tokens += tokens
        self._logprobs += logprobs
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Inbox:
    """One endpoint that all engine replicas write to."""

    def __init__(self, host: str, on_loss: OnFrameLoss, curve_keys: tuple[bytes, bytes] | None = None) -> None:
        """Listens on a free port of `host`; `curve_keys` are a public and a secret key in Z85, to encrypt frames."""
        self.on_loss = on_loss
        self._streams: dict[bytes, Stream] = {}
        self._load_keys: dict[str, bytes] = {}
        self._on_load: dict[bytes, Callable[[EngineLoad], None]] = {}
        self._decoder = msgspec.msgpack.Decoder(Frame)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _LONGEST_FRAME)
        self._curve_key: bytes | None = None
        if curve_keys is not None:
            self._socket.curve_server = True
            self._curve_key, self._socket.curve_secretkey = curve_keys
            self._socket.curve_publickey = self._curve_key
        if ":" in host:
            self._socket.setsockopt(zmq.IPV6, 1)
            host = f"[{host}]"
        port = self._socket.bind_to_random_port(f"tcp://{host}")
        self._endpoint = f"tcp://{host}:{port}"
        self._loop = asyncio.get_running_loop()
        # The loop closes what it reads from by number; libzmq's own descriptor stays libzmq's.
        self._fd = os.dup(self._socket.FD)
        self._loop.add_reader(self._fd, self._read)

    def open(self, model: str) -> Stream:
        """A stream with an id of its own, for a call of `model`'s engine; close_stream() it."""
        stream_id, load_key = secrets.token_bytes(16), self._load_keys.get(model)
        stream = Stream(model, Address(self._endpoint, stream_id, self._curve_key, load_key))
        self._streams[stream.address.stream] = stream
        return stream

    def take_loads(self, model: str, on_load: Callable[[EngineLoad], None]) -> None:
        """Call `on_load` with each report of `model`'s engines that comes from now on."""
        self._load_keys[model] = load_key = secrets.token_bytes(16)
        self._on_load[load_key] = on_load

    def close_stream(self, stream: Stream) -> None:
        """No frame is taken for it any more."""
        self._streams.pop(stream.address.stream, None)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._context.destroy(linger=0)

    def _read(self) -> None:
        """Edge-triggered: reads until nothing is left, or comes back for the rest."""
        for _ in range(_FRAMES_A_TURN):
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._deliver(frame)
        self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._socket.closed:
            self._read()

    def _deliver(self, frame: bytes) -> None:
        try:
            message = self._decoder.decode(frame)
        except msgspec.DecodeError:
            self.on_loss(None, "corrupt")
            return
        if (report := message.load) is not None:
            if (on_load := self._on_load.get(report.load_key)) is not None:
                on_load(report.load)
            else:
                self.on_loss(None, "foreign")
        for new in message.entries:
            stream = self._streams.get(new.stream)
            if stream is None:
                # Often the last tokens of a call whose client has left.
                self.on_loss(None, "foreign")
            elif (loss := stream.add(new)) is not None:
                self.on_loss(stream.model, loss)
