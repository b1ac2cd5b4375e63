"""Flags of `serving bench`, and the plan that they come to."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.errors import SettingsError
from serving_bench.arrivals import parse_ramp, steady
from serving_bench.client import Timeouts
from serving_bench.lengths import parse_lengths
from serving_bench.processes import Role, parse_roles
from serving_bench.runner import MOST_OPEN, Load
from serving_bench.session import Plan, Server
from serving_bench.target import authorization, first_model, parse_target
from serving_bench.workload import LONG_QUESTION, Api, Workload, parse_effort, parse_extra

DEFAULT_CONCURRENCY = "32"
DEFAULT_SECONDS = 30.0
DEFAULT_ROUNDS = 6
DEFAULT_COMPARED_URL = "http://127.0.0.1:8000"
LEAST_REQUESTS_A_ROUND = 16
"""Short rounds change places often; shorter ones measure their own beginning and end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Flags as given, None where not given. Names are the flags'."""

    url: str | None = None
    models: Sequence[str] = ()
    concurrency: str | None = None
    rate: float | None = None
    ramp: str | None = None
    requests: int | None = None
    duration: float | None = None
    api: Api = "chat"
    model: str | None = None
    question: Sequence[str] = ()
    questions: Path | None = None
    prompt_tokens: str | None = None
    shared_prefix: float = 0.0
    reply_tokens: str | None = None
    effort: str | None = None
    tools: float = 0.0
    stream: bool = True
    temperature: float | None = None
    extra: str = "{}"
    seed: int = 0
    warm_up: int = 8
    timeout: float = 600.0
    connect_timeout: float = 10.0
    api_key_env: str | None = None
    against: Sequence[str] = ()
    against_model: str | None = None
    against_api_key_env: str | None = None
    compare: Sequence[str] = ()
    rounds: int | None = None
    cpu: bool = True
    cpu_roles: Sequence[str] = ()


def plan(options: Options, environ: Mapping[str, str]) -> Plan:
    """Make the plan; servers are asked for their models where no flag names one. Raises SettingsError, BenchError."""
    workload, loads = _workload(options), _loads(options)
    timeouts = Timeouts(
        connect=_positive(options.connect_timeout, "--connect-timeout"), request=_positive(options.timeout, "--timeout")
    )
    roles = parse_roles(options.cpu_roles)
    if not options.against:
        for flag, value in (("model", options.against_model), ("api-key-env", options.against_api_key_env)):
            if value is not None:
                raise SettingsError([(f"--against-{flag}", "is for --against, which names no server")])
    servers = _compared(options, environ) if options.compare else _servers(options, roles, environ)
    return Plan(
        servers=list(servers),
        workload=workload,
        loads=loads,
        rounds=options.rounds or (DEFAULT_ROUNDS if _takes_turns(options) else 1),
        warm_up=options.warm_up,
        timeouts=timeouts,
        # One server's processes answer for all models, so no time of theirs is idle or one model's alone.
        measure_cpu=options.cpu and not options.compare,
        compare=bool(options.compare),
    )


def _takes_turns(options: Options) -> bool:
    return bool(options.against or options.compare)


def _workload(options: Options) -> Workload:
    profile, reply = options.prompt_tokens, options.reply_tokens
    if options.api == "completions":
        for flag, given in (("--effort", options.effort is not None), ("--tools", options.tools > 0)):
            if given:
                raise SettingsError([(flag, "is not for completions, which have neither; use --api chat")])
    if options.shared_prefix and profile is None:
        raise SettingsError([("--shared-prefix", "is a share of what --prompt-tokens asks for; set that too")])
    return Workload(
        api=options.api,
        questions=_questions(options),
        prompt=parse_lengths(profile, "--prompt-tokens") if profile is not None else None,
        reply=parse_lengths(reply, "--reply-tokens") if reply is not None else None,
        effort=parse_effort(options.effort) if options.effort is not None else (),
        shared_prefix=options.shared_prefix,
        tools=options.tools,
        stream=options.stream,
        temperature=options.temperature,
        seed=options.seed,
        extra=parse_extra(options.extra),
    )


def _questions(options: Options) -> Sequence[str]:
    questions = list(options.question)
    if options.questions is not None:
        try:
            text = options.questions.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError([("--questions", f"cannot read {options.questions}: {error}")]) from error
        questions += [line for line in text.splitlines() if line.strip()]
        if not questions:
            raise SettingsError([("--questions", f"{options.questions} has no lines; write one question a line")])
    return questions or [LONG_QUESTION]


