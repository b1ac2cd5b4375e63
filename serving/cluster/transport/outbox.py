"""The engine replica's side of token frames."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

import msgspec
import zmq

from serving.cluster.transport.frames import Address, Entry, Frame, LoadReport, entry, joined
from serving.engine.base import TokenDelta
from serving.engine.load import EngineLoad

logger = logging.getLogger(__name__)

_MOST_PEERS = 256
"""Ingress replicas written to; the one that was silent longest makes room for a new one."""
_MOST_WAITING = 1000
"""Frames that wait for a peer that does not read; later ones are dropped."""
_REPORTED_FOR_S = 30.0
"""Time after its last request in which an ingress replica is sent reports: under load requests are closer together."""
_BUSY_STREAMS = 32
"""Streams of one engine and one ingress replica from which on frames are paced in full."""
_CALMER = 0.75
"""What a frame with fewer streams leaves of the number before: one frame of first tokens is no sign of calm."""


class Outbox:
    """Collects what an engine's step made and sends it, one frame to each ingress replica.

    Frames leave `pace_s` seconds apart when many streams share them, in proportion sooner when few do, and a stream's
    first tokens go at once. Everything runs on the event loop that calls add(). `dropped` counts frames that could not
    be sent.
    """

    def __init__(self, pace_s: float = 0.0, curve_keys: tuple[bytes, bytes] | None = None) -> None:
        """`curve_keys`: our own public and secret key, for peers whose address has a key. In Z85."""
        self.dropped = 0
        self._pace_s = pace_s
        self._curve_keys = curve_keys
        self._context = zmq.Context()
        self._encoder = msgspec.msgpack.Encoder()
        self._peers: OrderedDict[tuple[str, bytes | None], _Peer] = OrderedDict()

    def add(self, address: Address, offset: int, delta: TokenDelta) -> None:
        """Send the delta of a stream, of which `offset` tokens came before."""
        self._peer(address).add(entry(address.stream, offset, delta), urgent=offset == 0)

    def greet(self, address: Address) -> None:
        """Send reports of the load to the ingress replica at `address` for a while, since a request of its is here."""
        self._peer(address).greet(address.load_key)

    def report(self, load: EngineLoad) -> None:
        """Send the load to the ingress replicas that have greeted lately, with their next frame."""
        for peer in self._peers.values():
            peer.report(load)

    def close(self) -> None:
        """Drop what waits and close every connection."""
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()
        self._context.destroy(linger=0)

    def _peer(self, address: Address) -> _Peer:
        key = (address.endpoint, address.curve_key)
        peer = self._peers.get(key)
        if peer is None:
            if len(self._peers) >= _MOST_PEERS:
                self._peers.popitem(last=False)[1].close()
            peer = self._peers[key] = _Peer(self, self._connect(address))
        else:
            self._peers.move_to_end(key)
        return peer

    def _connect(self, address: Address) -> zmq.Socket[bytes]:
        sock = self._context.socket(zmq.PUSH)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.SNDHWM, _MOST_WAITING)
        if address.curve_key is not None and self._curve_keys is not None:
            sock.curve_serverkey = address.curve_key
            sock.curve_publickey, sock.curve_secretkey = self._curve_keys
        sock.connect(address.endpoint)
        return sock

    def encode(self, entries: list[Entry], load: LoadReport | None = None) -> bytes:
        """A frame's bytes."""
        return self._encoder.encode(Frame(entries, load))


class _Peer:
    """One ingress replica."""

    def __init__(self, outbox: Outbox, sock: zmq.Socket[bytes]) -> None:
        self._outbox = outbox
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, Entry] = {}  # by stream; of one step, or of pace_s seconds
        self._streams = 0.0
        self._flush: asyncio.Handle | None = None
        self._flush_at = 0.0
        self._not_before = 0.0
        self._load: LoadReport | None = None
        self._load_key: bytes | None = None
        self._greeted = 0.0

    def greet(self, load_key: bytes | None) -> None:
        self._load_key, self._greeted = load_key, self._loop.time()

    def report(self, load: EngineLoad) -> None:
        if self._load_key is not None and self._loop.time() - self._greeted < _REPORTED_FOR_S:
            self._load = LoadReport(self._load_key, load)
            self._send_at(self._not_before)

    def add(self, new: Entry, *, urgent: bool) -> None:
        before = self._waiting.get(new.stream)
        self._waiting[new.stream] = new if before is None else joined(before, new)
        self._send_at(0.0 if urgent else self._not_before)

    def _send_at(self, at: float) -> None:
        if self._flush is not None and at >= self._flush_at:
            return
        if self._flush is not None:
            self._flush.cancel()
        # Once the loop is free: by then the whole step is here.
        self._flush_at = at
        later = at > self._loop.time()
        self._flush = self._loop.call_at(at, self._send) if later else self._loop.call_soon(self._send)

    def close(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
        self._socket.close(linger=0)

    def _send(self) -> None:
        entries, self._waiting, self._flush = list(self._waiting.values()), {}, None
        if entries:  # a report alone says nothing of the pace
            self._streams = max(len(entries), self._streams * _CALMER)
            self._not_before = self._loop.time() + self._outbox._pace_s * min(1.0, self._streams / _BUSY_STREAMS)
        load, self._load = self._load, None
        frame = self._outbox.encode(entries) if load is None else self._outbox.encode(entries, load)
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            self._outbox.dropped += 1
