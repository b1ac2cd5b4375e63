"""Ids that answers carry."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable

MintId = Callable[[], str]
"""Makes a fresh id at each call; tests pass one that counts."""

_ALPHABET = string.ascii_letters + string.digits


def mint_call_id() -> str:
    """A tool call's id in OpenAI's form: `call_` and 24 letters and digits."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))
