"""Settings from environment variables of other programs, such as OLLAMA_BASE_URL and OPENAI_API_KEY."""

from __future__ import annotations

from collections.abc import Mapping

from serving.settings.backends import KNOWN_TYPES, variables_of
from serving.settings.layer import Layer


def usual_variables(environ: Mapping[str, str], lower: Layer) -> Layer:
    """Read addresses and keys of servers from `environ`; `lower` has the backends.

    Keys are read only by the names that a type usually has, that a backend gives, or that `key_variables` lists, and
    only where there is a `backends` section.
    """
    layer = Layer()
    section = lower.get(("backends",))
    if not isinstance(section, dict):
        return layer
    for type_, known in KNOWN_TYPES.items():
        if url := environ.get(known.url_variable):
            layer.set(("backends", "base_urls", type_), url, known.url_variable)
    for name in sorted(variables_of(section)):
        if key := environ.get(name):
            layer.set(("backends", "keys", name), key, name)
    return layer
