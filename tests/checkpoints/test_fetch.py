"""Fetching with the real huggingface_hub from a small hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serving.checkpoints.fetch import Source
from serving.errors import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 4096
CONFIG = b'{"model_type": "gpt_oss"}'


@dataclass
class Hub:
    """What the hub has, what it was asked for, and what it sends in place of the truth."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    damage: dict[str, int] = field(default_factory=dict)
    files: dict[str, bytes] = field(
        default_factory=lambda: {
            "config.json": CONFIG,
            "model.safetensors": WEIGHTS,
            "original/model.safetensors": WEIGHTS,
            "metal/model.bin": WEIGHTS,
        }
    )

    def info(self) -> dict[str, object]:
        siblings = []
        for name, content in self.files.items():
            sibling: dict[str, object] = {"rfilename": name, "size": len(content)}
            sibling["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if not name.endswith(".json"):
                digest = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": "openai/small", "sha": COMMIT, "siblings": siblings}

    def tree(self) -> list[dict[str, object]]:
        return [
            {
                "type": "file",
                "path": name,
                "size": len(content),
                "oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
            }
            for name, content in self.files.items()
        ]

    def content(self, name: str) -> bytes:
        content = self.files[name]
        if self.damage.get(name, 0) > 0:
            return content[:-1] + bytes([content[-1] ^ 1])
        return content


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0]
            if path.startswith("/api/models/openai/small"):
                answer = hub.tree() if "/tree/" in path else hub.info()
                self.reply(json.dumps(answer).encode(), {"content-type": "application/json"}, body)
                return
            name = path.partition("/resolve/")[2].partition("/")[2]
            if not path.startswith("/openai/small/resolve/") or name not in hub.files:
                headers = {"x-error-code": "RepoNotFound", "x-error-message": "Repository not found"}
                self.reply(b"", headers, body, status=404)
                return
            content = hub.content(name)
            if body and name in hub.damage:
                hub.damage[name] -= 1
            etag = hashlib.sha256(hub.files[name]).hexdigest()
            self.reply(content, {"x-repo-commit": COMMIT, "etag": f'"{etag}"'}, body)

        def reply(self, content: bytes, headers: dict[str, str], body: bool, status: int = 200) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


def serving_fetch(cache: Path, *arguments: str, hub: Hub | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    if hub is None:
        environment["HF_HUB_OFFLINE"] = "1"
    else:
        environment["HF_ENDPOINT"] = f"http://127.0.0.1:{hub.port}"
    serving = str(Path(sys.executable).with_name("serving"))
    return subprocess.run(
        [serving, "fetch", *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_what_vllm_reads_is_fetched_once_and_can_be_waited_for_without_a_hub(hub: Hub, tmp_path: Path) -> None:
    fetched = serving_fetch(tmp_path, "openai/small", hub=hub)
    assert fetched.returncode == 0, fetched.stderr
    assert "openai/small: complete" in fetched.stdout
    snapshot = tmp_path / "models--openai--small" / "snapshots" / COMMIT
    assert (snapshot / "model.safetensors").read_bytes() == WEIGHTS
    assert (snapshot / "config.json").read_bytes() == CONFIG
    assert not any("original" in path or "metal" in path for path in hub.asked)
    # Asked again, nothing is downloaded
    before = len(hub.asked)
    again = serving_fetch(tmp_path, "openai/small", hub=hub)
    assert "checked already" in again.stdout
    assert not any("/resolve/" in path for path in hub.asked[before:])
    # And without a hub a waiter is content
    assert serving_fetch(tmp_path, "--wait", "--timeout", "0", "openai/small").returncode == 0


def test_a_damaged_file_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.damage["model.safetensors"] = 1
    fetched = serving_fetch(tmp_path, "openai/small", hub=hub)
    assert fetched.returncode == 0, fetched.stderr
    assert "again what came damaged: model.safetensors" in fetched.stdout
    snapshot = tmp_path / "models--openai--small" / "snapshots" / COMMIT
    assert (snapshot / "model.safetensors").read_bytes() == WEIGHTS


def test_a_hub_that_only_sends_damage_is_named_and_nobody_uses_it(hub: Hub, tmp_path: Path) -> None:
    hub.damage["model.safetensors"] = 99
    fetched = serving_fetch(tmp_path, "openai/small", hub=hub)
    assert fetched.returncode == 1
    assert "model.safetensors came damaged twice" in fetched.stderr
    waited = serving_fetch(tmp_path, "--wait", "--timeout", "0", "openai/small")
    assert waited.returncode == 1


def test_a_file_cut_short_since_is_not_taken_for_whole(hub: Hub, tmp_path: Path) -> None:
    assert serving_fetch(tmp_path, "openai/small", hub=hub).returncode == 0
    weights = tmp_path / "models--openai--small" / "snapshots" / COMMIT / "model.safetensors"
    with weights.resolve().open("r+b") as file:
        file.truncate(100)
    assert serving_fetch(tmp_path, "--wait", "--timeout", "0", "openai/small").returncode == 1
    assert serving_fetch(tmp_path, "openai/small", hub=hub).returncode == 0
    assert weights.read_bytes() == WEIGHTS


def test_an_unknown_model_is_told_in_words(hub: Hub, tmp_path: Path) -> None:
    hub.files.clear()
    fetched = serving_fetch(tmp_path, "openai/other", hub=hub)
    assert fetched.returncode == 1
    assert "openai/other is not on the hub" in fetched.stderr


def test_without_network_the_reason_is_told(tmp_path: Path) -> None:
    fetched = serving_fetch(tmp_path, "openai/small")
    assert fetched.returncode == 1
    assert fetched.stderr.startswith("error: openai/small cannot be fetched:")
    assert "Traceback" not in fetched.stderr


@pytest.mark.parametrize("text", ["gpt-oss", "/models/x", "a/b/c", "openai/", "a/b@", "./a", "~/a"])
def test_what_is_no_hub_id_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="OWNER/NAME"):
        Source.parse(text)


def test_a_hub_id_may_name_a_revision() -> None:
    assert Source.parse("openai/gpt-oss-20b@v1") == Source("openai/gpt-oss-20b", "v1")
    assert str(Source.parse("openai/gpt-oss-20b")) == "openai/gpt-oss-20b"
