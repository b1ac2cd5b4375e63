"""Metrics of one process, with a typed method for each event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.engine.lifecycle.state import LOAD_CAUSES, UNLOAD_CAUSES, Cause, State
from serving.engine.start_failure import START_FAILURE_REASONS, StartFailureReason
from serving.generation.schema_misses import Body
from serving.harmony.tokenization import RECOVERY_KINDS
from serving.settings.limits import LIMIT_KINDS
from serving.telemetry.build import Versions
from serving.telemetry.chunk_histogram import ChunkHistogram
from serving.telemetry.definitions import BY_NAME, DEFINITIONS
from serving.telemetry.label_values import NONE, FirstValues, KnownValues
from serving.telemetry.record import RequestRecord

RejectionReason = str
"""Labels of serving_rejections_total: those below, and those of the kinds of limits."""
FrameLoss = Literal["missing", "late", "doubled", "foreign", "corrupt", "unreachable"]
FailoverOutcome = Literal["resumed", "restarted", "given_up", "poison"]
FallbackReason = Literal["not_ready", "full", "deadline", "engine_gone"]
BackendOutcome = Literal["ok", "full", "failed", "refused", "abandoned"]
CacheFailure = Literal["read", "write", "too_large"]
DisconnectStage = Literal["before_first_token", "streaming"]

REJECTION_REASONS: tuple[RejectionReason, ...] = (
    "authentication",  # no key, a wrong one, or one that has ended
    "model_not_allowed",
    "effort_not_allowed",
    "too_long",  # more context or output than the team may ask for
    *(kind.reason for kind in LIMIT_KINDS),
    "queue_full",
    "deadline",  # could not finish in time, or ran out while it waited
    "draining",
)

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_MOST_TEAMS = 500
_MOST_BACKENDS = 200
_MOST_ADAPTERS = 200
_MOST_PARAMETERS = 100


class Metrics:
    """Metrics in `registry`, which the owner of the process makes.

    `models` are the names in the settings: other names fold into "other", as do teams after the first 500, adapters
    after 200 and unknown parameters after 100. Methods take the names as they are; None is for what the request did not
    get far enough to have.
    """

    def __init__(self, registry: CollectorRegistry, models: Iterable[str]) -> None:
        models = tuple(models)
        self._models = KnownValues(models)
        self._teams = FirstValues(_MOST_TEAMS)
        self._efforts = KnownValues(_EFFORTS)
        self._backends = FirstValues(_MOST_BACKENDS)
        self._adapters = FirstValues(_MOST_ADAPTERS)
        definitions = [d for d in DEFINITIONS if d.process == "ingress"]
        self._parameters = FirstValues(_MOST_PARAMETERS)
        self._counters = {
            d.name: Counter(d.name, d.help, d.labels, registry=registry) for d in definitions if d.kind == "counter"
        }
        self._gauges = {
            d.name: Gauge(d.name, d.help, d.labels, registry=registry) for d in definitions if d.kind == "gauge"
        }
        chunked = "serving_inter_token_latency_seconds"
        self._histograms = {
            d.name: Histogram(d.name, d.help, d.labels, registry=registry, buckets=d.buckets)
            for d in definitions
            if d.kind == "histogram" and d.name != chunked
        }
        self._gaps = ChunkHistogram(BY_NAME[chunked], registry)
        self._start_failures: dict[tuple[str, StartFailureReason], int] = {}
        self._start_at_zero(models)

    def _start_at_zero(self, models: Iterable[str]) -> None:
        """Alerts compare a counter with what it was: the rare ones must be there before their first event."""
        for failure in get_args(CacheFailure):
            self._counters["serving_cache_failures_total"].labels(failure)
        for model in models:
            for each in START_FAILURE_REASONS:
                self._counters["serving_engine_start_failures_total"].labels(model, each)
            for kind in RECOVERY_KINDS:
                self._counters["serving_recoveries_total"].labels(model, kind)
            for body in get_args(Body):
                self._counters["serving_schema_misses_total"].labels(model, body)
            for outcome in get_args(FailoverOutcome):
                self._counters["serving_failovers_total"].labels(model, outcome)
            for loss in get_args(FrameLoss):
                self._counters["serving_frame_losses_total"].labels(model, loss)
            for reason in get_args(FallbackReason):
                self._counters["serving_fallbacks_total"].labels(model, reason)
            for cause in LOAD_CAUSES:
                self._counters["serving_model_loads_total"].labels(model, cause)
            for cause in UNLOAD_CAUSES:
                self._counters["serving_model_unloads_total"].labels(model, cause)
            self._histograms["serving_model_load_seconds"].labels(model)
            self._histograms["serving_failover_seconds"].labels(model)
            self._gaps.bind(model)

    def about(self, versions: Versions, config_hash: str) -> None:
        """Set the build information."""
        self._gauges["serving_build_info"].labels(
            versions["serving"], versions["python"], versions["ray"] or NONE, versions["vllm"] or NONE
        ).set(1)
        self._gauges["serving_config_info"].labels(config_hash).set(1)

    def chunk_gap(self, model: str) -> Callable[[float], None]:
        """Function for one answer that observes the seconds between two of its chunks."""
        return self._gaps.bind(self._models.fold(model))

    def in_flight(self, model: str, team: str | None, change: Literal[1, -1]) -> None:
        """Count a request of a known model that began or ended."""
        labels = self._models.fold(model), self._teams.fold(team)
        self._gauges["serving_requests_in_flight"].labels(*labels).inc(change)
        if change > 0:
            self._gauges["serving_requests_queued"].labels(*labels)  # 0 while nobody waits, rather than no series

    def queued(self, model: str, team: str | None, change: Literal[1, -1]) -> None:
        """Count a request that joined or left the admission queue."""
        self._gauges["serving_requests_queued"].labels(self._models.fold(model), self._teams.fold(team)).inc(change)

    def rejected(self, model: str | None, team: str | None, reason: RejectionReason) -> None:
        """Count a request that policy, limits or a full queue refused."""
        self._counters["serving_rejections_total"].labels(
            self._models.fold(model), self._teams.fold(team), reason
        ).inc()

    def batch_line(self, team: str, outcome: str) -> None:
        """Count a line of a batch that has its result: completed, failed, expired or cancelled."""
        self._counters["serving_batch_lines_total"].labels(self._teams.fold(team), outcome).inc()

    def batch_finished(self, team: str, status: str) -> None:
        """Count a batch that is over: completed, failed, expired or cancelled."""
        self._counters["serving_batches_finished_total"].labels(self._teams.fold(team), status).inc()

    def batch_lines(self, lines: Mapping[str, tuple[int, int]]) -> None:
        """Set the numbers of lines that wait and that run, by team; teams without a batch are not shown."""
        gauge = self._gauges["serving_batch_lines_unanswered"]
        gauge.clear()
        for team, (queued, running) in lines.items():
            gauge.labels(self._teams.fold(team), "queued").inc(queued)
            gauge.labels(self._teams.fold(team), "running").inc(running)

    def effort_changed(self, model: str, team: str | None, *, asked: str, used: str) -> None:
        """Count a request that is answered with another effort than it asked for."""
        self._counters["serving_effort_changes_total"].labels(
            self._models.fold(model), self._teams.fold(team), self._efforts.fold(asked), self._efforts.fold(used)
        ).inc()

    def ignored(self, api: str, parameter: str) -> None:
        """Count a request's field that this server does not know, by its path."""
        self._counters["serving_ignored_parameters_total"].labels(api, self._parameters.fold(parameter)).inc()

    def recovered(self, model: str, kind: str) -> None:
        """Count a recovery from malformed Harmony; `kind` is one of RECOVERY_KINDS or of the generation's own."""
        self._counters["serving_recoveries_total"].labels(self._models.fold(model), kind).inc()

    def schema_missed(self, model: str, body: Body) -> None:
        """Count a finished answer or call that is not valid by the schema that it was held to."""
        self._counters["serving_schema_misses_total"].labels(self._models.fold(model), body).inc()

    def failed_over(self, model: str, outcome: FailoverOutcome, lost_s: float | None = None) -> None:
        """Count a request whose engine was lost: it went on elsewhere after `lost_s` seconds, or was given up."""
        model = self._models.fold(model)
        self._counters["serving_failovers_total"].labels(model, outcome).inc()
        if lost_s is not None:
            self._histograms["serving_failover_seconds"].labels(model).observe(lost_s)

    def backend_asked(self, backend: str, outcome: BackendOutcome) -> None:
        """Count an attempt at a backend by its outcome."""
        self._counters["serving_backend_requests_total"].labels(self._backends.fold(backend), outcome).inc()

    def sent_outside(self, team: str | None, backend: str) -> None:
        """Count a conversation that is sent to an external backend."""
        self._counters["serving_external_requests_total"].labels(
            self._teams.fold(team), self._backends.fold(backend)
        ).inc()

    def may_be_sent_outside(self, team: str | None, backend: str) -> None:
        """Start the counter of sent_outside at 0: one that begins at 1 shows no growth."""
        self._counters["serving_external_requests_total"].labels(self._teams.fold(team), self._backends.fold(backend))

    def backends_ready(self, ready: Mapping[str, bool]) -> None:
        """Set the readiness of all backends."""
        gauge = self._gauges["serving_backend_ready"]
        gauge.clear()
        for backend, is_ready in ready.items():
            backend = self._backends.fold(backend)
            gauge.labels(backend).set(is_ready)
            for outcome in get_args(BackendOutcome):
                self._counters["serving_backend_requests_total"].labels(backend, outcome)  # from 0, as above

    def fell_back(self, model: str, reason: FallbackReason) -> None:
        """Count a request that goes to the next of its model's fallbacks."""
        self._counters["serving_fallbacks_total"].labels(self._models.fold(model), reason).inc()

    def cache_failed(self, kind: CacheFailure) -> None:
        """Count a failure of the answer cache to read or keep an answer."""
        self._counters["serving_cache_failures_total"].labels(kind).inc()

    def frame_lost(self, model: str, kind: FrameLoss, count: int = 1) -> None:
        """Count token frames that did not arrive as they were sent."""
        self._counters["serving_frame_losses_total"].labels(self._models.fold(model), kind).inc(count)

    def limits_used(self, ratios: Mapping[tuple[str, str], float]) -> None:
        """Set the used part of each (team, limit); `limit` is the name of its field in the teams file."""
        gauge = self._gauges["serving_limit_used_ratio"]
        gauge.clear()
        for (team, limit), ratio in ratios.items():
            gauge.labels(self._teams.fold(team), limit).set(ratio)

    def keys_expire(self, moments: Mapping[tuple[str, str], float]) -> None:
        """Set the expiry of each (team, key), in seconds since the epoch. `key` is its public id, never the key."""
        gauge = self._gauges["serving_key_expiry_timestamp_seconds"]
        gauge.clear()
        for (team, key), moment in moments.items():
            gauge.labels(self._teams.fold(team), key).set(moment)

    def engine_ready(self, model: str, ready: bool) -> None:
        """Set whether the model's engines answer this process."""
        self._gauges["serving_engine_ready"].labels(self._models.fold(model)).set(ready)

    def engine_saturated(self, model: str, ratio: float) -> None:
        """Set how much of what a model's engines may have from this process is in use."""
        self._gauges["serving_engine_saturation_ratio"].labels(self._models.fold(model)).set(ratio)

    def model_changed(self, model: str, loaded: bool, cause: Cause) -> None:
        """Count a request to load or unload a model."""
        name = "serving_model_loads_total" if loaded else "serving_model_unloads_total"
        self._counters[name].labels(self._models.fold(model), cause).inc()

    def model_back(self, model: str, seconds: float) -> None:
        """Observe the seconds until a model that was to be loaded answered."""
        self._histograms["serving_model_load_seconds"].labels(self._models.fold(model)).observe(seconds)

    def model_is(self, model: str, state: State) -> None:
        """Set the state of a model."""
        for each in get_args(State):
            self._gauges["serving_model_state"].labels(self._models.fold(model), each).set(each == state)

    def starts_failed(self, model: str, totals: Mapping[StartFailureReason, int]) -> None:
        """Set the failed starts of a model's engines since the cluster began, from its key-value store."""
        model = self._models.fold(model)
        for reason, total in totals.items():
            grown = total - self._start_failures.get((model, reason), 0)
            if grown > 0:
                self._counters["serving_engine_start_failures_total"].labels(model, reason).inc(grown)
            self._start_failures[model, reason] = total

    def requests_held(self, model: str, count: int) -> None:
        """Set the number of requests that wait for a model to be loaded."""
        self._gauges["serving_requests_held"].labels(self._models.fold(model)).set(count)

    def finished(self, record: RequestRecord) -> None:
        """Count a request that is over."""
        model, team = self._models.fold(record.model), self._teams.fold(record.team)
        effort = self._efforts.fold(record.effort)
        self._counters["serving_requests_total"].labels(record.api, model, team, effort, record.outcome).inc()
        if record.adapter is not None:
            adapter = self._adapters.fold(record.adapter)
            self._counters["serving_adapter_requests_total"].labels(model, adapter, record.outcome).inc()
        if record.outcome == "client_left":
            stage: DisconnectStage = "before_first_token" if record.first_token_after_s is None else "streaming"
            self._counters["serving_client_disconnects_total"].labels(model, team, stage).inc()
        if record.outcome == "ok" and record.usage is not None:
            self._histograms["serving_request_duration_seconds"].labels(record.api, model, team).observe(
                record.duration_s
            )
        if record.cache is not None:
            self._counters["serving_cache_requests_total"].labels(model, team, record.cache).inc()
        self._observe_times(record, model, team)
        self._count_tokens(record, model, team, effort)

    def _observe_times(self, record: RequestRecord, model: str, team: str) -> None:
        for name, seconds in (
            ("serving_queue_time_seconds", record.queue_s),
            ("serving_time_to_first_token_seconds", record.first_token_after_s),
            ("serving_time_to_first_final_token_seconds", record.first_final_after_s),
        ):
            if seconds is not None:
                self._histograms[name].labels(model, team).observe(seconds)
        first, last, usage = record.first_token_after_s, record.last_token_after_s, record.usage
        if first is None or last is None or usage is None or record.cache == "hit":
            return
        if usage.completion_tokens > 1:
            per_token = (last - first) / (usage.completion_tokens - 1)
            self._histograms["serving_time_per_output_token_seconds"].labels(model).observe(per_token)

    def _count_tokens(self, record: RequestRecord, model: str, team: str, effort: str) -> None:
        if record.tool_calls:
            self._counters["serving_tool_calls_total"].labels(model, team).inc(record.tool_calls)
        if record.reasoning_truncated:
            self._counters["serving_reasoning_truncations_total"].labels(model, team).inc()
        usage = record.usage
        if usage is None:
            return
        if record.outcome == "ok":
            self._histograms["serving_reasoning_tokens"].labels(model, effort).observe(usage.reasoning_tokens)
        if usage.cache is not None:
            tokens = usage.prompt_tokens + usage.completion_tokens
            self._counters["serving_cache_saved_tokens_total"].labels(model, team).inc(tokens)
            return
        for channel, tokens in (
            ("prompt", usage.prompt_tokens - usage.cached_tokens),
            ("cached", usage.cached_tokens),
            *usage.channels.items(),
            ("structure", usage.completion_tokens - usage.channels.total),
        ):
            if tokens > 0:
                self._counters["serving_tokens_total"].labels(model, team, channel).inc(tokens)
