from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from serving.settings.keys import Key, new_key, new_salt

Teams = Callable[..., Path]
HELLO = {"role": "user", "content": "Hello!"}
PUBLIC = ("/health", "/ready", "/docs", "/openapi.json")


def line(key: Key, **fields: Any) -> dict[str, Any]:
    return {"id": key.id, "hash": str(key.hashed(new_salt())), **fields}


@pytest.fixture
def key() -> Key:
    return new_key()


@pytest.fixture
def teams(tmp_path: Path, key: Key) -> dict[str, Any]:
    """Settings with a teams file, in which the team research has `key`."""
    path = tmp_path / "teams.yaml"
    path.write_text(yaml.safe_dump({"teams": {"research": {"keys": [line(key)]}}}))
    return {"teams_file": str(path)}


def bearer(key: Key | str) -> dict[str, str]:
    return {"authorization": f"Bearer {key.text if isinstance(key, Key) else key}"}


def revoke(path: Path) -> None:
    path.write_text(path.read_text() + "      revoked: true\n")


async def test_a_teams_key_opens_the_api(serve: Any, teams: Any, key: Key) -> None:
    async with serve(further=teams) as served:
        client = served.openai.with_options(api_key=key.text)
        reply = await client.chat.completions.create(model="demo", messages=[HELLO])
        models = await client.models.list()

    assert reply.choices[0].message.content == "Hello there!"
    assert models.data


async def test_a_key_may_come_as_anthropics_clients_send_it(serve: Any, teams: Any, key: Key) -> None:
    async with serve(further=teams) as served:
        good = await served.http.get("/v1/models", headers={"x-api-key": key.text})
        wrong = await served.http.get("/v1/models", headers={"x-api-key": new_key().text})

    assert (good.status_code, wrong.status_code) == (200, 401)


async def test_openais_client_knows_the_refusal(serve: Any, teams: Any) -> None:
    async with serve(further=teams) as served:
        with pytest.raises(openai.AuthenticationError) as raised:
            await served.openai.models.list()

    assert raised.value.code == "invalid_api_key"


async def test_whatever_is_wrong_with_a_key_reads_the_same(serve: Any, teams: Any, key: Key) -> None:
    headers: list[dict[str, str]] = [
        {},
        {"authorization": key.text},
        {"authorization": f"Basic {key.text}"},
        {"api-key": key.text},
        {"authorization": "Bearer"},
        bearer("none"),
        bearer(new_key()),
        bearer(Key(key.id, new_key().secret)),
        bearer(Key(new_key().id, key.secret)),
    ]
    async with serve(further=teams) as served:
        replies = [await served.http.get("/v1/models", headers=each) for each in headers]
        again = await served.http.get("/v1/models", headers=bearer(key))

    assert {reply.status_code for reply in replies} == {401}
    assert {reply.text for reply in replies} == {replies[0].text}
    assert json.loads(replies[0].text)["error"]["type"] == "invalid_request_error"
    assert {reply.headers["www-authenticate"] for reply in replies} == {"Bearer"}
    assert again.status_code == 200  # failures of others on one's address cost nothing


@pytest.mark.parametrize("path", PUBLIC)
async def test_public_routes_ask_for_nothing(serve: Any, teams: Any, path: str) -> None:
    async with serve(further=teams) as served:
        assert (await served.http.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("HEAD", "/v1/models"),
        ("GET", "/v1/models/demo"),
        ("OPTIONS", "/v1/models"),
        ("GET", "/version"),
        ("GET", "/nothing/here"),
        ("GET", "//health"),
        ("GET", "/health/"),
        ("GET", "/health/../v1/models"),
        ("GET", "/health%2f..%2fv1/models"),
        ("GET", "/metrics"),
        ("GET", "/metrics/"),
        ("GET", "/admin"),
        ("GET", "/admin/usage"),
    ],
)
async def test_everything_else_wants_a_key(serve: Any, teams: Any, method: str, path: str) -> None:
    async with serve(further=teams) as served:
        reply = await served.http.request(method, httpx.URL(f"http://{served.host}:{served.port}{path}"))

    assert reply.status_code == 401


async def test_every_route_there_is_is_public_on_purpose_or_wants_a_key(serve: Any, teams: Any) -> None:
    async with serve(further=teams) as served:
        paths = (await served.http.get("/openapi.json")).json()["paths"]
        routes = [(method, path) for path, operations in paths.items() for method in operations]
        # At once, because failures are slowed
        replies = await asyncio.gather(
            *(served.http.request(method, path.replace("{", "").replace("}", "")) for method, path in routes)
        )

    for (method, path), reply in zip(routes, replies, strict=True):
        assert (reply.status_code == 401) == (path not in PUBLIC), f"{method} {path}"


async def test_no_engine_is_asked_without_a_key(serve: Any, teams: Any) -> None:
    async with serve(further=teams) as served:
        reply = await served.chat()

        assert reply.status_code == 401
        assert not served.engine.requests


async def test_the_administrators_routes_want_the_administrators_key(serve: Any, teams: Any, key: Key) -> None:
    admin = new_key()
    settings = {**teams, "admin_key_hash": str(admin.hashed(new_salt()))}
    async with serve(further=settings) as served:
        allowed = await served.http.get("/metrics", headers=bearer(admin))
        forbidden = await served.http.get("/metrics", headers=bearer(key))
        elsewhere = await served.http.get("/v1/models", headers=bearer(admin))

    assert allowed.status_code == 200
    assert (forbidden.status_code, forbidden.json()["error"]["code"]) == (403, "permission_denied")
    assert elsewhere.status_code == 401


async def test_without_an_admin_key_no_team_is_the_administrator(serve: Any, teams: Any, key: Key) -> None:
    async with serve(further=teams) as served:
        assert (await served.http.get("/metrics", headers=bearer(key))).status_code == 403


async def test_an_admin_key_closes_metrics_of_an_open_server(serve: Any) -> None:
    admin = new_key()
    async with serve(further={"admin_key_hash": str(admin.hashed(new_salt()))}) as served:
        assert (await served.http.get("/metrics")).status_code == 401
        assert (await served.http.get("/metrics", headers=bearer(admin))).status_code == 200
        assert (await served.http.get("/v1/models")).status_code == 200


async def test_an_open_server_asks_for_no_key(serve: Any) -> None:
    async with serve() as served:
        assert (await served.chat()).status_code == 200
        assert (await served.http.get("/metrics")).status_code == 200


async def test_a_key_revoked_while_serving_is_refused(serve: Any, teams: Any, key: Key, until: Any) -> None:
    async with serve(further=teams) as served:
        assert (await served.http.get("/v1/models", headers=bearer(key))).status_code == 200
        revoke(Path(teams["teams_file"]))
        directory = served.tenancy.directory
        await until(lambda: directory.identify(key.text) is None, deadline_s=2)

        assert (await served.http.get("/v1/models", headers=bearer(key))).status_code == 401


async def test_keys_are_in_no_log(serve: Any, teams: Any, key: Key, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    wrong = new_key()
    async with serve(further=teams) as served:
        await served.chat()
        await served.http.get("/v1/models", headers=bearer(wrong))
        await served.http.get("/v1/models", headers=bearer(key))

    for secret in (wrong.secret, key.secret):
        assert secret not in caplog.text
