"""Hand-over of settings from `serving up --update` to the `serving up` that runs on its port.

A Unix socket in a folder of the user's own; the other side must be the same user. Settings travel pickled, so no other
user may connect.
"""

from __future__ import annotations

import os
import pickle
import socket
import stat
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from serving.errors import ClusterError
from serving.settings.tree import Settings

_LENGTH = struct.Struct("!I")
_LARGEST = 16 * 1024 * 1024
_PATIENCE_S = 5.0
DONE = "done"
FAILED = "failed: "


@dataclass(frozen=True)
class Update:
    """New settings, and whom to tell how it goes: lines, of which the last is DONE or begins with FAILED."""

    settings: Settings
    tell: Callable[[str], None]


class ControlServer:
    """Listens on the port's socket; each update is put into `updates`. Raises ClusterError where it cannot listen."""

    def __init__(self, port: int) -> None:
        self.updates: SimpleQueue[Update] = SimpleQueue()
        self._path = _path(port, make=True)
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(str(self._path))
        except OSError as error:
            raise ClusterError(f"cannot listen on {self._path}: {error.strerror}") from error
        self._socket.listen(1)
        threading.Thread(target=self._serve, name="control", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._path.unlink(missing_ok=True)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            try:
                self._receive(connection)
            except (OSError, EOFError, pickle.UnpicklingError):
                connection.close()

    def _receive(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE_S)
        _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user != os.getuid():
            connection.close()
            return
        with connection.makefile("rb") as stream:
            (length,) = _LENGTH.unpack(_exactly(stream.read(_LENGTH.size), _LENGTH.size))
            if length > _LARGEST:
                raise EOFError
            settings = pickle.loads(_exactly(stream.read(length), length))

        def tell(line: str) -> None:
            try:
                connection.sendall(f"{line}\n".encode())
            except OSError:
                connection.close()
                return  # who asked is gone; the update goes on
            if line == DONE or line.startswith(FAILED):
                connection.close()

        self.updates.put(Update(settings, tell))


def hand_over(settings: Settings) -> Iterator[str]:
    """Have the server on `settings.port` take these settings; yields its lines. Raises ClusterError: there is none."""
    path = _path(settings.port)
    data = pickle.dumps(settings)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
            connection.sendall(_LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise ClusterError(f"no `serving up` of yours listens on port {settings.port}") from error
        with connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                yield line.rstrip("\n")


def is_listening(port: int) -> bool:
    """True if a `serving up` of this user's takes updates on that port."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(_path(port))) == 0


def _path(port: int, *, make: bool = False) -> Path:
    root = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    folder = Path(root) / f"gpt-oss-serving-{os.getuid()}"
    if make:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
            raise ClusterError(f"{folder} should be a folder of your own that nobody else may enter (chmod 700)")
    return folder / f"{port}.sock"


def _exactly(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise EOFError
    return data
