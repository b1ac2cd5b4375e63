"""Workload: request bodies, each made from the seed and its number alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any, Literal

from serving.errors import SettingsError
from serving_bench.filler import filler
from serving_bench.lengths import LONGEST, Lengths

Api = Literal["chat", "responses", "completions"]

PATHS: Mapping[Api, str] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "completions": "/completions",
}
"""Below the base URL."""

LONG_QUESTION = "Count to 200."
"""The default: every model answers at length and much the same way, the embedded demo included (some 600 tokens)."""

TOOL_QUESTION = "What is the weather in Paris?"
_TOOL_NAME = "get_weather"
_TOOL_DESCRIPTION = "Gets the current weather in the provided location."
_TOOL_PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "The city"}},
    "required": ["city"],
}


@dataclass(frozen=True)
class Workload:
    """Workload of one kind of request.

    `prompt` is the length of filler before the question, of which the share `shared_prefix` is the same in every
    request; `reply` becomes the most tokens to write. `effort` holds (name, weight). The share `tools` of requests
    asks for a tool call instead. `extra` goes into the body last; None there removes a field.
    """

    api: Api = "chat"
    questions: Sequence[str] = (LONG_QUESTION,)
    prompt: Lengths | None = None
    reply: Lengths | None = None
    effort: Sequence[tuple[str, float]] = ()
    shared_prefix: float = 0.0
    tools: float = 0.0
    stream: bool = True
    temperature: float | None = None
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self, model: str, number: int) -> bytes:
        """Body of request `number`, as JSON."""
        # Every draw is made in every request, so that one profile's change leaves the others' values alone.
        random = Random(f"{self.seed}/{number}")
        wants_tool = random.random() < self.tools
        effort = self._effort(random)
        background = self._background(random)
        reply = self.reply.draw(random) if self.reply is not None else None
        question = TOOL_QUESTION if wants_tool else random.choice(self.questions)
        body: dict[str, Any] = {"model": model, **_asked(self.api, background, question)}
        if self.stream:
            body["stream"] = True
            if self.api != "responses":
                body["stream_options"] = {"include_usage": True}
        if reply is not None:
            body["max_output_tokens" if self.api == "responses" else "max_tokens"] = reply
        if effort is not None:
            body |= {"reasoning": {"effort": effort}} if self.api == "responses" else {"reasoning_effort": effort}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if wants_tool:
            body["tools"] = [_tool(self.api)]
        body |= self.extra
        return json.dumps({name: value for name, value in body.items() if value is not None}).encode()

    def _effort(self, random: Random) -> str | None:
        draw = random.random()
        if not self.effort:
            return None
        left = draw * sum(weight for _, weight in self.effort)
        for name, weight in self.effort:
            left -= weight
            if left < 0:
                return name
        return self.effort[-1][0]

    def _background(self, random: Random) -> str:
        if self.prompt is None:
            return ""
        length = self.prompt.draw(random)
        shared = round(length * self.shared_prefix)
        return " ".join([*self._prefix[:shared], *filler(random, length - shared).split()])

    @cached_property
    def _prefix(self) -> Sequence[str]:
        # As long as the longest prompt that is likely; a longer one shares this much of itself.
        return filler(Random(f"{self.seed}/prefix"), min(LONGEST, 131_072)).split() if self.shared_prefix else ()


def _asked(api: Api, background: str, question: str) -> dict[str, Any]:
    if api == "completions":
        return {"prompt": f"{background}\n\n{question}" if background else question}
    messages = [{"role": "system", "content": background}] if background else []
    messages.append({"role": "user", "content": question})
    return {"input" if api == "responses" else "messages": messages}


def _tool(api: Api) -> dict[str, Any]:
    function = {"name": _TOOL_NAME, "description": _TOOL_DESCRIPTION, "parameters": _TOOL_PARAMETERS}
    return {"type": "function", **function} if api == "responses" else {"type": "function", "function": function}


def parse_effort(text: str) -> tuple[tuple[str, float], ...]:
    """Read `low`, or shares such as `low=0.5,high=0.5`; raises SettingsError."""
    mix: list[tuple[str, float]] = []
    for part in text.split(","):
        name, equals, share = part.strip().partition("=")
        try:
            weight = float(share) if equals else 1.0
        except ValueError:
            weight = -1.0
        if not name.isalpha() or not 0 <= weight < float("inf"):
            mix.clear()
            break
        mix.append((name, weight))
    if not sum(weight for _, weight in mix):
        raise SettingsError([("--effort", f"should be an effort or a mix such as low=0.5,high=0.5; got {text!r}")])
    return tuple(mix)


def parse_extra(text: str) -> dict[str, Any]:
    """Read a JSON object; raises SettingsError."""
    try:
        extra = json.loads(text)
    except ValueError as error:
        raise SettingsError([("--extra", f"is not JSON: {error}")]) from error
    if not isinstance(extra, dict):
        raise SettingsError([("--extra", f'should be a JSON object such as {{"top_p": 0.9}}; got {text}')])
    return extra
