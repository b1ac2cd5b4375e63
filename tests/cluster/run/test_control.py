from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.cluster.run.control import DONE, FAILED, ControlServer, hand_over, is_listening
from serving.errors import ClusterError
from serving.settings.tree import Settings

SETTINGS = Settings(port=1234)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlServer]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    server = ControlServer(1234)
    yield server
    server.close()


def take_one(server: ControlServer, *lines: str) -> threading.Thread:
    def take() -> None:
        update = server.updates.get(timeout=10)
        assert update.settings == SETTINGS
        for line in lines:
            update.tell(line)

    thread = threading.Thread(target=take)
    thread.start()
    return thread


@pytest.mark.parametrize("last", [DONE, f"{FAILED}no such model"])
def test_settings_arrive_and_every_line_comes_back(server: ControlServer, last: str) -> None:
    taking = take_one(server, "one", "two", last)
    assert list(hand_over(SETTINGS)) == ["one", "two", last]
    taking.join()


def test_who_asks_and_leaves_stops_nobody(server: ControlServer) -> None:
    lines = hand_over(SETTINGS)
    taking = take_one(server, "one", *["more"] * 1000, DONE)
    assert next(lines) == "one"
    lines.close()  # type: ignore[attr-defined]  # a generator
    taking.join()
    again = take_one(server, DONE)
    assert list(hand_over(SETTINGS)) == [DONE]
    again.join()


def test_nobody_there_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert not is_listening(1234)
    with pytest.raises(ClusterError, match="1234"):
        list(hand_over(SETTINGS))


def test_a_look_or_rubbish_does_no_harm(server: ControlServer, tmp_path: Path) -> None:
    assert is_listening(1234)
    (path,) = tmp_path.glob("*/1234.sock")
    for rubbish in (b"", b"\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc"):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(path))
            stranger.sendall(rubbish)
    taking = take_one(server, DONE)
    assert list(hand_over(SETTINGS)) == [DONE]
    taking.join()


def test_only_the_user_may_enter_its_folder(server: ControlServer, tmp_path: Path) -> None:
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(ClusterError, match="nobody else may enter"):
        ControlServer(1235)
