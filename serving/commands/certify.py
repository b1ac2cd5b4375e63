"""`serving certify`: try an endpoint from outside, and print what it does as clients expect it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Annotated

import typer

from serving.certification.conversation import GROUPS
from serving.commands.chat import KEY_VARIABLE
from serving.errors import ServingError, SettingsError


class NotCertifiedError(ServingError):
    """Error of an endpoint that failed checks; the table above says which."""


def certify_command(
    url: Annotated[str, typer.Argument(metavar="URL", help="Base URL, such as http://127.0.0.1:8000/v1.")],
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model to ask; the first of /v1/models unless set.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="GROUP", help=f"Checks to run: {', '.join(GROUPS)}. Repeatable.")
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(metavar="NAME", help="Environment variable that has the API key (never the key itself).")
    ] = KEY_VARIABLE,
    timeout: Annotated[float, typer.Option(metavar="S", min=1, help="Longest wait for more of a reply.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line for each result.")] = False,
) -> None:
    """Certify an endpoint: check what clients of OpenAI's and Anthropic's APIs rely on, and print a table.

    It asks through chat completions, Responses and Messages, as far as they are offered: shapes of replies and of
    stream events, streams that join to the whole answer, usage that adds up, calls, schemas, errors, and requests that
    clients are known to send. Any server of gpt-oss can be tried; about 250 short requests go to it, one at a time, at
    temperature 0. A schema may be kept or refused, but not ignored. Exit status 1 means that a check failed.

    \b
    Examples:
      serving certify http://127.0.0.1:8000/v1
      serving certify http://127.0.0.1:8000/v1 --only schema --only tools
      GPT_OSS_API_KEY=... serving certify https://llm.example.com/v1 --model openai/gpt-oss-120b
    """
    # OpenAI's types take a second to import, which no other command needs.
    from serving.certification.endpoint import Endpoint
    from serving.certification.run import certified
    from serving.certification.table import table
    from serving_bench.target import authorization, parse_target

    groups = tuple(only or GROUPS)
    if unknown := [group for group in groups if group not in GROUPS]:
        raise SettingsError([("--only", f"no such group: {unknown[0]!r}; groups are {', '.join(GROUPS)}")])
    target = parse_target(url, "endpoint", "URL")
    headers = authorization(os.environ.get(api_key_env) or None)
    results = []
    with Endpoint(target.url, {**headers, "anthropic-version": "2023-06-01"}, timeout) as endpoint:
        for result in certified(endpoint, model, groups):
            results.append(result)
            if as_json:
                typer.echo(json.dumps(asdict(result)))
    if not as_json:
        typer.echo("\n".join(table(results)))
    if failed := sum(result.state == "failed" for result in results):
        raise NotCertifiedError(f"{failed} of {len(results)} checks failed")
