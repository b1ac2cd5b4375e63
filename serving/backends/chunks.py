"""Chunks of a streamed chat completion as other servers send them: known fields alone, all of them optional.

Servers differ in what they leave out and where they put reasoning, so nothing is relied on. An answer that comes whole
although a stream was asked for has `message` where a chunk has `delta`, and is read as one chunk.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Function(msgspec.Struct):
    """Function of a tool call; `arguments` is a piece of JSON text, or on some servers an object."""

    name: str | None = None
    arguments: Any = None


class ToolCall(msgspec.Struct):
    """Tool call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct):
    """New text of a choice. `reasoning` is vLLM's, Ollama's, ours; `reasoning_content` DeepSeek's and older vLLM's."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    thinking: Any = None
    commentary: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def thought(self) -> str:
        """New reasoning from either field; some servers send the same text in both."""
        if self.reasoning or self.reasoning_content:
            return self.reasoning or self.reasoning_content or ""
        return self.thinking if isinstance(self.thinking, str) else ""


class Alternative(msgspec.Struct):
    """One of the most likely tokens."""

    token: str = ""
    logprob: float = 0.0
    bytes: list[int] | None = None


class TokenLogprob(Alternative):
    """Sampled token with its log probability."""

    top_logprobs: list[Alternative] | None = None


class Logprobs(msgspec.Struct):
    """Log probabilities of the content, and on servers of this project of the reasoning."""

    content: list[TokenLogprob] | None = None
    reasoning: list[TokenLogprob] | None = None


class Choice(msgspec.Struct):
    """Piece of one choice."""

    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class PromptDetails(msgspec.Struct):
    """Parts of the prompt."""

    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct):
    """Parts of the completion."""

    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    """Token counts of the answer."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class Chunk(msgspec.Struct):
    """One event of the stream. `error` stands alone where the server broke off."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


DECODER = msgspec.json.Decoder(Chunk)
"""Raises msgspec.DecodeError for what is no such chunk."""
