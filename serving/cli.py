"""The `serving` command: parse, call, print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import serving
from serving.commands.batch import batch_command
from serving.commands.certify import certify_command
from serving.commands.chat import chat_command
from serving.commands.check import check_command
from serving.commands.config import schema_command, show_command
from serving.commands.fetch import fetch_command
from serving.commands.harmony import harmony_command
from serving.commands.keys import check_command as check_key_command
from serving.commands.keys import new_command as new_key_command
from serving.commands.plan import plan_command
from serving.commands.up import up_command
from serving.commands.usage import usage_command
from serving.errors import ServingError, SettingsError
from serving_bench.command import bench_command

USER_MISTAKE = 2
"""Exit status for wrong flags, variables or settings; 1 is for everything else that fails."""


def create_cli() -> typer.Typer:
    """All commands, unparsed."""
    cli = typer.Typer(
        name="serving",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    cli.callback()(root)
    cli.command("up", short_help="Serve models until stopped.")(up_command)
    cli.command("check", short_help="Say what settings would run, or what is wrong.")(check_command)
    cli.command("plan", short_help="Say what a model needs and what it can reach on which GPUs.")(plan_command)
    cli.command("fetch", short_help="Bring checkpoints into the cache, checked.")(fetch_command)
    cli.command("bench", short_help="Measure a server, alone or against another.")(bench_command)
    cli.command("certify", short_help="Try an endpoint as clients use it, and print a table.")(certify_command)
    cli.command("chat", short_help="Talk to a model in the terminal.")(chat_command)
    cli.command("batch", short_help="Send a file of requests, and wait for their answers.")(batch_command)
    cli.command("harmony", short_help="Show how a completion is read, token by token.")(harmony_command)
    config = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show what can be set, and what is.")
    config.command("schema", short_help="Print the JSON schema of a settings file.")(schema_command)
    config.command("show", short_help="Print the settings in force.")(show_command)
    cli.add_typer(config, name="config")
    cli.command("usage", short_help="Say what teams used.")(usage_command)
    keys = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make API keys, and look at one.")
    keys.command("new", short_help="Make a key for a team.")(new_key_command)
    keys.command("check", short_help="Say whether a key was typed right, and whose it is.")(check_key_command)
    cli.add_typer(keys, name="keys")
    return cli


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"serving {serving.__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Serve OpenAI's gpt-oss models on Ray Serve and vLLM, with an API that speaks OpenAI's.

    \b
    Start here:
      serving up                                the embedded demo model on http://127.0.0.1:8000/v1
      serving up --model openai/gpt-oss-20b     the real thing, on a GPU
      serving check serving.yaml                what a settings file would run
      serving COMMAND --help                    flags and examples of a command

    Every setting can come from a flag, a SERVING_ variable (SERVING_PORT, SERVING_MODELS__DEMO__DTYPE) or a YAML
    file; flags win over variables, variables over the file. `serving config schema` lists all of them.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (sys.argv unless given); errors go to stderr in words, and into the exit status."""
    command = typer.main.get_command(create_cli())
    try:
        command.main(arguments, prog_name="serving")
    except SettingsError as error:
        count = len(error.problems)
        typer.echo(f"error: {'a setting is' if count == 1 else f'{count} settings are'} wrong", err=True)
        for field, problem in error.problems:
            typer.echo(f"  {field}: {problem}", err=True)
        sys.exit(USER_MISTAKE)
    except ServingError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
