"""Words for parts of a conversation that gpt-oss cannot read, where leaving them out lets an agent go on."""

from __future__ import annotations

_NOUNS = ("image", "audio", "video", "document", "file")


def left_out(kind: str) -> str:
    """Text that stands for a part of type `kind`, such as image_url or input_file."""
    noun = next((noun for noun in _NOUNS if noun in kind), kind[:64] or "part")
    return f"[{noun} left out: this model reads text alone]"
