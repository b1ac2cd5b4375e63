"""Collector of outcomes; no averages of averages: every value goes into one distribution."""

from __future__ import annotations

import itertools
from collections import Counter

from serving_bench import report
from serving_bench.distribution import Distribution
from serving_bench.outcome import CHANNELS, CONTENT, INTERRUPTED, REASONING, Outcome, Usage
from serving_bench.timeline import Timeline


class Collector:
    """Outcomes of one run that began at `started`; with `whole` they also go there, where rounds come together.

    A whole has no beginning (None), and no timeline: its rounds were not one after the other.
    """

    def __init__(self, started: float | None, whole: Collector | None = None) -> None:
        self.sent = 0
        self.completed = 0
        self.interrupted = 0
        self.errors: Counter[str] = Counter()
        self.timeline = Timeline(started) if started is not None else None
        self.ttft = Distribution()
        self.ttft_final = Distribution()
        self.itl = Distribution()
        self.tpot = Distribution()
        self.e2e = Distribution()
        self._whole = whole
        self._examples: dict[str, str] = {}
        self._finishes: Counter[str] = Counter()
        self._chunks = [0] * len(CHANNELS)
        self._stream_chunks = 0
        self._tokens_by_channel = [0.0] * len(CHANNELS)
        self._prompt = self._completion = self._reasoning = self._cached = 0
        self._tells_reasoning = self._tells_cached = False
        self._with_usage = 0
        self._without_usage = 0
        self._counted_chunks = 0  # of the replies whose tokens are known
        self._counted_tokens = 0
        self._uncounted_chunks = 0

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of a request that is over."""
        self.sent += 1
        chunks = len(outcome.chunk_times)
        self._stream_chunks += chunks
        for channel, count in enumerate(outcome.chunks):
            self._chunks[channel] += count if chunks else 0
        if outcome.error == INTERRUPTED:
            self.interrupted += 1
        elif outcome.error is not None:
            self.errors[outcome.error] += 1
            self._examples.setdefault(outcome.error, outcome.detail)
        else:
            self.completed += 1
            self._finishes[outcome.finish or "none told"] += 1
            self._add_latency(outcome)
            self._without_usage += outcome.usage is None
        if outcome.usage is not None:
            self._add_usage(outcome, outcome.usage)
        else:
            self._uncounted_chunks += chunks
        if self.timeline is not None:
            self.timeline.add(outcome, self._tokens_of(outcome))
        if self._whole is not None:
            self._whole.add(outcome)

    @property
    def tokens(self) -> float | None:
        """Completion tokens, told and estimated; None when no reply told any."""
        return self._completion + self.estimated if self._with_usage else None

    @property
    def estimated(self) -> int:
        """Tokens of replies without usage."""
        return round(self._uncounted_chunks * self._tokens_per_chunk)

    @property
    def chunks(self) -> int:
        """Chunks with text."""
        return self._stream_chunks

    @property
    def chunks_per_token(self) -> float | None:
        """Chunks a token of replies that told their tokens."""
        return self._counted_chunks / self._counted_tokens if self._counted_tokens else None

    def requests_report(self) -> report.Requests:
        """See report.Requests."""
        return report.Requests(
            sent=self.sent,
            completed=self.completed,
            failed=self.errors.total(),
            interrupted=self.interrupted,
            finish_reasons=dict(self._finishes.most_common()),
        )

    def failures_report(self) -> list[report.Failure]:
        """Failures for the report, the most frequent first."""
        return [
            report.Failure(kind=kind, count=count, example=self._examples[kind])
            for kind, count in self.errors.most_common()
        ]

    def tokens_report(self) -> report.Tokens:
        """See report.Tokens."""
        told = self._with_usage > 0
        return report.Tokens(
            prompt=self._prompt if told else None,
            cached=self._cached if self._tells_cached else None,
            completion=self._completion if told else None,
            reasoning=self._reasoning if self._tells_reasoning else None,
            estimated=self.estimated,
            replies_without_usage=self._without_usage,
            by_channel=dict(zip(CHANNELS, self._tokens_by_channel, strict=True)) if told else None,
        )

    def chunks_report(self, elapsed_s: float) -> report.Chunks:
        """See report.Chunks."""
        return report.Chunks(
            count=self.chunks,
            by_channel=dict(zip(CHANNELS, self._chunks, strict=True)),
            per_token=self.chunks_per_token,
            per_s=self.chunks / elapsed_s if elapsed_s else 0.0,
        )

    def latency_report(self) -> report.Latency:
        """See report.Latency."""
        return report.Latency(
            ttft=quantiles(self.ttft),
            ttft_final=quantiles(self.ttft_final),
            itl=quantiles(self.itl),
            tpot=quantiles(self.tpot),
            e2e=quantiles(self.e2e),
        )

    @property
    def _tokens_per_chunk(self) -> float:
        return self._counted_tokens / self._counted_chunks if self._counted_chunks else 0.0

    def _tokens_of(self, outcome: Outcome) -> float:
        if outcome.usage is not None:
            return outcome.usage.completion
        return len(outcome.chunk_times) * self._tokens_per_chunk

    def _add_latency(self, outcome: Outcome) -> None:
        self.e2e.add(outcome.ended - outcome.started)
        if outcome.first_text is None:
            return
        self.ttft.add(outcome.first_text - outcome.started)
        if outcome.first_content is not None:
            self.ttft_final.add(outcome.first_content - outcome.started)
        times = outcome.chunk_times
        self.itl.extend(after - before for before, after in itertools.pairwise(times))
        if outcome.usage is not None and outcome.usage.completion > 1:
            self.tpot.add((times[-1] - times[0]) / (outcome.usage.completion - 1))

    def _add_usage(self, outcome: Outcome, usage: Usage) -> None:
        self._with_usage += 1
        self._prompt += usage.prompt
        self._completion += usage.completion
        if usage.reasoning is not None:
            self._tells_reasoning = True
            self._reasoning += usage.reasoning
        if usage.cached is not None:
            self._tells_cached = True
            self._cached += usage.cached
        if outcome.chunk_times:
            self._counted_chunks += len(outcome.chunk_times)
            self._counted_tokens += usage.completion
        for channel, tokens in enumerate(tokens_by_channel(outcome.characters, usage)):
            self._tokens_by_channel[channel] += tokens


def tokens_by_channel(characters: list[int], usage: Usage) -> list[float]:
    """A reply's completion tokens a channel: reasoning as told, all else by the share of the characters."""
    shares = list(characters)
    tokens = [0.0] * len(CHANNELS)
    rest = usage.completion
    if usage.reasoning is not None:
        tokens[REASONING] = usage.reasoning
        rest = max(0, rest - usage.reasoning)
        shares[REASONING] = 0
    if not any(shares):
        shares[CONTENT] = 1
    for channel, share in enumerate(shares):
        tokens[channel] += rest * share / sum(shares)
    return tokens


def quantiles(values: Distribution) -> report.Quantiles:
    """Quantiles for the report."""
    return report.Quantiles(
        count=values.count,
        mean=values.mean,
        p50=values.quantile(0.5),
        p90=values.quantile(0.9),
        p99=values.quantile(0.99),
        max=values.max if values.count else None,
    )