def _loads(options: Options) -> Sequence[Load]:
    modes = {"--concurrency": options.concurrency, "--rate": options.rate, "--ramp": options.ramp}
    given = [flag for flag, value in modes.items() if value is not None]
    if len(given) > 1:
        raise SettingsError([(given[1], f"is another kind of load than {given[0]}; give one of them")])
    seconds = _positive(options.duration, "--duration") if options.duration is not None else None
    requests = options.requests
    if options.ramp is not None:
        ramp = parse_ramp(options.ramp)
        return [Load(ramp=ramp, requests=requests, seconds=seconds or ramp.seconds)]
    if seconds is None and requests is None and not (_takes_turns(options) and options.rate is None):
        seconds = DEFAULT_SECONDS
    if options.rate is not None:
        return [Load(ramp=steady(_positive(options.rate, "--rate")), requests=requests, seconds=seconds)]
    return [
        # A comparison repeats the same requests, not the same time.
        Load(
            concurrency=streams,
            requests=requests or (max(2 * streams, LEAST_REQUESTS_A_ROUND) if seconds is None else None),
            seconds=seconds,
        )
        for streams in _levels(options.concurrency or DEFAULT_CONCURRENCY)
    ]


def _levels(text: str) -> Iterator[int]:
    for part in text.split(","):
        if not part.strip().isdecimal() or not 1 <= int(part) <= MOST_OPEN:
            message = f"should be numbers from 1 to {MOST_OPEN} with commas, such as 1,8,32; got {text!r}"
            raise SettingsError([("--concurrency", message)])
        yield int(part)


def _compared(options: Options, environ: Mapping[str, str]) -> Iterator[Server]:
    """Targets of a comparison: one server under the name of each model, in the order given: `[URL] --compare A B C`."""
    for flag, given in (("--against", options.against), ("--model", options.model), ("--cpu-roles", options.cpu_roles)):
        if given:
            raise SettingsError([(flag, "does not go with --compare, which asks one server for several models")])
    first = options.url or ""
    is_url = first.startswith(("http://", "https://"))
    # Click takes the first word that is no flag's for the URL, and one word for --compare.
    models = [*options.compare, *([first] if first and not is_url else []), *options.models]
    if len(models) < 2:
        message = f"needs two models or more, such as --compare local:gpt-oss-20b ollama:gpt-oss:20b; got {models[0]!r}"
        raise SettingsError([("--compare", message)])
    for model in models:
        if model.startswith(("http://", "https://")):
            message = f"takes models of one server; name that first ({model!r}), or use --against for other servers"
            raise SettingsError([("--compare", message)])
        if models.count(model) > 1:
            raise SettingsError([("--compare", f"names {model!r} twice")])
    key = _key(options.api_key_env, "--api-key-env", environ)
    for model in models:
        yield _server(first if is_url else DEFAULT_COMPARED_URL, model, "URL", model, key)


def _servers(options: Options, roles: Sequence[Role], environ: Mapping[str, str]) -> Iterator[Server]:
    if options.url is None:
        raise SettingsError([("URL", "is missing: a base URL such as http://127.0.0.1:8000/v1")])
    if options.models:
        raise SettingsError([(options.models[0], "is one word too many; models to compare come after --compare")])
    key = _key(options.api_key_env, "--api-key-env", environ)
    yield _server(options.url, "target", "URL", options.model, key, roles)
    for number, url in enumerate(options.against, start=1):
        name = f"baseline {number}" if len(options.against) > 1 else "baseline"
        # A key is for the server it was given for, and goes to no other.
        key = _key(options.against_api_key_env, "--against-api-key-env", environ)
        yield _server(url, name, "--against", options.against_model or options.model, key)


def _server(url: str, name: str, field: str, model: str | None, key: str | None, roles: Sequence[Role] = ()) -> Server:
    target = parse_target(url, name, field)
    return Server(target, model if model is not None else first_model(target, key), key, roles)


def _key(variable: str | None, flag: str, environ: Mapping[str, str]) -> str | None:
    if variable is None:
        return None
    key = environ.get(variable)
    if not key:
        # Whoever pastes the key itself must not read it in an error again.
        named = f"{variable} is not set" if re.fullmatch("[A-Z][A-Z0-9_]*", variable) else "this one is not set"
        raise SettingsError([(flag, f"names an environment variable that has the key in it, and {named}")])
    authorization(key)
    return key


def _positive(value: float, flag: str) -> float:
    if not 0 < value < math.inf:
        raise SettingsError([(flag, f"should be more than 0; got {value:g}")])
    return value


def check_writable(path: Path | None, flag: str) -> None:
    """Raise SettingsError now rather than after the measurement."""
    if path is None or str(path) == "-":
        return
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise SettingsError([(flag, f"cannot write {path}: is there such a folder, and may you write to it?")])
