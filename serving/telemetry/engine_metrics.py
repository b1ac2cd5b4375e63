"""Metrics of one engine replica's process, beside those of its engine."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from serving.telemetry.definitions import BY_NAME


def engine_metrics(model: str, gpus: int, bound_tokens_s: float | None) -> CollectorRegistry:
    """Registry with an engine's size: its GPUs, and the tokens a second that it cannot pass, where that is known."""
    registry = CollectorRegistry()
    _gauge("serving_engine_gpus", registry, model, gpus)
    if bound_tokens_s is not None:
        _gauge("serving_engine_bound_tokens_per_second", registry, model, bound_tokens_s)
    return registry


def _gauge(name: str, registry: CollectorRegistry, model: str, value: float) -> None:
    definition = BY_NAME[name]
    Gauge(name, definition.help, definition.labels, registry=registry).labels(model).set(value)
