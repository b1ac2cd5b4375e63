"""gpt-oss's tokenizer as Hugging Face's tokenizer.json, made from the vocabulary oss-harmony carries."""

from __future__ import annotations

import json
from typing import Any

from serving.harmony.vocabulary import FIRST_SPECIAL_ID, VOCABULARY_SIZE, token_table

SPLIT = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
"""tiktoken's pattern for o200k (tiktoken_ext/openai_public.py)."""


def printable_bytes() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte (openai/gpt-2, encoder.py, bytes_to_unicode)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in table)
    table.update({byte: chr(256 + place) for place, byte in enumerate(others)})
    return table


def tokenizer_json() -> bytes:
    """The file's content, 22 MB.

    tiktoken joins any two neighbours whose joint bytes are a token, lowest id first; so every way to split a token
    into two tokens becomes a merge, in the order of ids.
    """
    stand_in = str.maketrans({chr(byte): text for byte, text in printable_bytes().items()})
    tokens = token_table()[:FIRST_SPECIAL_ID]
    written = [token.decode("latin-1").translate(stand_in) for token in tokens]
    rank = {text: place for place, text in enumerate(written)}
    merges: list[tuple[str, str]] = []
    for text in written:
        splits = [(text[:cut], text[cut:]) for cut in range(1, len(text)) if text[:cut] in rank and text[cut:] in rank]
        merges += sorted(splits, key=lambda pair: (rank[pair[0]], rank[pair[1]]))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    document: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special(token, spelled) for token, spelled in special_tokens()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level | {"trim_offsets": False},
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": rank,
            "merges": merges,
        },
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def special_tokens() -> list[tuple[int, str]]:
    """Ids from 199998 on, as they are spelled."""
    table = token_table()
    return [(token, table[token].decode()) for token in range(FIRST_SPECIAL_ID, VOCABULARY_SIZE)]


def special(token: int, spelled: str) -> dict[str, Any]:
    """An entry of `added_tokens`."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token, "content": spelled, **flags}


def tokenizer_config_json() -> bytes:
    """tokenizer_config.json, as gpt-oss has it. There is no chat template: prompts are rendered here, as token ids."""
    return json.dumps(
        {
            "bos_token": "<|startoftext|>",
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|return|>",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": 8192,
            "pad_token": "<|endoftext|>",
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
        indent=1,
    ).encode()
