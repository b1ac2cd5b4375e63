"""pip's configured package sources as arguments of uv, which reads none of pip's settings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

# `pip config list` prints KIND.NAME='VALUE'; variables such as PIP_FIND_LINKS have the kind :env:.
_LINE = re.compile(r"^(?P<kind>:env:|install|global)\.(?P<name>[\w-]+)=(?P<value>.+)$")
_STRONGEST_FIRST = (":env:", "install", "global")

_UV_VARIABLES = {
    "--default-index": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "--index": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "--find-links": ("UV_FIND_LINKS",),
    "--allow-insecure-host": ("UV_INSECURE_HOST",),
}


def parse(listing: str) -> dict[str, str]:
    """pip's settings by name from the output of `pip config list`: variables over install's over global ones."""
    found: dict[tuple[str, str], str] = {}
    for line in listing.splitlines():
        if match := _LINE.match(line.strip()):
            name = match["name"].replace("_", "-")
            found[match["kind"], name] = str(ast.literal_eval(match["value"]))
    names = {name for _, name in found}
    return {name: next(found[kind, name] for kind in _STRONGEST_FIRST if (kind, name) in found) for name in names}


def uv_arguments(settings: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """Arguments that give uv the sources of `settings`, less those that a UV_ variable in `environ` sets already."""
    arguments = list(_arguments(settings, environ))
    if "--index" in arguments:
        # As pip does: the version asked for, from whichever index has it.
        arguments += ["--index-strategy", "unsafe-best-match"]
    return arguments


def _arguments(settings: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[str]:
    options = {
        "--default-index": settings.get("index-url", "").split(),
        "--index": settings.get("extra-index-url", "").split(),
        "--find-links": settings.get("find-links", "").split(),
        "--allow-insecure-host": settings.get("trusted-host", "").split(),
    }
    for option, values in options.items():
        if not any(environ.get(variable) for variable in _UV_VARIABLES[option]):
            for value in values:
                yield option
                yield value
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        yield "--no-index"


def uv_environment(settings: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with pip's certificates and time-out in the variables that uv reads, where those are not set."""
    result = dict(environ)
    for name, variable in (
        ("cert", "SSL_CERT_FILE"),
        ("timeout", "UV_HTTP_TIMEOUT"),
        ("default-timeout", "UV_HTTP_TIMEOUT"),
    ):
        if name in settings and not result.get(variable):
            result[variable] = settings[name]
    return result
