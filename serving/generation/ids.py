"""Ids of tool calls in answers."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable

MintId = Callable[[], str]
"""Function that makes a fresh id at each call; tests pass one that counts."""

_ALPHABET = string.ascii_letters + string.digits


def mint_call_id() -> str:
    """Make a tool call's id in OpenAI's form: `call_` and 24 letters and digits."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))
