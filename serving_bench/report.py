"""The report as data, and so the schema of `--json`: `Report.model_json_schema()`, explained in docs/benchmarking.md.

Times are seconds, rates are per second. A number that could not be had is null, never 0.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Final = "gpt-oss-serving/bench/1"
"""Raised with every change that a reader of older reports would trip over; new fields alone do not."""


class Part(BaseModel):
    """A part of the report."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(Part):
    """Machine that the load generator ran on."""

    cpu: str
    cores: int = Field(description="Cores this process may use.")
    memory_gb: float
    system: str
    python: str


class TargetInfo(Part):
    """A measured server."""

    name: str = Field(description="target; baseline 1, 2, ... for --against; the model for --compare.")
    url: str
    model: str


class Settings(Part):
    """Settings of the load. Questions and extra values are left out: they may be confidential."""

    api: str
    stream: bool
    prompt_tokens: str | None = Field(description="Profile of the filler before each question.")
    reply_tokens: str | None = Field(description="Profile of the most tokens a reply may have.")
    effort: dict[str, float]
    shared_prefix: float = Field(description="Share of the filler that is the same in all requests.")
    tools: float = Field(description="Share of requests that ask for a tool call.")
    temperature: float | None
    seed: int
    questions: int = Field(description="How many different questions.")
    extra: list[str] = Field(description="Names of further fields in the body.")
    warm_up: int = Field(description="Requests before each target's first measurement, not counted.")
    timeout_s: float
    compare: bool = Field(False, description="Targets are models behind one server, the first of them the baseline.")


class Level(Part):
    """Level of the load."""

    mode: Literal["closed", "open"]
    concurrency: int | None = Field(None, description="closed: requests under way at all times.")
    rate: str | None = Field(None, description="open: requests a second, or FROM:TO:SECONDS.")

    def __str__(self) -> str:
        if self.mode == "open":
            return f"{self.rate}/s"
        return f"{self.concurrency} stream{'' if self.concurrency == 1 else 's'}"


class Requests(Part):
    """Counts of requests by outcome."""

    sent: int
    completed: int
    failed: int
    interrupted: int = Field(description="Under way at Ctrl-C.")
    finish_reasons: dict[str, int]


class Failure(Part):
    """One kind of error."""

    kind: str
    count: int
    example: str = Field(description="The server's words at its first time.")


class Tokens(Part):
    """Tokens as the servers' usage tells them; null when no reply told."""

    prompt: int | None
    cached: int | None = Field(description="Of the prompt's, those from the prefix cache.")
    completion: int | None
    reasoning: int | None = Field(description="Of the completion's, as usage tells.")
    estimated: int = Field(
        description="Further completion tokens of replies without usage (broken, interrupted): their chunks times "
        "tokens per chunk of the others. Part of the rates, not of `completion`."
    )
    replies_without_usage: int = Field(description="Complete replies that told none.")
    by_channel: dict[str, float] | None = Field(
        description="Completion tokens a channel: reasoning as usage tells, the rest by their share of the characters."
    )


class Chunks(Part):
    """Pieces of text in streams."""

    count: int
    by_channel: dict[str, int]
    per_token: float | None
    per_s: float


class Quantiles(Part):
    """Quantiles in seconds."""

    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


class Latency(Part):
    """Latencies of complete replies alone."""

    ttft: Quantiles = Field(description="Until the first chunk with text, on any channel.")
    ttft_final: Quantiles = Field(description="Until the first chunk of the final answer.")
    itl: Quantiles = Field(description="Between chunks with text of one reply.")
    tpot: Quantiles = Field(description="A reply's (last text - first text) / (completion tokens - 1).")
    e2e: Quantiles = Field(description="Until the reply's end.")


class RoleCpu(Part):
    """CPU time of all processes of one role."""

    role: str
    group: Literal["front end", "engine", "upkeep", "other"] = Field(
        description="front end: what a token passes through on its way out; engine: what makes it; upkeep: Ray's own."
    )
    processes: int
    cpu_s: float
    us_per_token: float | None


class Cpu(Part):
    """CPU of the server, where it runs on this machine; `roles` is empty and `missing` says why where not."""

    roles: list[RoleCpu]
    missing: str | None = None
    front_end_us_per_token: float | None = None
    engine_us_per_token: float | None = None
    upkeep_cores: float | None = Field(None, description="CPU seconds a second.")
    idle_cores: float | None = Field(None, description="Of all its processes while another target was measured.")


class ClientCost(Part):
    """Cost of the load generator itself: one thread, so near 1 core it measures itself."""

    cpu_s: float
    cores: float
    us_per_chunk: float | None
    lag_p99_s: float | None = Field(description="How late its event loop woke up.")


class Timeline(Part):
    """Values over time, one each `step_s` seconds from the first request on."""

    step_s: float
    tokens_per_s: list[float]
    requests_per_s: list[float]
    errors: list[int]
    in_flight: list[int]
    ttft_p50: list[float | None]


class Run(Part):
    """One target at one level. In comparisons all rounds together."""

    target: str
    level: Level
    rounds: int
    elapsed_s: float = Field(description="From the first request's start to the last one's end.")
    requests: Requests
    requests_per_s: float = Field(description="Complete ones.")
    tokens: Tokens
    tokens_per_s: float | None
    tokens_per_s_by_channel: dict[str, float] | None
    chunks: Chunks
    latency: Latency
    failures: list[Failure]
    cpu: Cpu
    client: ClientCost
    timeline: Timeline | None = Field(description="null for runs of several rounds.")


class Ratio(Part):
    """Target over baseline, over the rounds."""

    metric: str
    better: Literal["higher", "lower", "neither"]
    rounds: int = Field(description="Rounds in which both had the value.")
    target: float = Field(description="Median over rounds.")
    baseline: float
    ratio: float = Field(description="Median of the rounds' ratios.")
    low: float = Field(description="2.5 % quantile of that median, bootstrapped over rounds.")
    high: float = Field(description="97.5 % quantile.")
    difference: float = Field(description="Median of the rounds' differences, in the metric's unit.")
    difference_low: float
    difference_high: float
    per_round: list[float] = Field(description="The ratios, in the order of the rounds.")


class Comparison(Part):
    """A target against one baseline at one level."""

    target: str = Field("target", description="A target's name; with --compare all but the first have a comparison.")
    baseline: str
    level: Level
    order: str = Field(description="Who was measured when: A is the first of `targets`, B the second, and so on.")
    ratios: list[Ratio]


class Report(Part):
    """Everything that one `serving bench` found."""

    schema_: Literal["gpt-oss-serving/bench/1"] = Field(SCHEMA, alias="schema")
    version: str = Field(description="Of gpt-oss-serving.")
    created: str = Field(description="UTC, ISO 8601.")
    interrupted: bool = Field(description="Ctrl-C came before the end.")
    machine: Machine
    targets: list[TargetInfo]
    settings: Settings
    runs: list[Run]
    comparisons: list[Comparison]

    model_config = ConfigDict(populate_by_name=True)
