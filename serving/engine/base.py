"""The protocols of engines: token ids in, token deltas out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from serving.engine.load import EngineLoad

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters. Names, ranges and defaults are vLLM's SamplingParams'.

    `logprobs` is the number of alternatives reported for each token (0: the sampled token alone; None: none at all).
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] | None = None
    logprobs: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    min_tokens: int = 0


AS_MANY_AS_FIT = 2**31 - 1
"""Sampling.min_tokens of a completion that may not end by itself; lowered to max_tokens where that is settled."""

ConstraintKind = Literal["json_object", "json_schema", "regex", "choice", "grammar"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """Constraint on the text: `value` is a JSON schema, a regular expression, a JSON list of strings or a grammar.

    Kinds and their meaning are those of vLLM's StructuredOutputsParams; "json_object" needs no value.
    """

    kind: ConstraintKind
    value: str = ""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter over an engine's model: all that an engine needs to find it, also one that starts later.

    `source` is as in AdapterSettings. `version` tells one that was added while serving from others that had the same
    name and source before.
    """

    name: str
    source: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One completion as an engine sees it. `stream=False` lets an engine send everything in one delta.

    The engine goes on after `prompt_token_ids` and `completion_token_ids`, what there is of the completion already;
    it sends, and sampling.max_tokens counts, only what is new. `constraint` holds for the new tokens, and the last
    `constrained_tokens` of those already there are under it too. Of waiting requests the one with the lower `priority`
    comes first, then the older one. `adapter` is at work on all of it.
    """

    request_id: str
    prompt_token_ids: list[int]
    sampling: Sampling
    stream: bool = True
    completion_token_ids: list[int] = field(default_factory=list)
    constraint: Constraint | None = None
    constrained_tokens: int = 0
    priority: int = 0
    adapter: Adapter | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log probabilities at one position: the sampled token, then the most likely ones, most likely first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenDelta:
    """New tokens of a completion.

    It ends with exactly one delta whose `finish_reason` is set, which may carry tokens too. The token that
    stopped it (one of Sampling.stop_token_ids) is the last of `token_ids`. `logprobs`, where asked for, has one
    entry for each token id. `cached_tokens` counts prompt tokens that came from the prefix cache.
    """

    token_ids: list[int]
    finish_reason: FinishReason | None = None
    logprobs: list[TokenLogprobs] | None = None
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Description of a started engine.

    `max_output_tokens` is the most that one answer may have, where that is less than the context leaves.
    `max_num_seqs` is how many sequences it decodes together, where it knows. `load` is its load when it was asked.
    """

    model: str
    max_model_len: int
    versions: Mapping[str, str] = field(default_factory=dict)
    max_output_tokens: int | None = None
    max_num_seqs: int | None = None
    load: EngineLoad | None = None


class Engine(Protocol):
    """A source of tokens for requests: what a request may do with an engine, and all that a wrapper has to have."""

    async def prepare(self) -> EngineInfo:
        """Make the engine ready for a request, and return its description. The request calls it before generate().

        An engine may load its model here, wait until it is ready, and hold the description to what the request may
        have. Raises EngineNotReadyError while the engine is starting or gone.
        """
        ...

    def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """The completion's tokens as they come.

        Closing or cancelling the generator stops the work. Raises EngineNotReadyError before the first delta,
        EngineDiedError after it, InvalidRequestError for what the engine itself refuses, AdapterUnavailableError.
        """
        ...


class Owned(Protocol):
    """The life cycle of an engine, for its owner alone: requests and wrappers call none of it."""

    async def start(self) -> None:
        """Load and warm up. Returns once requests are served; raises CheckpointError or EngineNotReadyError."""
        ...

    async def check_health(self) -> None:
        """Return when requests can be served; raises EngineNotReadyError or EngineDiedError. Loads nothing."""
        ...

    async def close(self) -> None:
        """Stop all work and free everything, processes included. May be called more than once."""
        ...


class OwnedEngine(Engine, Owned, Protocol):
    """An engine as its owner has it: the owner starts, checks and closes it, and gives it to requests as an Engine."""


@runtime_checkable
class AdapterHost(Protocol):
    """An engine that holds adapters. It loads a request's adapter itself; these methods load one beforehand."""

    async def load_adapter(self, adapter: Adapter) -> None:
        """Load it. Raises InvalidValueError (`source`) for a source that is no adapter or may not be loaded here.

        Also raises EngineNotReadyError, and OverloadedError where all that fit are in use.
        """
        ...

    async def unload_adapter(self, adapter: Adapter) -> None:
        """Unload it as soon as no request uses it; do nothing if it is not loaded. Raises EngineNotReadyError."""
        ...


@dataclass(frozen=True, slots=True)
class EngineReport:
    """Report of one engine replica.

    `memory_bytes` is the machine's memory that its processes use; `device_memory_bytes` is in use on its GPUs, by any
    process, and None without GPUs or if they cannot be asked.
    """

    asleep: bool
    memory_bytes: int
    device_memory_bytes: int | None


@runtime_checkable
class Sleeper(Protocol):
    """An engine with sleep mode: it gives its accelerator's memory back without ending, and reports its state."""

    async def sleep(self) -> None:
        """Give the memory back; do nothing if it sleeps. Raises ConflictError if it is at work, or has no sleep mode.

        Also raises EngineNotReadyError.
        """
        ...

    async def wake(self) -> None:
        """Take the memory again; do nothing if it is awake. Raises EngineNotReadyError."""
        ...

    async def reports(self) -> list[EngineReport]:
        """One report for each replica that answers."""
        ...


class PushingEngine(Owned, AdapterHost, Protocol):
    """An engine that calls its user with each delta, which costs no task switch a token; a replica owns one."""

    async def prepare(self) -> EngineInfo:
        """See Engine."""
        ...

    async def run(self, request: EngineRequest, push: Callable[[TokenDelta], None]) -> None:
        """Complete `request` as Engine.generate() does, with `push` called for each delta; returns after the last.

        Cancelling it stops the work. Raises as generate() does, and EngineNotReadyError, never EngineDiedError, where
        no work was begun.
        """
        ...

    async def sleep(self) -> None:
        """Give the accelerator's memory back. The caller sees to it that no request is at work or comes before wake().

        Raises ConflictError where the platform or the settings do not allow it, EngineNotReadyError.
        """
        ...

    async def wake(self) -> None:
        """Take the accelerator's memory again. Raises EngineNotReadyError."""
        ...

    async def used_device_memory(self) -> int | None:
        """See EngineReport. Raises EngineNotReadyError."""
        ...

    def load(self) -> EngineLoad | None:
        """The engine's load now; None where it does not tell."""
        ...
