"""Slash commands of a chat in the terminal."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from serving.client.terminal.conversation import Conversation
from serving.client.terminal.screen import Screen
from serving.errors import ClientError

EFFORTS = ("low", "medium", "high")

_HELP = """\
/effort low|medium|high   how much the model thinks
/model [NAME]             talk to another model, or list what there is
/system [TEXT]            instructions for the model; without TEXT there are none
/reasoning on|off         show what the model thinks, or hide it
/clear                    begin a new conversation
/help                     this list
/quit                     leave, as Ctrl-D does
Ctrl-C stops an answer. A line that ends in \\ goes on in the next."""


class Commands:
    """Slash commands by name."""

    def __init__(self, conversation: Conversation, screen: Screen) -> None:
        self._conversation = conversation
        self._screen = screen
        self._all: dict[str, Callable[[str], None]] = {
            "/effort": self._effort,
            "/model": self._model,
            "/system": self._system,
            "/reasoning": self._reasoning,
            "/clear": self._clear,
            "/help": self._help,
        }

    @property
    def names(self) -> list[str]:
        """Names of all commands, for completion."""
        return [*self._all, "/quit"]

    def run(self, line: str) -> bool:
        """Run a command; returns False for /quit."""
        name, _, argument = line.partition(" ")
        if name == "/quit":
            return False
        command = self._all.get(name)
        if command is None:
            near = difflib.get_close_matches(name, self.names, n=1)
            self._screen.error(f"There is no {name}. {f'Did you mean {near[0]}?' if near else '/help lists what is.'}")
        else:
            command(argument.strip())
        return True

    def _effort(self, effort: str) -> None:
        if effort in EFFORTS:
            self._conversation.effort = effort
        elif effort:
            self._screen.error(f"{effort!r} is no effort. Use one of: {', '.join(EFFORTS)}.")
            return
        self._screen.note(f"effort: {self._conversation.effort or 'as the server likes'}")

    def _model(self, name: str) -> None:
        try:
            models = self._conversation.models()
        except ClientError as error:
            self._screen.error(str(error))
            return
        if name in models:
            self._conversation.model = name
        elif name:
            self._screen.error(f"The server has no model {name!r}. It has: {', '.join(models)}.")
            return
        else:
            self._screen.note("\n".join(models))
        self._screen.note(f"model: {self._conversation.model}")

    def _system(self, text: str) -> None:
        self._conversation.system = text or None
        self._screen.note(f"system: {text}" if text else "no system message")

    def _reasoning(self, switch: str) -> None:
        if switch in ("on", "off"):
            self._screen.reasoning = switch == "on"
        elif switch:
            self._screen.error("Use /reasoning on or /reasoning off.")
            return
        self._screen.note(f"reasoning: {'shown' if self._screen.reasoning else 'hidden'}")

    def _clear(self, _: str) -> None:
        self._conversation.clear()
        self._screen.note("a new conversation")

    def _help(self, _: str) -> None:
        self._screen.note(_HELP)
