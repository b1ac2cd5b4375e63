"""Messages of a rendered prompt, read back as the model sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serving.harmony.vocabulary import CHANNEL, CONSTRAIN, MESSAGE, MESSAGE_ENDS, START, decode


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """Message of a prompt.

    `role` is system, developer, user, assistant or, for a function's result, tool; `name` is the function's, or the
    author's where there are several. `recipient` is whom an assistant's call is for, "functions.get_weather"; `channel`
    is set where the role has one.
    """

    role: str
    content: str
    channel: str | None = None
    name: str | None = None
    recipient: str | None = None


def prompt_messages(prompt_token_ids: Sequence[int]) -> list[PromptMessage]:
    """Read the messages of a prompt that render_prompt made; its last header, which the completion goes on, is none."""
    return [_message(tokens) for tokens in _split(prompt_token_ids) if MESSAGE in tokens]


def _split(tokens: Sequence[int]) -> Iterator[list[int]]:
    """The tokens of each message, without its first and its last special token."""
    message: list[int] = []
    for token in tokens:
        if token == START:
            message = []
        elif token in MESSAGE_ENDS:
            yield message
            message = []
        else:
            message.append(token)


def _message(tokens: list[int]) -> PromptMessage:
    middle = tokens.index(MESSAGE)
    header, content = tokens[:middle], decode(tokens[middle + 1 :])
    split = header.index(CHANNEL) if CHANNEL in header else len(header)
    author = decode(header[:split]).removesuffix(" to=assistant")
    channel_part = header[split + 1 :]
    if CONSTRAIN in channel_part:
        channel_part = channel_part[: channel_part.index(CONSTRAIN)]
    channel, _, recipient = decode(channel_part).strip().partition(" to=")  # a function's name may have blanks
    is_tool = author.startswith("functions.")
    role, _, name = ("tool", "", author.removeprefix("functions.")) if is_tool else author.partition(":")
    return PromptMessage(
        role=role,
        content=content,
        channel=channel or None,
        name=name or None,
        recipient=recipient or None,
    )
