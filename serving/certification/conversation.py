"""Question of a check and its reply, in one form for all APIs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.errors import ServingError

Json = Any
"""A JSON value, as another server sent it: nothing of its shape is known."""

GROUPS = ("service", "shape", "stream", "usage", "tools", "schema", "errors", "requests")
"""Groups of checks, in the order of the table."""

_SPECIAL_TOKEN = re.compile(
    r"<\|(?:start|end|message|channel|constrain|return|call|startoftext|endoftext|reserved_\d+)\|>"
)


class CheckFailedError(ServingError):
    """Error of an endpoint that does not do what a check asks for; the message says what came instead."""


@dataclass(frozen=True, slots=True)
class Tool:
    """Function on offer. `parameters` is a JSON schema that OpenAI's strict mode takes; `example` is valid by it."""

    name: str
    description: str
    parameters: Mapping[str, Json]
    example: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Call:
    """Call of a function, its arguments as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Question to a model. `forced` names the tool that must be called, `schema` is the answer's.

    `results` are the calls of an earlier turn with their results, and `thought` the reasoning before them.
    """

    question: str
    tools: tuple[Tool, ...] = ()
    forced: str | None = None
    schema: Mapping[str, Json] | None = None
    max_tokens: int = 1024
    results: tuple[tuple[Call, str], ...] = ()
    thought: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of tokens. `total` is None for APIs without one, `reasoning` where the server does not tell."""

    prompt: int
    completion: int
    total: int | None = None
    reasoning: int | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """Answer. `aside` is text between calls, `finish` one of stop, length and tool_calls."""

    content: str
    reasoning: str
    aside: str
    calls: tuple[Call, ...]
    finish: str
    usage: Usage | None

    @property
    def named_calls(self) -> list[tuple[str, str]]:
        """Names and arguments of the calls; ids are new for each answer."""
        return [(call.name, call.arguments) for call in self.calls]

    def leaked(self) -> str | None:
        """The first special token among the texts, spelled; None where there is none."""
        texts = [self.content, self.reasoning, self.aside]
        for call in self.calls:
            texts += [call.name, call.arguments]
        match = _SPECIAL_TOKEN.search("\n".join(texts))
        return match[0] if match else None


def require(condition: bool, otherwise: str) -> None:
    """Raise CheckFailedError with the message unless the condition holds."""
    if not condition:
        raise CheckFailedError(otherwise)


def shortened(text: str, most: int = 200) -> str:
    """`text` in one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
