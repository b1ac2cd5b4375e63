"""Loop of a chat in the terminal, and the one question of a pipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TextIO

from serving.client.events import ChatEvent, TextDelta
from serving.client.terminal.commands import Commands
from serving.client.terminal.conversation import Conversation
from serving.client.terminal.screen import Screen
from serving.errors import ClientError

PROMPT = "> "
_CONTINUED = "... "


def chat(conversation: Conversation, screen: Screen, read_line: Callable[[str], str]) -> None:
    """Chat until the input ends.

    `read_line` shows a prompt and gives the next line; it raises EOFError to leave and KeyboardInterrupt to forget
    the line. What goes wrong is shown, and the conversation goes on.
    """
    commands = Commands(conversation, screen)
    screen.note(f"{conversation.model}. /help lists commands, Ctrl-D leaves.")
    while True:
        try:
            line = _question(read_line).strip()
        except EOFError:
            screen.end_line()
            return
        except KeyboardInterrupt:
            screen.note("Ctrl-D leaves.")
            continue
        if line.startswith("/"):
            if not commands.run(line):
                return
        elif line:
            _answer(conversation, screen, line)


def _question(read_line: Callable[[str], str]) -> str:
    lines = [read_line(PROMPT)]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(read_line(_CONTINUED))
    return "\n".join(lines)


def _answer(conversation: Conversation, screen: Screen, question: str) -> None:
    try:
        answer, timing = conversation.ask(question, screen.show)
    except KeyboardInterrupt:
        screen.note("stopped")
    except ClientError as error:
        screen.error(str(error))
    else:
        screen.note(timing.told(answer.usage))


def answer_once(conversation: Conversation, question: str, out: TextIO) -> None:
    """Write the answer alone to `out`, as it comes; raises ClientError."""

    def show(event: ChatEvent) -> None:
        if isinstance(event, TextDelta) and event.channel == "final":
            out.write(event.text)
            out.flush()

    answer, _ = conversation.ask(question, show)
    if not answer.content.endswith("\n"):
        out.write("\n")
    if answer.usage is not None and answer.usage.finish_reason == "length":
        raise ClientError("The answer was cut off: there was no room for more tokens.")


def read_terminal(prompt: str) -> str:
    """Read the next line of the terminal, with line editing and history where Python has readline."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (input() uses it once it is there; not every Python has it)
    return input(prompt)
