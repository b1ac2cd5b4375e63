"""Header of a reply that tells which parts of tools' schemas its forced calls are not held to."""

from __future__ import annotations

from collections.abc import Mapping

from serving.generation.constraints import not_held
from serving.generation.types import ChatGeneration

_LONGEST = 1000


def unenforced(generation: ChatGeneration) -> Mapping[str, str]:
    """The header x-unenforced-schema for a request that forces a call; nothing where all of the schemas is held."""
    places = [
        f"{tool.name}.{place}" if place else tool.name
        for tool in generation.conversation.tools
        if tool.name in generation.forced_tools
        for place in not_held(tool)
    ]
    if not places:
        return {}
    return {"x-unenforced-schema": ", ".join(places).encode("ascii", "backslashreplace").decode()[:_LONGEST]}
