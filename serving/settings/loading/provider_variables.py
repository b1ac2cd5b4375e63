"""The environment variables that other programs use for their servers, as settings: OLLAMA_BASE_URL, OPENAI_API_KEY."""

from __future__ import annotations

from collections.abc import Mapping

from serving.settings.backends import KNOWN_TYPES, variables_of
from serving.settings.loading.layer import Layer


def usual_variables(environ: Mapping[str, str], lower: Layer) -> Layer:
    """What `environ` says of where servers are and of their keys; `lower` says which backends there are.

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
