"""ZeroMQ sockets on an event loop, without a task for each message."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import zmq

_A_TURN = 64
"""Messages read before others get their turn on the loop."""
_LONGEST_MESSAGE = 64 * 1024 * 1024
_HEARTBEAT_MS = 1000
_GONE_AFTER_MS = 5000
"""A peer that answers no heartbeat for so long is gone: its machine is, or the network. libzmq answers in a thread."""


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """A context with one thread for its connections."""
    return zmq.Context()


def prepare(sock: zmq.Socket[bytes]) -> None:
    """Set what both ends of a connection have in common."""
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.MAXMSGSIZE, _LONGEST_MESSAGE)
    sock.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, _GONE_AFTER_MS)


def encrypt_server(sock: zmq.Socket[bytes], curve_keys: tuple[bytes, bytes] | None) -> None:
    """Encrypt what comes to a listening socket, where there are keys: a public and a secret one in Z85."""
    if curve_keys is not None:
        sock.curve_server = True
        sock.curve_publickey, sock.curve_secretkey = curve_keys


def encrypt_client(sock: zmq.Socket[bytes], curve_keys: tuple[bytes, bytes] | None, server_key: bytes | None) -> None:
    """Encrypt the connection to a server that has `server_key`."""
    if curve_keys is not None and server_key is not None:
        sock.curve_serverkey = server_key
        sock.curve_publickey, sock.curve_secretkey = curve_keys


def bind(sock: zmq.Socket[bytes], host: str) -> str:
    """Listen on a free port of `host`; returns the address."""
    prepare(sock)
    if ":" in host:
        sock.setsockopt(zmq.IPV6, 1)
        host = f"[{host}]"
    return f"tcp://{host}:{sock.bind_to_random_port(f'tcp://{host}')}"


class Readable:
    """Calls `read` for what comes to a socket until it returns False, in turns with the loop's other work.

    libzmq's descriptor tells of changes alone, and sending may take note of one that nobody has seen: call look_again()
    after each send.
    """

    def __init__(self, sock: zmq.Socket[Any], read: Callable[[], bool]) -> None:
        self._socket = sock
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.Handle | None = None
        # The loop closes what it reads from by number; libzmq's own descriptor stays libzmq's.
        self._fd = os.dup(sock.FD)
        self._loop.add_reader(self._fd, self._read_all)
        self._again = self._loop.call_soon(self._read_all)  # what came before

    def look_again(self) -> None:
        """Read once the loop is free if something is there."""
        events = self._socket.getsockopt(zmq.EVENTS)
        if self._again is None and isinstance(events, int) and events & zmq.POLLIN:
            self._again = self._loop.call_soon(self._read_all)

    def close(self) -> None:
        """Read no more. The socket is the caller's."""
        if self._fd < 0:
            return
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1

    def _read_all(self) -> None:
        self._again = None
        for _ in range(_A_TURN):
            if self._fd < 0 or not self._read():
                return
        if self._again is None and self._fd >= 0:
            self._again = self._loop.call_soon(self._read_all)
