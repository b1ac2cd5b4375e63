"""What a raw completion gives becomes the reply's JSON, whole or in chunks."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Sequence

from serving.api.openai.completions.chunks import TextChunks
from serving.api.openai.completions.response import (
    CompletionLogprobs,
    TextChoice,
    TextCompletion,
    TextUsage,
)
from serving.api.openai.logprobs import LOWEST_LOGPROB
from serving.generation.completions import CompletionAnswer
from serving.generation.types import (
    ChatEvent,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    LogprobEntry,
    TextDelta,
    Usage,
)


def text_completion(
    answer: CompletionAnswer,
    *,
    completion_id: str,
    created: int,
    model: str,
    echoed: Sequence[str] | None,
    with_logprobs: bool,
) -> TextCompletion:
    """The whole reply; `echoed` has the prompt's text for each choice, or is None."""
    return TextCompletion(
        id=completion_id,
        object="text_completion",
        created=created,
        model=model,
        choices=[
            TextChoice(
                index=choice.index,
                text=(echoed[choice.index] if echoed else "") + choice.text,
                logprobs=LegacyLogprobs().of(choice.logprobs) if with_logprobs else None,
                finish_reason=choice.finish_reason,
            )
            for choice in answer.choices
        ],
        usage=_usage(answer.usage),
    )


class TextChunkEncoder:
    """Encoder of a streamed reply: frames for each event, b"" for events that the client does not see."""

    def __init__(self, chunks: TextChunks, *, echoed: Sequence[str] | None, include_usage: bool) -> None:
        self._chunks = chunks
        self._echoed = echoed or ()
        self._include_usage = include_usage
        self._logprobs: dict[int, LegacyLogprobs] = {}

    def __call__(self, event: ChatEvent) -> bytes:
        """The event's frame."""
        chunks = self._chunks
        match event:
            case TextDelta():
                if event.logprobs is None:
                    return chunks.text(event.choice, event.text)
                legacy = self._logprobs.setdefault(event.choice, LegacyLogprobs())
                return chunks.text(event.choice, event.text, json.dumps(legacy.of(event.logprobs)))
            case ChoiceFinished():
                return chunks.finish(event.choice, event.finish_reason)
            case GenerationStarted():
                return b"".join(chunks.text(choice, text) for choice, text in enumerate(self._echoed))
            case GenerationFinished():
                return chunks.usage(_usage(event.usage)) if self._include_usage else b""
            case _:
                return b""


class LegacyLogprobs:
    """Entries in OpenAI's older form; offsets go on from one call to the next."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def of(self, entries: Iterable[LogprobEntry]) -> CompletionLogprobs:
        """The next entries of a choice."""
        shown = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
        for entry in entries:
            top = {_name(utf8): max(logprob, LOWEST_LOGPROB) for _, logprob, utf8 in entry.top}
            name, logprob = _name(entry.utf8), max(entry.logprob, LOWEST_LOGPROB)
            shown["tokens"].append(name)
            shown["token_logprobs"].append(logprob)
            shown["top_logprobs"].append({**top, name: logprob})
            shown["text_offset"].append(self._offset)
            self._offset += len(self._utf8.decode(entry.utf8))
        return shown


def _name(utf8: bytes) -> str:
    try:
        return utf8.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in utf8)


def _usage(usage: Usage) -> TextUsage:
    shown = TextUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details={"cached_tokens": usage.cached_tokens},
    )
    if usage.cache is not None:
        shown["cache"] = usage.cache
    return shown
