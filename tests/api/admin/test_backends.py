"""/backends and /queue/status as the administrator uses them."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from serving.backends.registry import Backends
from serving.engine.scripted import ScriptLine
from serving.settings.backends import BackendSettings, BackendsSettings
from serving.settings.keys import new_key, new_salt
from serving.store.registrations import FileRegistrations

QUESTION = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "Say it."}]}


async def test_a_second_server_is_registered_asked_and_removed(serve: Any) -> None:
    async with serve() as other, serve() as ours:
        body = {"name": "other", "url": f"http://127.0.0.1:{other.port}", "type": "serving", "models": ["demo"]}
        registered = await ours.http.post("/backends/register", json=body)
        answered = await ours.chat(model="other:demo")
        (listed,) = (await ours.http.get("/backends")).json()["data"]
        removed = await ours.http.delete("/backends/other")
        gone = await ours.chat(model="other:demo")
        again = await ours.http.delete("/backends/other")

    assert registered.status_code == 201, registered.text
    assert registered.json() == listed
    assert (listed["ready"], listed["breaker"], listed["external"]) == (True, "closed", False)
    assert answered.json()["choices"][0]["message"]["content"] == "Hello there!"
    assert answered.headers["x-served-by"] == "other:demo"
    assert (removed.status_code, gone.status_code, again.status_code) == (200, 404, 404)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "x", "type": "vllm", "url": "http://169.254.169.254/v1"}, "url"),
        ({"name": "x", "type": "vllm", "url": "http://10.0.0.1/v1"}, "url"),
        ({"name": "x", "type": "vllm", "url": "http://no-such-host.invalid/v1"}, "url"),
        ({"name": "x", "type": "vllm", "url": "http://u:p@127.0.0.1/v1"}, "url"),
        ({"name": "x", "type": "vllm", "url": "gopher://127.0.0.1"}, "url"),
        ({"name": "x", "type": "vllm"}, "url"),
        ({"name": "x", "url": "http://127.0.0.1/v1"}, "url"),
        ({"name": "local", "type": "ollama"}, "name"),
        ({"name": "a:b", "type": "ollama"}, "name"),
        ({"name": "x", "type": "telepathy"}, "type"),
        ({"name": "ollama", "api_key_env": "HOME"}, "api_key_env"),
        ({"name": "ollama", "api_key_env": "sk-a-key-itself"}, "api_key_env"),
        ({"name": "ollama", "models": [""]}, "models"),
        ({"name": "ollama", "api_key": "sk-a-key-itself"}, "api_key"),
    ],
)
async def test_what_cannot_be_a_backend_is_refused_by_field(serve: Any, body: dict[str, Any], param: str) -> None:
    async with serve() as ours:
        reply = await ours.http.post("/backends/register", json=body)
        listed = (await ours.http.get("/backends")).json()["data"]

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text
    assert "sk-a-key-itself" not in reply.text
    assert listed == []


async def test_a_server_that_is_away_is_registered_and_said_to_be(serve: Any) -> None:
    async with serve() as ours:
        body = {"name": "away", "url": "http://127.0.0.1:9/v1", "type": "vllm"}
        reply = await ours.http.post("/backends/register", json=body)

    assert (reply.status_code, reply.json()["ready"]) == (201, False)
    assert "cannot be reached" in reply.json()["problem"]


async def test_registrations_outlive_the_process(serve: Any, tmp_path: Path) -> None:
    section, path = BackendsSettings(), tmp_path / "backends.json"
    async with serve() as other:
        first = Backends(section, clock=lambda: 0.0, registrations=FileRegistrations(path))
        await first.register("other", BackendSettings(url=f"http://127.0.0.1:{other.port}/v1", type="serving"))
        await first.close()
        second = Backends(section, clock=lambda: 0.0, registrations=FileRegistrations(path))
        await second.start()
        found = second.find("other:demo")
        await second.close()

    assert found is not None
    assert found.name == "demo"


async def test_backends_are_the_administrators(serve: Any, tmp_path: Path) -> None:
    admin, team = new_key(), new_key()
    (tmp_path / "teams.yaml").write_text(
        f"teams: {{a: {{keys: [{{id: {team.id}, hash: '{team.hashed(new_salt())}'}}]}}}}"
    )
    further = {"teams_file": str(tmp_path / "teams.yaml"), "admin_key_hash": str(admin.hashed(new_salt()))}
    async with serve(further=further) as ours:

        async def status(method: str, path: str, key: str | None) -> int:
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            reply = await ours.http.request(method, path, headers=headers, json={})
            return int(reply.status_code)

        paths = [("GET", "/backends"), ("POST", "/backends/register"), ("DELETE", "/backends/x")]
        paths.append(("GET", "/queue/status"))
        without = [await status(*path, None) for path in paths]
        teams = [await status(*path, team.text) for path in paths]
        admins = [await status(*path, admin.text) for path in paths]

    assert without == [401] * 4
    assert teams == [403] * 4
    assert admins == [200, 400, 404, 200]


async def test_queues_are_shown_by_model(serve: Any) -> None:
    async with serve() as ours:
        queues = (await ours.http.get("/queue/status")).json()

    places = queues["models"]["demo"]["places"]
    assert places > 0
    assert queues["models"] == {"demo": {"running": 0, "places": places, "waiting": 0, "fill": 0.0}}


async def test_status_has_each_backend_and_what_became_of_asking_it(serve: Any) -> None:
    async with serve() as other, serve() as ours:
        for name, port in (("other", other.port), ("away", 9)):
            body = {"name": name, "url": f"http://127.0.0.1:{port}/v1", "type": "serving", "models": ["demo"]}
            await ours.http.post("/backends/register", json=body)
        answered = await ours.chat(model="other:demo")
        backends = {backend["name"]: backend for backend in (await ours.http.get("/status")).json()["backends"]}
        page = (await ours.http.get("/")).text

    assert answered.status_code == 200
    assert (backends["other"]["ready"], backends["other"]["ready_for"]) == (True, 1)
    assert backends["other"]["asked"] == {"ok": 1}
    assert (backends["away"]["ready"], backends["away"]["ready_for"], backends["away"]["asked"]) == (False, 0, {})
    assert "cannot be reached" in backends["away"]["problem"]
    assert '<section id="backends" >' in page
    assert "<td>1 ok</td>" in page


async def test_what_may_leave_the_house_is_counted_from_zero(serve: Any) -> None:
    async with serve() as other, serve(further={"backends": {"external": True}}) as ours:
        body = {"url": f"http://127.0.0.1:{other.port}/v1", "type": "serving", "models": ["demo"]}
        for name, external in (("outside", True), ("inside", False)):
            await ours.http.post("/backends/register", json={**body, "name": name, "external": external})
        before = series((await ours.http.get("/metrics")).text, "serving_external_requests_total")
        await ours.chat(model="outside:demo")
        after = (await ours.http.get("/metrics")).text

    assert before == [("default", "outside", 0.0)]
    assert series(after, "serving_external_requests_total") == [("default", "outside", 1.0)]


def series(text: str, metric: str) -> list[tuple[str, str, float]]:
    """(team, backend, value) of a metric's samples."""
    found = re.findall(rf"^{metric}\{{(.*)\}} (.*)$", text, re.MULTILINE)
    labels = [(dict(re.findall(r'(\w+)="([^"]*)"', names)), value) for names, value in found]
    return [(each["team"], each["backend"], float(value)) for each, value in labels]


