"""Conversation of a chat in the terminal, and the asking of its next question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
from openai import OpenAI

from serving.client.answer import Answer
from serving.client.events import ChatEvent, TextDelta, ToolCall, Usage
from serving.client.streams import stream_chat
from serving.errors import ClientError


class Conversation:
    """Messages so far, with model, system message and effort of the next question."""

    def __init__(
        self, client: OpenAI, *, model: str, system: str | None, effort: str | None, clock: Callable[[], float]
    ) -> None:
        self.model = model
        self.system = system
        self.effort = effort
        self._client = client
        self._clock = clock
        self._turns: list[Any] = []

    def clear(self) -> None:
        """Forget all messages."""
        self._turns.clear()

    def ask(self, question: str, show: Callable[[ChatEvent], None]) -> tuple[Answer, Timing]:
        """Ask, and `show` the answer as it comes; both are remembered.

        When this is interrupted (KeyboardInterrupt, or any error) the answer stays as far as it got, and where it had
        not begun the question is taken back. Raises ClientError with a sentence for whatever goes wrong.
        """
        asked = {"role": "user", "content": question}
        answer, timing = Answer(), Timing(self._clock)
        try:
            with stream_chat(self._client, self._messages(asked), model=self.model, **self._fields()) as events:
                for event in events:
                    timing.take(event)
                    answer.add(event)
                    show(event)
        except openai.OpenAIError as error:
            begun = bool(answer.texts)
            raise ClientError(in_words(error, self._client, begun=begun)) from error
        finally:
            if answer.content:
                self._turns += [asked, {"role": "assistant", "content": answer.content}]
        return answer, timing

    def models(self) -> list[str]:
        """Names of the server's models; raises ClientError."""
        return models_of(self._client)

    def _messages(self, asked: dict[str, str]) -> list[Any]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self._turns, asked]

    def _fields(self) -> dict[str, Any]:
        return {"reasoning_effort": self.effort} if self.effort else {}


class Timing:
    """Times of an answer's text, in seconds after the question."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked = clock()
        self._first: float | None = None
        self._last = 0.0

    def take(self, event: ChatEvent) -> None:
        """Take the next event."""
        if isinstance(event, TextDelta | ToolCall):
            self._last = self._clock() - self._asked
            self._first = self._last if self._first is None else self._first

    def told(self, usage: Usage | None) -> str:
        """Text with tokens, TTFT and the rate of the other tokens, as far as they are known."""
        parts = []
        tokens = usage.completion_tokens if usage else None
        if usage is not None and tokens is not None:
            thought = f" ({usage.reasoning_tokens} of them reasoning)" if usage.reasoning_tokens else ""
            parts.append(f"{tokens} token{'' if tokens == 1 else 's'}{thought}")
        if self._first is not None:
            parts.append(f"the first after {self._first:.2f} s")
            took = self._last - self._first
            if tokens is not None and tokens > 1 and took > 0:
                parts.append(f"{(tokens - 1) / took:.1f} tokens/s")
        if usage is not None and usage.finish_reason == "length":
            parts.append("cut off: no room for more tokens")
        return ", ".join(parts)


def models_of(client: OpenAI) -> list[str]:
    """Names of a server's models; raises ClientError."""
    try:
        return [model.id for model in client.models.list()]
    except openai.OpenAIError as error:
        raise ClientError(in_words(error, client)) from error


def in_words(error: openai.OpenAIError, client: OpenAI, *, begun: bool = False) -> str:
    """Sentence for the terminal about an error; `begun`: in the midst of an answer."""
    url = str(client.base_url).rstrip("/")
    if isinstance(error, openai.APITimeoutError):
        return f"{url} took too long to answer."
    if isinstance(error, openai.APIConnectionError):
        if begun:
            return "The connection was lost in the midst of the answer."
        return f"No server answers at {url}: start one with `serving up`, or name another with --url."
    reason = error.message if isinstance(error, openai.APIError) else str(error)
    if isinstance(error, openai.APIStatusError):
        body = error.body
        if isinstance(body, dict) and isinstance(body.get("message"), str):
            reason = body["message"]
        if isinstance(error, openai.AuthenticationError):
            return f"The server wants a key: {reason} Put it into a variable and name that with --api-key-env."
        return f"The server refused ({error.status_code}): {reason}"
    return f"The server failed: {reason}"
