"""`serving chat`: talk to a model in the terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from serving.errors import ClientError, SettingsError

INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell has it."""


KEY_VARIABLE = "GPT_OSS_API_KEY"


class EffortName(StrEnum):
    """Values of --effort."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


def chat_command(
    url: Annotated[str, typer.Option(metavar="URL", help="Base URL of the server.")] = "http://127.0.0.1:8000/v1",
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model to talk to; the first of /v1/models unless set.")
    ] = None,
    effort: Annotated[EffortName | None, typer.Option(help="How much the model thinks.")] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="Instructions for the model.")] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Environment variable that has the API key (never the key itself); {KEY_VARIABLE} unless set.",
        ),
    ] = None,
) -> None:
    """Talk to a model: what it thinks, says on the way and answers, each in its colour.

    Ctrl-C stops an answer, Ctrl-D leaves, /help lists commands. With a pipe on standard input that is the question,
    and standard output gets the answer alone.

    \b
    Examples:
      serving chat
      serving chat --effort high --model gpt-oss-120b
      echo "Why is the sky blue?" | serving chat > answer.txt
    """
    # OpenAI's client takes a second to import, which no other command needs.
    try:
        from openai import OpenAI

        from serving.client.terminal.conversation import Conversation, models_of
        from serving.client.terminal.screen import Screen
        from serving.client.terminal.session import answer_once, chat, read_terminal
    except ModuleNotFoundError as error:
        raise ClientError(f"{error}. `serving chat` needs it: pip install 'gpt-oss-serving[client]'") from error
    from rich.console import Console

    from serving_bench.target import authorization, parse_target

    base_url = parse_target(url, "server", "--url").url
    key = key_in(api_key_env, os.environ)
    authorization(key)  # says what is wrong with one that no header takes
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    question = "" if interactive else sys.stdin.read().strip()
    if not interactive and not question:
        raise SettingsError([("standard input", "is empty: pipe a question in, or run this in a terminal")])
    try:
        with OpenAI(base_url=base_url, api_key=key or "none") as client:
            conversation = Conversation(
                client,
                model=model or _first(models_of(client)),
                system=system,
                effort=None if effort is None else effort.value,
                clock=time.monotonic,
            )
            if interactive:
                chat(conversation, Screen(Console(highlight=False)), read_terminal)
            else:
                answer_once(conversation, question, sys.stdout)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def key_in(variable: str | None, environ: Mapping[str, str]) -> str | None:
    """API key in the variable, None where there is none; raises SettingsError for a named one that is not set."""
    if variable is not None and not environ.get(variable):
        raise SettingsError([("--api-key-env", f"the variable {variable} is not set")])
    return environ.get(variable or KEY_VARIABLE) or None


def _first(models: list[str]) -> str:
    if not models:
        raise ClientError("The server names no model; say which with --model.")
    return models[0]