async def test_health_tells_how_much_there_is_to_do(serve: Any) -> None:
    async with serve(ScriptLine(completion="<|channel|>final<|message|>" + " word" * 200, step_ms=20)) as ours:
        async with ours.http.stream("POST", "/v1/chat/completions", json=QUESTION) as reply:
            await anext(reply.aiter_lines())
            busy = (await ours.http.get("/health")).json()
        await until_idle(ours.http)

    assert busy == {"status": "ok", "queue": {"running": 1, "waiting": 0}}


async def until_idle(http: Any) -> None:
    """What a client left behind is given back; fails after 10 s."""
    deadline = time.monotonic() + 10
    while (await http.get("/health")).json()["queue"]["running"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_key_goes_to_its_backend_and_nowhere_else(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = new_key()
    async with serve(further={"admin_key_hash": str(admin.hashed(new_salt()))}) as other:
        section = {"keys": {"OTHER_API_KEY": "sk-secret"}, "key_variables": ["OTHER_API_KEY"]}
        async with serve(further={"backends": section}) as ours:
            body = {"name": "other", "url": f"http://127.0.0.1:{other.port}", "type": "serving"}
            reply = await ours.http.post("/backends/register", json={**body, "api_key_env": "OTHER_API_KEY"})
            listed = await ours.http.get("/backends")

    assert reply.json()["api_key_env"] == "OTHER_API_KEY"
    assert "sk-secret" not in reply.text + listed.text
