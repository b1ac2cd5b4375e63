"""Patch: a grammar continues where another engine, or an earlier segment of the completion, left it.

vLLM 0.32 begins every grammar with a request's first new token. A request that takes over a body in its middle has the
body's first tokens in its prompt; they are accepted here as soon as the grammar is made. Loaded by vLLM in each of its
processes, like parent.py, through the entry points of the group `vllm.general_plugins`.
"""

from __future__ import annotations

import functools
import multiprocessing
from typing import Any

from serving.engine.vllm.source import WatchedSource

WATCHED = (
    WatchedSource(
        "v1/structured_output/__init__.py",
        "StructuredOutputManager._create_grammar",
        "0.32.0",
        "5ec858ad961cfb56c2c0d4e8127e7c6559753dbd08ba07f0e5387b504a175f84",
    ),
    WatchedSource(
        "v1/structured_output/__init__.py",
        "StructuredOutputManager.grammar_init",
        "0.32.0",
        "bd1b0cb3431678bb724a97a0fb51073c0fd0c6cdbc1916d2a41ee95c94beb3ef",
    ),
)

CONSTRAINED_TOKENS = "serving_constrained_tokens"
"""Key in SamplingParams.extra_args: how many tokens at the prompt's end the grammar has already seen."""


def continue_grammars() -> None:
    """Have vLLM's structured output manager (vllm/v1/structured_output/__init__.py) read CONSTRAINED_TOKENS."""
    if multiprocessing.parent_process() is None:
        return  # grammars are made in the engine's own process
    from vllm.v1.structured_output import StructuredOutputManager

    original = StructuredOutputManager._create_grammar
    if getattr(original, "continues", False):
        return

    @functools.wraps(original)
    def create(self: Any, request: Any) -> Any:
        grammar = original(self, request)
        seen = (request.sampling_params.extra_args or {}).get(CONSTRAINED_TOKENS, 0)
        if seen and not grammar.accept_tokens(request.request_id, list(request.prompt_token_ids[-seen:])):
            raise ValueError("the text so far does not match the grammar that should go on after it")
        return grammar

    create.continues = True  # type: ignore[attr-defined]  # a mark on our own function, read above
    StructuredOutputManager._create_grammar = create  # vLLM has no hook for this
