"""Tokens of a real identity provider, on the whole application."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from serving.errors import SettingsError
from serving.settings.oidc import OidcSettings
from serving.settings.tree import Settings
from serving.tenancy.usage.ledger import day_of
from tests.http_server import HELLO, NOW, Serve, Served
from tests.oidc_provider import AUDIENCE, Provider, running
from tests.teams_files import NewKey, WriteTeams


@pytest.fixture
def further(tmp_path: Path, write_teams: WriteTeams, oidc_provider: Provider) -> dict[str, Any]:
    return settings(write_teams({"research": {}, "chatbots": {"models": []}}), oidc_provider.issuer)


def settings(teams_file: Path, issuer: str, **changes: Any) -> dict[str, Any]:
    fields = {"teams": {"ml-research": "research", "nobody": "gone"}, **changes}
    return {"teams_file": str(teams_file), "oidc": OidcSettings(issuer=issuer, audience=(AUDIENCE,), **fields)}


async def asked(served: Served, token: str) -> httpx.Response:
    return await served.http.get("/v1/models", headers={"authorization": f"Bearer {token}"})


def told(reply: httpx.Response, status: int, code: str) -> str:
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["code"] == code
    return str(error["message"])


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def test_a_token_is_of_the_team_that_its_claim_names(
    serve: Serve, further: dict[str, Any], oidc_provider: Provider
) -> None:
    async with serve(further=further) as served:
        client = served.openai.with_options(api_key=oidc_provider.token("ada"))
        reply = await client.chat.completions.create(model="demo", messages=[HELLO])  # type: ignore[list-item]  # is one

        assert reply.choices[0].message.content == "Hello there!"
        today = day_of(NOW)
        await served.tenancy.ledger.flush()
        assert {team for (_, team, _, _), _ in await served.tenancy.ledger.store.read(today, today)} == {"research"}


async def test_keys_work_beside_tokens(
    serve: Serve, write_teams: WriteTeams, stored_key: NewKey, oidc_provider: Provider
) -> None:
    key, stored = stored_key()
    teams = write_teams({"research": {"keys": [stored]}})
    async with serve(further=settings(teams, oidc_provider.issuer)) as served:
        assert (await asked(served, key.text)).status_code == 200
        assert (await asked(served, oidc_provider.token("ada"))).status_code == 200
        assert (await asked(served, "sk-wrong")).json()["error"]["code"] == "invalid_api_key"
        anthropic = await served.http.get("/v1/models", headers={"x-api-key": oidc_provider.token("ada")})
        assert anthropic.status_code == 200


async def test_the_claim_may_lie_in_an_object_and_name_the_team_itself(
    serve: Serve, write_teams: WriteTeams, oidc_provider: Provider
) -> None:
    teams = write_teams({"chatbots": {"models": []}, "research": {}})
    further = settings(teams, oidc_provider.issuer, claim="realm.teams", teams={})
    async with serve(further=further) as served:
        reply = await asked(served, oidc_provider.token("kim"))
        assert reply.json()["data"] == []  # as the team chatbots may use none
        told(await asked(served, oidc_provider.token("ada")), 403, "no_team")


@pytest.mark.parametrize("user", ["bob", "eve"])
async def test_a_token_that_names_no_team_is_told(
    serve: Serve, further: dict[str, Any], oidc_provider: Provider, user: str
) -> None:
    async with serve(further=further) as served:
        message = told(await asked(served, oidc_provider.token(user)), 403, "no_team")
    assert "'groups'" in message


async def test_a_token_without_a_signature_is_refused(
    serve: Serve, further: dict[str, Any], oidc_provider: Provider
) -> None:
    claims = claims_of(oidc_provider.token("ada"))
    async with serve(further=further) as served:
        for name in ("none", "None", "NONE", "", None):
            reply = await asked(served, forged({"alg": name, "typ": "JWT"}, claims))
            assert "RS256" in told(reply, 401, "invalid_token")
            assert reply.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(
    serve: Serve, further: dict[str, Any], oidc_provider: Provider
) -> None:
    token = oidc_provider.token("ada")
    public = (await asyncio.to_thread(httpx.get, f"{oidc_provider.issuer}/jwks", verify=False)).content
    unsigned = forged({"alg": "HS256", "typ": "JWT"}, claims_of(token)).rstrip(".")
    signature = base64.urlsafe_b64encode(hmac.digest(public, unsigned.encode(), "sha256")).decode().rstrip("=")
    async with serve(further=further) as served:
        assert "HS256" in told(await asked(served, f"{unsigned}.{signature}"), 401, "invalid_token")


async def test_a_token_for_another_service_is_refused(
    serve: Serve, further: dict[str, Any], oidc_provider: Provider
) -> None:
    async with serve(further=further) as served:
        message = told(await asked(served, oidc_provider.token("ada", "payroll")), 401, "invalid_token")
    assert "audience" in message


async def test_a_token_that_has_expired_is_refused(serve: Serve, write_teams: WriteTeams) -> None:
    with running(max_age_s=-3600) as provider:
        async with serve(further=settings(write_teams({"research": {}}), provider.issuer)) as served:
            assert "expired" in told(await asked(served, provider.token("ada")), 401, "invalid_token")


async def test_clocks_may_differ_by_the_leeway(serve: Serve, write_teams: WriteTeams) -> None:
    with running(max_age_s=-10) as provider:
        teams = write_teams({"research": {}})
        async with serve(further=settings(teams, provider.issuer, leeway_s=600)) as served:
            assert (await asked(served, provider.token("ada"))).status_code == 200


async def test_a_changed_token_is_refused(serve: Serve, further: dict[str, Any], oidc_provider: Provider) -> None:
    header, claims, signature = oidc_provider.token("bob").split(".")
    changed = {**claims_of(f"{header}.{claims}.{signature}"), "groups": ["ml-research"]}
    body = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")
    async with serve(further=further) as served:
        assert "signature" in told(await asked(served, f"{header}.{body}.{signature}"), 401, "invalid_token")


async def test_a_token_of_another_key_is_refused(
    serve: Serve, further: dict[str, Any], oidc_provider: Provider
) -> None:
    token = oidc_provider.token("ada")
    own = rsa.generate_private_key(65537, 2048)
    async with serve(further=further) as served:
        for headers in ({}, {"kid": "mine"}):
            mine = jwt.encode(claims_of(token), own, "RS256", headers=headers)
            assert "sign" in told(await asked(served, mine), 401, "invalid_token")


@pytest.mark.parametrize("missing", ["exp", "aud", "iss", "sub"])
async def test_a_token_without_a_claim_that_it_needs_is_refused(
    serve: Serve, write_teams: WriteTeams, missing: str, monkeypatch: pytest.MonkeyPatch, oidc_provider: Provider
) -> None:
    own = rsa.generate_private_key(65537, 2048)
    claims = claims_of(oidc_provider.token("ada"))
    del claims[missing]
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(own.public_key()))
    async with serve(further=settings(write_teams({"research": {}}), oidc_provider.issuer)) as served:
        assert served.tenancy.tokens is not None
        await asked(served, oidc_provider.token("ada"))
        monkeypatch.setattr(served.tenancy.tokens.keys, "_keys", [public])
        told(await asked(served, jwt.encode(claims, own, "RS256")), 401, "invalid_token")


async def test_after_a_rotation_new_tokens_are_accepted_and_old_ones_are_not(
    serve: Serve, write_teams: WriteTeams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.tenancy.auth.provider_keys._COOL_DOWN_S", 0.0)
    with running() as before:
        port, issuer = before.port, before.issuer
        old = before.token("ada")
        further = settings(write_teams({"research": {}}), issuer)
    async with serve(further=further) as served:
        reply = await asked(served, old)  # the provider is away, and its keys were never read
        message = told(reply, 503, "identity_provider_unavailable")
        assert "retry-after" in reply.headers
        assert "Keys work" in message

        with running(port) as after:
            assert (await asked(served, after.token("ada"))).status_code == 200
            told(await asked(served, old), 401, "invalid_token")
            new = after.token("ada")
        assert (await asked(served, new)).status_code == 200  # the keys are kept while it is away


@pytest.mark.parametrize(
    "token", ["ey.a.b", "eyJ.eyJ.", "ey..", "eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "eyJ9" * 2000 + ".a.b"]
)
async def test_what_is_no_token_is_told(serve: Serve, further: dict[str, Any], token: str) -> None:
    async with serve(further=further) as served:
        told(await asked(served, token), 401, "invalid_token")


async def test_a_token_does_not_open_the_administrators_routes(
    serve: Serve, further: dict[str, Any], oidc_provider: Provider
) -> None:
    async with serve(further=further) as served:
        headers = {"authorization": f"Bearer {oidc_provider.token('ada')}"}
        assert (await served.http.get("/metrics", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"issuer": "https://id.example"}, "audience"),
        ({"issuer": "http://id.example", "audience": ["a"]}, "issuer"),
        ({"issuer": "id.example", "audience": ["a"]}, "issuer"),
        ({"issuer": "https://id.example", "audience": ["a"], "algorithms": ["none"]}, "algorithms"),
        ({"issuer": "https://id.example", "audience": ["a"], "algorithms": ["HS256"]}, "algorithms"),
    ],
)
def test_settings_that_would_accept_anything_are_refused(fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        OidcSettings(**fields)


def test_tokens_without_a_teams_file_are_refused() -> None:
    with pytest.raises((ValueError, SettingsError), match="teams_file"):
        Settings(oidc=OidcSettings(issuer="https://id.example", audience=("a",)))
