"""Places in a schema, in OpenAI's notation: `properties.age.anyOf[0]`."""

from __future__ import annotations


def joined(at: str, step: str | int) -> str:
    """The place one step below `at`."""
    if isinstance(step, int):
        return f"{at}[{step}]"
    step = step[:64]
    return f"{at}.{step}" if at else step
