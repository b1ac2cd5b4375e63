"""Cache key of an answer: equal for identical requests alone.

What is rendered counts as its tokens, what is settled (max_tokens) as it was settled, and everything else as it stands:
a field that a request gets one day is part of the key unless it is taken out here.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from typing import Any

import serving
from serving.engine.base import EngineInfo
from serving.generation.completions import CompletionGeneration
from serving.generation.plan import Plan
from serving.settings.models import ModelSettings

_FORMAT = 1
"""Of kept answers: a change makes all those before it unknown."""

_OF_NO_ACCOUNT = {"aliases", "replicas", "reasoning", "fallback", "truncation_answer_share"}
"""Settings of a model that change no answer, or do so through the request."""


def model_key(name: str, settings: ModelSettings, info: EngineInfo) -> str:
    """Key of a model: differs by checkpoint, by setting and by version."""
    made_of = [name, settings.model_dump(mode="json", exclude=_OF_NO_ACCOUNT), info.model, dict(info.versions)]
    return json.dumps([_FORMAT, serving.__version__, *made_of], sort_keys=True)


def chat_key(model: str, planned: Plan) -> str:
    """Key of a chat answer; `model` comes from model_key."""
    request = planned.request
    rest = replace(
        request,
        request_id="",
        # Rendered. What of the tools is not, such as `strict`, stays.
        conversation=replace(request.conversation, messages=()),
        sampling=replace(request.sampling, max_tokens=planned.max_tokens),
        max_tokens=planned.max_tokens,
        # They have had their effect on the prompt.
        truncate=False,
        answer_share=0.0,
    )
    return _digest("chat", model, rest, [planned.prompt_token_ids])


def completion_key(model: str, request: CompletionGeneration, info: EngineInfo) -> str:
    """Key of a raw completion, whose length depends on the room that the engine leaves."""
    rest = replace(request, request_id="", prompts=(), sampling=replace(request.sampling, max_tokens=0))
    room = f"{info.max_model_len} {info.max_output_tokens}"
    return _digest("completion", f"{model} {room}", rest, request.prompts)


def _digest(kind: str, model: str, rest: Any, prompts: Sequence[Sequence[int]]) -> str:
    # Fields of properties in another order make another prompt, so they are left in theirs.
    digest = hashlib.sha256(json.dumps([kind, model, asdict(rest)], default=_plain).encode())
    for prompt in prompts:
        digest.update(len(prompt).to_bytes(8, "big"))
        digest.update(array("I", prompt).tobytes())
    return digest.hexdigest()


def _plain(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    # To be written out in a way that tells all values apart; not doing so could mix answers up.
    raise TypeError(f"a request has a {type(value).__name__}, which the key of answers does not know how to write")
