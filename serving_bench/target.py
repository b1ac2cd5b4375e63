"""A server to measure: where it is, how to speak to it, which model it serves."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import serving
from serving.errors import BenchError, SettingsError
from serving_bench.replies import error_words

_ASK_S = 30.0
_LONGEST_REPLY = 4 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """A server's base URL in parts. `path` is what comes before /chat/completions, "/v1" unless told otherwise."""

    name: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """Base URL."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port, as in a URL or a Host header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(url: str, name: str, field: str) -> Target:
    """Read `http://HOST:PORT` with or without `/v1`; raises SettingsError for `field`."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise SettingsError([(field, f"should be a base URL such as http://127.0.0.1:8000/v1; got {url!r}")])
    if parts.username is not None or parts.password is not None:
        message = "has a password in it, which every user of this machine could read; use --api-key-env"
        raise SettingsError([(field, message)])
    return Target(
        name=name,
        scheme=parts.scheme,
        host=parts.hostname,
        port=port or (443 if parts.scheme == "https" else 80),
        path=parts.path.rstrip("/") or "/v1",
    )


def authorization(key: str | None) -> dict[str, str]:
    """Header that carries a key. Raises SettingsError, which does not show it."""
    if key is None:
        return {}
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError([("--api-key-env", "the variable's value has blanks or characters that no header takes")])
    return {"authorization": f"Bearer {key}"}


def first_model(target: Target, key: str | None) -> str:
    """First id of GET /models; raises BenchError."""
    request = Request(
        f"{target.url}/models", headers={"user-agent": f"serving-bench/{serving.__version__}", **authorization(key)}
    )
    try:
        with urlopen(request, timeout=_ASK_S) as reply:
            body = reply.read(_LONGEST_REPLY)
    except HTTPError as error:
        with error:
            raise BenchError(_refusal(target, error.code, error.read(_LONGEST_REPLY))) from error
    except (URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise BenchError(f"{target.url} does not answer: {reason}. Is the server up, and the port right?") from error
    try:
        listed = json.loads(body)["data"]
        return str(listed[0]["id"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BenchError(f"{target.url}/models names no model; say which with --model") from error


def _refusal(target: Target, status: int, body: bytes) -> str:
    if status in (401, 403):
        return f"{target.url} wants a key ({status}): put it into a variable and name that with --api-key-env"
    try:
        words = error_words(json.loads(body))
    except ValueError:
        words = ""
    advice = "is this the base URL of an OpenAI-compatible API? --model NAME does without /models"
    return f"{target.url}/models answered {status}: {words[:200] or 'no reason given'}; {advice}"


def resolve(target: Target) -> str:
    """First address of the host: looked up once, not for each connection. Raises BenchError."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BenchError(f"no machine is called {target.host!r}: {error.strerror or error}") from error
    return str(found[0][4][0])


def tls(target: Target) -> ssl.SSLContext | None:
    """TLS context for https, with the system's certificates."""
    return ssl.create_default_context() if target.scheme == "https" else None
