"""State of the whole service in a few figures, read from the same metrics that Prometheus gets."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from serving.harmony.channels import COUNTED
from serving.telemetry.exposition import Exposition, MetricsSource

CHANNELS = ("prompt", "cached", *COUNTED, "structure")

# Many may watch, but the replicas are asked once in this time.
_KEEP_S = 1.0
# Rates are over the last samples that are at least this long apart, where there are such.
_WINDOW_S = 5.0

_WANTED = re.compile(
    r"^(serving_engine_ready|serving_model_state|serving_requests_in_flight|serving_requests_queued|serving_tokens_total"
    r"|serving_backend_ready|serving_backend_requests_total"
    r"|vllm:num_requests_running|vllm:num_requests_waiting|vllm:kv_cache_usage_perc)\{(.*)\} (\S+)$",
    re.MULTILINE,
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(slots=True)
class ModelStatus:
    """One model now. `replicas` are the engine's that answer, `silent` those that do not.

    `state` is that of serving_model_state.
    """

    ready: bool = False
    state: str = ""
    replicas: int = 0
    silent: int = 0
    in_flight: int = 0
    queued: int = 0
    running: int = 0
    kv_cache: float = 0.0


@dataclass(slots=True)
class ReplicaStatus:
    """One process now; `model` is None for an ingress replica, whose `in_flight` and `queued` are its requests'."""

    deployment: str
    replica: str
    model: str | None
    answers: bool
    in_flight: int = 0
    queued: int = 0
    running: int = 0
    kv_cache: float = 0.0


@dataclass(slots=True)
class BackendStatus:
    """One backend as all ingress replicas see it; `asked` counts how it ended, by outcome, since they started."""

    ready_for: int = 0
    asked: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Status:
    """The service now. Rates are tokens a second by channel, None until two looks could be compared."""

    models: dict[str, ModelStatus]
    ingress_replicas: int = 0
    ingress_silent: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHANNELS, 0))
    rates: dict[str, float] | None = None
    replicas: list[ReplicaStatus] = field(default_factory=list)
    backends: dict[str, BackendStatus] = field(default_factory=dict)


class StatusBoard:
    """Asks `source` at most once a second, whoever looks. `models` are the names in the settings."""

    def __init__(self, source: MetricsSource, models: Sequence[str], monotonic: Callable[[], float]) -> None:
        self._source = source
        self._models = models
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._status: Status | None = None
        self._samples: deque[_Sample] = deque(maxlen=16)

    async def look(self) -> Status:
        """The status, at most a second old."""
        async with self._lock:
            now = self._monotonic()
            if self._status is None or now - self._samples[-1].at >= _KEEP_S:
                expositions = await self._source.collect(openmetrics=False)
                self._status = await asyncio.to_thread(_summed, expositions, self._models)
                self._samples.append(_sample(now, expositions))
                self._status.rates = self._rates()
            return self._status

    def _rates(self) -> dict[str, float] | None:
        """Growth since some seconds ago; a replica that was not there then counts from its second look."""
        latest = self._samples[-1]
        earlier = [sample for sample in self._samples if latest.at - sample.at >= _WINDOW_S] or [self._samples[0]]
        before = earlier[-1]
        if before is latest:
            return None
        rates = dict.fromkeys(CHANNELS, 0.0)
        for replica, channels in latest.tokens.items():
            for channel, value in channels.items():
                if replica in before.tokens and channel in rates:
                    grown = value - before.tokens[replica].get(channel, 0.0)
                    rates[channel] += grown / (latest.at - before.at)
        return rates


@dataclass(frozen=True, slots=True)
class _Sample:
    """Token counters at a moment, by replica and channel."""

    at: float
    tokens: Mapping[str, Mapping[str, float]]


def _sample(at: float, expositions: Sequence[Exposition]) -> _Sample:
    tokens: dict[str, dict[str, float]] = {}
    for exposition in expositions:
        if exposition.body is None:
            continue
        channels = tokens.setdefault(exposition.labels.get("replica", ""), {})
        for name, labels, value in _samples_of(exposition):
            if name == "serving_tokens_total":
                channel = dict(_LABEL.findall(labels))["channel"]
                channels[channel] = channels.get(channel, 0.0) + value
    return _Sample(at, tokens)


def _summed(expositions: Sequence[Exposition], models: Sequence[str]) -> Status:
    status = Status({name: ModelStatus() for name in models})
    for exposition in expositions:
        replica = _count_replica(exposition, status)
        for name, text, value in _samples_of(exposition):
            labels = dict(_LABEL.findall(text))
            if name == "serving_tokens_total":
                status.tokens[labels["channel"]] += int(value)
                continue
            if name.startswith("serving_backend_"):
                _add_backend(status.backends.setdefault(labels["backend"], BackendStatus()), labels, value)
                continue
            if name == "serving_model_state":
                if value and (known := status.models.get(labels["model"])) is not None:
                    known.state = labels["state"]
                continue
            _add(replica, name, value)
            model = status.models.get(labels.get("model") or exposition.labels.get("model", ""))
            if model is not None:
                _add(model, name, value)
    return status


def _count_replica(exposition: Exposition, status: Status) -> ReplicaStatus:
    answers = exposition.body is not None
    labels = exposition.labels
    replica = ReplicaStatus(labels.get("deployment", ""), labels.get("replica", ""), labels.get("model"), answers)
    status.replicas.append(replica)
    model = status.models.get(exposition.labels.get("model", ""))
    if model is not None:
        model.replicas += answers
        model.silent += not answers
    else:
        status.ingress_replicas += answers
        status.ingress_silent += not answers
    return replica


def _add(to: ModelStatus | ReplicaStatus, name: str, value: float) -> None:
    match name:
        case "serving_engine_ready" if isinstance(to, ModelStatus):
            to.ready |= bool(value)
        case "serving_requests_in_flight":
            to.in_flight += int(value)
        case "serving_requests_queued" | "vllm:num_requests_waiting":
            to.queued += int(value)
        case "vllm:num_requests_running":
            to.running += int(value)
        case "vllm:kv_cache_usage_perc":
            to.kv_cache = max(to.kv_cache, value)


def _add_backend(backend: BackendStatus, labels: Mapping[str, str], value: float) -> None:
    if (outcome := labels.get("outcome")) is None:
        backend.ready_for += bool(value)
    elif value:
        backend.asked[outcome] = backend.asked.get(outcome, 0) + int(value)


def _samples_of(exposition: Exposition) -> Iterator[tuple[str, str, float]]:
    text = (exposition.body or b"").decode()
    for name, labels, value in _WANTED.findall(text):
        yield name, labels, float(value)
