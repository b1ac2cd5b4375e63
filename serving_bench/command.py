"""`serving bench`: measure a server, alone or against another, or its models against each other."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell has it."""


_REPEATED = ("models", "question", "against", "compare", "cpu_roles")


class ApiName(StrEnum):
    """Values of --api."""

    CHAT = "chat"
    RESPONSES = "responses"
    COMPLETIONS = "completions"


def bench_command(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="Base URL; http://127.0.0.1:8000/v1 with --compare unless set."),
    ] = None,
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", hidden=True)] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Closed loop: so many requests under way at all times. 32 unless set."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="Open loop: N requests a second on average, at random moments.")
    ] = None,
    ramp: Annotated[
        str | None,
        typer.Option(metavar="FROM:TO:S", help="Open loop whose rate goes from FROM/s to TO/s in S seconds."),
    ] = None,
    requests: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop after N requests (of each level, of each round).")
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(metavar="S", help="Send nothing new after S seconds; 30 unless --requests or --ramp says."),
    ] = None,
    api: Annotated[ApiName, typer.Option(help="Which of OpenAI's APIs to call.")] = ApiName.CHAT,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model to ask for; the first of /v1/models unless set.")
    ] = None,
    question: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="What to ask, instead of counting to 200. Repeatable: one is drawn."),
    ] = None,
    questions: Annotated[Path | None, typer.Option(metavar="FILE", help="Questions from a file, one a line.")] = None,
    prompt_tokens: Annotated[
        str | None,
        typer.Option(metavar="LENGTHS", help="Words before each question: 512, uniform:64:512 or lognormal:256:0.7."),
    ] = None,
    shared_prefix: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="Share of those words that all requests have alike.")
    ] = 0.0,
    reply_tokens: Annotated[
        str | None, typer.Option(metavar="LENGTHS", help="Most tokens of a reply: 200, uniform:50:400 and so on.")
    ] = None,
    effort: Annotated[
        str | None, typer.Option(metavar="MIX", help="Reasoning effort: high, or a mix such as low=0.5,high=0.5.")
    ] = None,
    tools: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="Share of requests that offer and want a tool call.")
    ] = 0.0,
    stream: Annotated[bool, typer.Option(help="Ask for streams.")] = True,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", min=0, help="Sampling temperature; the server's default unless set.")
    ] = None,
    extra: Annotated[
        str, typer.Option(metavar="JSON", help="Further fields of each request's body; null removes one.")
    ] = "{}",
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same requests and same arrivals.")] = 0,
    warm_up: Annotated[
        int, typer.Option(metavar="N", min=0, help="Requests to each server before measuring, not counted.")
    ] = 8,
    timeout: Annotated[float, typer.Option(metavar="S", help="Longest time for one request.")] = 600.0,
    connect_timeout: Annotated[float, typer.Option(metavar="S", help="Longest time to connect.")] = 10.0,
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Environment variable that has the API key (never the key itself)."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Measure this server in turns with the first and print ratios. Repeatable."),
    ] = None,
    against_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model to ask --against for; as --model unless set.")
    ] = None,
    against_api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Variable with the API key for --against.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A B C",
            help="Measure models of one server in turns, by name or by selector (ollama:gpt-oss:20b), and print one "
            "table of speed and errors.",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Turns of each at each level; 6 with --against or --compare."),
    ] = None,
    cpu: Annotated[bool, typer.Option(help="Measure the server's CPU time when it runs on this machine.")] = True,
    cpu_roles: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=REGEX",
            help="Count processes whose command line matches, instead of the server's own tree. Repeatable.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON; - is standard output.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one page with the curves.")
    ] = None,
) -> None:
    """Measure an OpenAI-compatible server: rates, latencies, errors and, on this machine, CPU time a token.

    Ctrl-C stops early and prints what there was until then; a second one prints nothing. docs/benchmarking.md says
    what each number means.

    \b
    Examples:
      serving bench http://127.0.0.1:8000
      serving bench http://127.0.0.1:8000 --concurrency 1,8,32,128 --duration 20 --html curves.html
      serving bench http://127.0.0.1:8000 --ramp 1:20:60 --prompt-tokens lognormal:512:0.6 --shared-prefix 0.5
      serving bench http://127.0.0.1:8000 --against http://127.0.0.1:8100 --concurrency 1,32 --temperature 0
      serving bench http://127.0.0.1:8000 --compare local:gpt-oss-20b ollama:gpt-oss:20b --concurrency 1,8
      serving bench https://models.example.com --api-key-env MY_KEY --effort low=0.5,high=0.5 --json result.json
    """
    # NumPy, uvloop and their like take half a second to import, which no other command needs.
    from serving_bench.live import LiveProgress
    from serving_bench.options import Options, check_writable, plan
    from serving_bench.output import consoles, write
    from serving_bench.start import measure

    check_writable(json_file, "--json")
    check_writable(html_file, "--html")
    given: dict[str, Any] = {name: value for name, value in context.params.items() if not name.endswith("_file")}
    given |= {"api": api.value, **{name: given[name] or () for name in _REPEATED}}
    to_do = plan(Options(**given), os.environ)
    out, progress = consoles(json_file)
    report = measure(to_do, LiveProgress(progress))
    write(report, out, json_file, html_file)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if any(run.requests.completed for run in report.runs) else 1)
