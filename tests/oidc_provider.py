"""A real OpenID provider for the tests that ask for one, in a process of its own on a port of the loopback."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from serving.cluster.run.process_tree import die_with_parent

USERS: tuple[Mapping[str, object], ...] = (
    {"sub": "ada", "groups": ["everybody", "ml-research"]},
    {"sub": "bob", "groups": ["sales"]},
    {"sub": "eve"},
    {"sub": "kim", "groups": "ml-research", "realm": {"teams": ["chatbots"]}},
)
AUDIENCE = "gpt-oss"


@dataclass(frozen=True)
class Provider:
    """A running provider; its keys are new at each start."""

    issuer: str
    port: int

    def token(self, user: str, audience: str = AUDIENCE) -> str:
        """An ID token, by the authorization code flow of a client of that name."""
        query = {
            "client_id": audience,
            "redirect_uri": "http://127.0.0.1:9/callback",
            "response_type": "code",
            "scope": "openid",
        }
        with httpx.Client(base_url=self.issuer, verify=False) as client:
            reply = client.post("/oauth2/authorize", params=query, data={"sub": user})
            assert reply.status_code == 302, reply.text
            (code,) = parse_qs(urlsplit(reply.headers["location"]).query)["code"]
            form = {"grant_type": "authorization_code", "code": code, "redirect_uri": query["redirect_uri"]}
            reply = client.post("/oauth2/token", data=form, auth=(audience, "secret"))
            assert reply.status_code == 200, reply.text
            return str(reply.json()["id_token"])


@contextlib.contextmanager
def running(port: int | None = None, *, max_age_s: int = 3600) -> Iterator[Provider]:
    """A provider with the users of these tests, whose tokens are valid for `max_age_s`."""
    if port is None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    command += ["--token-max-age", str(max_age_s)]
    for user in USERS:
        command += ["--user-claims", json.dumps(user)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
    ) as process:
        try:
            issuer = f"http://127.0.0.1:{port}"
            _wait_for(issuer, process)
            yield Provider(issuer, port)
        finally:
            process.terminate()


def _wait_for(issuer: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{issuer}/jwks", verify=False)
            return
        time.sleep(0.05)


@pytest.fixture(scope="session")
def oidc_provider() -> Iterator[Provider]:
    """A provider that this session has started."""
    with running() as provider:
        yield provider
