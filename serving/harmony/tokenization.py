"""Tokens of conversations, prompts and texts: the part of this package that other packages use beside its types.

The modules that read or change a completion under way know more of Harmony's tokens: choice, interventions and segment
in generation/. `make lint` holds that. Another model family begins here.
"""

from __future__ import annotations

from serving.harmony.header_tokens import final_header
from serving.harmony.prompt import PromptMessage, prompt_messages
from serving.harmony.raw import RawDecoder, decode_raw, encode_raw
from serving.harmony.recovery import RECOVERY_KINDS
from serving.harmony.render import render_prompt
from serving.harmony.vocabulary import (
    FIRST_SPECIAL_ID,
    STOP_TOKEN_IDS,
    TEXT_ENDS,
    VOCABULARY_SIZE,
    token_bytes,
    token_table,
)

__all__ = [
    "FIRST_SPECIAL_ID",
    "RECOVERY_KINDS",
    "STOP_TOKEN_IDS",
    "TEXT_ENDS",
    "VOCABULARY_SIZE",
    "PromptMessage",
    "RawDecoder",
    "decode_raw",
    "encode_raw",
    "final_header",
    "prompt_messages",
    "render_prompt",
    "token_bytes",
    "token_table",
]
