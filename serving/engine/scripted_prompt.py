"""The prompt as a script's lines see it: its last user message, its tail, and the number of the model's turn."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import groupby

from serving.harmony.vocabulary import END, MESSAGE, START, decode

_SHOWN_CHARACTERS = 80


class ScriptedPrompt:
    """Prompt of one request; each part is read once, when a line asks for it."""

    def __init__(self, token_ids: list[int]) -> None:
        self._token_ids = token_ids

    @cached_property
    def user_text(self) -> str:
        """Body of the last user message; "" where there is none."""
        return next((body for header, body in self._backwards() if header.startswith("user")), "")

    @cached_property
    def tail(self) -> str:
        """Messages since the model's last one, header and body of each: results of tools, words of the user.

        System and developer message do not count, so the tail of a first request is what the user says.
        """
        messages: list[str] = []
        for header, body in self._backwards():
            if header.startswith("assistant"):
                break
            if not header.startswith(("system", "developer")):
                messages.append(f"{header}\n{body}")
        return "\n".join(reversed(messages))

    @cached_property
    def turn(self) -> int:
        """Number of the turn that the model has now, from 1: one more than its turns in the prompt.

        Messages of the model that follow each other, such as analysis and a call, are one turn.
        """
        speakers = groupby(header.startswith("assistant") for header, _ in self._backwards())
        return 1 + sum(models for models, _ in speakers)

    @cached_property
    def is_conversation(self) -> bool:
        """Whether there is a message that is not the model's; a check of a constraint has none."""
        return any(not header.startswith("assistant") for header, _ in self._backwards())

    def __str__(self) -> str:
        """Text that lines were compared with, shortened: for the client that sent it, not for logs."""
        return f"turn {self.turn}, last user message {_shortened(self.user_text)}, tail {_shortened(self.tail)}"

    def _backwards(self) -> Iterator[tuple[str, str]]:
        """Header and body of each whole message, the last one first."""
        end = len(self._token_ids)
        for position in range(end - 1, -1, -1):
            if self._token_ids[position] != START:
                continue
            message = self._token_ids[position + 1 : end]
            end = position
            if MESSAGE in message:
                length = message.index(MESSAGE)
                body = message[length + 1 :]
                yield decode(message[:length]), decode(body[: body.index(END)] if END in body else body)


def _shortened(text: str) -> str:
    """The text's end, which is where a tail's result stands."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"...{text[-_SHOWN_CHARACTERS:]}")
