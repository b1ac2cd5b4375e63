from __future__ import annotations

import asyncio
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

import serving
from serving.engine.scripted import ScriptedEngine

if TYPE_CHECKING:
    from tests.http_server import Serve, Served


IDLE = {"running": 0, "waiting": 0}


async def test_the_process_is_healthy_whatever_its_engines_are(serve: Serve) -> None:
    async with serve(start=False) as served:
        reply = await served.http.get("/health")
    assert (reply.status_code, reply.json()) == (200, {"status": "ok", "queue": IDLE})


async def test_ready_once_every_engine_is(serve: Serve) -> None:
    async with serve(start=False) as served:
        waiting = await served.http.get("/ready")
        assert waiting.status_code == 503
        assert int(waiting.headers["retry-after"]) >= 1
        assert waiting.json()["error"]["code"] == "engine_not_ready"
        assert waiting.json()["models"]["demo"]["status"] == "engine_not_ready"
        assert "demo" in waiting.json()["error"]["message"]
        await served.engine.start()
        ready = await served.http.get("/ready")
        assert ready.status_code == 200
        assert ready.json() == {"status": "ready", "models": {"demo": {"status": "ready"}}}
        await served.engine.close()
        assert (await served.http.get("/ready")).status_code == 503


async def test_an_engine_that_does_not_answer_is_not_ready(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(engine: ScriptedEngine) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("serving.api.service.health._CHECK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(ScriptedEngine, "check_health", hang)
    reply = await served.http.get("/ready")
    assert reply.status_code == 503
    assert "0.05 s" in reply.json()["models"]["demo"]["message"]


async def test_versions_are_those_installed(served: Served) -> None:
    reply = (await served.http.get("/version")).json()
    assert reply["serving"] == serving.__version__
    assert reply["ray"] == version("ray")
    assert reply["python"] == platform.python_version()
    assert set(reply) == {"serving", "vllm", "ray", "python"}


@pytest.mark.parametrize("path", ["/health", "/ready", "/version", "/v1/models", "/v1/models/demo", "/docs"])
async def test_head_is_get_without_the_body(served: Served, path: str) -> None:
    get, head = await served.http.get(path), await served.http.head(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.headers["content-length"] == get.headers["content-length"]
