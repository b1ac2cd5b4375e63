"""The engine replica's side of token frames."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

import msgspec
import zmq

from serving.cluster.transport.frames import Address, End, Entry, Frame, LoadReport, entry
from serving.cluster.transport.pacing import PacedFrames
from serving.engine.base import TokenDelta
from serving.engine.load import EngineLoad

logger = logging.getLogger(__name__)

_MOST_PEERS = 256
"""Ingress replicas written to; the one that was silent longest makes room for a new one."""
_MOST_WAITING = 1000
"""Frames that wait for a peer that does not read; later ones are dropped."""
_REPORTED_FOR_S = 30.0
"""Time after its last request in which an ingress replica is sent reports: under load requests are closer together."""


class Outbox:
    """Collects what an engine's step made and sends it, one frame to each ingress replica.

    Frames leave `pace_s` seconds apart when many streams share them, in proportion sooner when few do, and a stream's
    first tokens go at once. Everything runs on the event loop that calls add(). `dropped` counts frames that could not
    be sent.
    """

    def __init__(self, pace_s: float = 0.0, curve_keys: tuple[bytes, bytes] | None = None) -> None:
        """`curve_keys`: our own public and secret key, for peers whose address has a key. In Z85."""
        self.dropped = 0
        self.pace_s = pace_s
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
        self._frames = PacedFrames(outbox.pace_s, self._send)
        self._load_key: bytes | None = None
        self._greeted = 0.0

    def greet(self, load_key: bytes | None) -> None:
        self._load_key, self._greeted = load_key, self._loop.time()

    def report(self, load: EngineLoad) -> None:
        if self._load_key is not None and self._loop.time() - self._greeted < _REPORTED_FOR_S:
            self._frames.report(load)

    def add(self, new: Entry, *, urgent: bool) -> None:
        self._frames.add(new, urgent=urgent)

    def close(self) -> None:
        self._frames.close()
        self._socket.close(linger=0)

    def _send(self, entries: list[Entry], taken: list[bytes], ends: list[End], load: EngineLoad | None) -> bool:
        report = None if load is None or self._load_key is None else LoadReport(self._load_key, load)
        frame = self._outbox.encode(entries) if report is None else self._outbox.encode(entries, report)
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            self._outbox.dropped += 1  # the call's reply has it all
        return True
