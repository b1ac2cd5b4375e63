"""OpenTelemetry traces: the spans of a request, made and sent when it is over.

Names and attributes follow the semantic conventions for generative AI (opentelemetry.io/docs/specs/semconv/gen-ai).
Content is never among them. opentelemetry is imported only where traces are on: the extra `tracing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import serving
from serving.errors import SettingsError
from serving.settings.telemetry import TracingSettings
from serving.telemetry.record import RequestRecord
from serving.telemetry.timeline import EngineSegment, Timeline

if TYPE_CHECKING:
    from opentelemetry.trace import Span

# Retries included: a collector that is away must not hold up the end of the process.
_EXPORT_S = 3
_OPERATIONS = {"chat": "chat", "responses": "chat", "completions": "text_completion"}


class RequestTraces:
    """Sink for finished requests that sends their spans to `settings.endpoint` from a thread of its own.

    A request begins with its caller's traceparent, or with a trace of its own for the part `settings.sample` of them.
    What the collector does not take in time is dropped, never waited for. Raises SettingsError where the packages
    are missing.
    """

    def __init__(self, settings: TracingSettings) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            wrong = f"needs packages that are not installed ({error.name}): pip install 'gpt-oss-serving[tracing]'"
            raise SettingsError([("tracing.endpoint", wrong)]) from error
        self._provider = TracerProvider(
            resource=Resource({"service.name": "gpt-oss-serving", "service.version": serving.__version__}),
            sampler=ParentBased(TraceIdRatioBased(settings.sample)),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=_EXPORT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("serving", serving.__version__)
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Send the remaining spans within the exporter's timeout, and end the thread. Blocks."""
        self._provider.shutdown()

    def __call__(self, record: RequestRecord) -> None:
        """Make the request's spans."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        timeline = record.timeline
        if timeline is None:
            return
        clock = _Clock(record.started_at, timeline.arrived)
        operation = _OPERATIONS.get(record.api, record.api)
        root = self._tracer.start_span(
            f"{operation} {record.model}" if record.model else f"{record.method} {record.api}",
            context=self._propagator.extract(dict(timeline.carrier)),
            kind=SpanKind.SERVER,
            start_time=clock.ns(timeline.arrived),
            attributes=_attributes(record, operation),
        )
        if record.outcome not in ("ok", "client_left"):
            root.set_attribute("error.type", record.error_code or record.outcome)
            root.set_status(Status(StatusCode.ERROR))
        if root.is_recording():
            self._children(record, timeline, clock, set_span_in_context(root))
        root.end(clock.ns(timeline.arrived + record.duration_s))

    def _children(self, record: RequestRecord, timeline: Timeline, clock: _Clock, parent: Any) -> None:
        def span(name: str, begin: float, end: float, attributes: dict[str, Any] | None = None) -> Span:
            child = self._tracer.start_span(name, context=parent, start_time=clock.ns(begin), attributes=attributes)
            child.end(clock.ns(end))
            return child

        began = [segment.began for segment in timeline.segments]
        first = min([begin for begin, _ in timeline.queued] + began, default=None)
        if timeline.identified is not None and first is not None:
            span("render", timeline.identified, first)
        for begin, end in timeline.queued:
            span("queue", begin, end)
        for segment in timeline.segments:
            span("engine", segment.began, segment.ended, {"gen_ai.usage.output_tokens": segment.tokens})
            if segment.first_delta is not None:
                span(
                    "parse",
                    segment.first_delta,
                    _parsed(segment, timeline, record),
                    {"serving.busy_s": segment.parsing_s},
                )


def _parsed(segment: EngineSegment, timeline: Timeline, record: RequestRecord) -> float:
    """Time at which the last of a segment's tokens was through: parsing goes on while the engine generates."""
    return min(segment.ended + segment.parsing_s, timeline.arrived + record.duration_s)


class _Clock:
    """Monotonic moments as OpenTelemetry wants them: nanoseconds since the epoch."""

    def __init__(self, started_at: float, arrived: float) -> None:
        self._offset = started_at - arrived

    def ns(self, moment: float) -> int:
        return int((moment + self._offset) * 1e9)


def _attributes(record: RequestRecord, operation: str) -> dict[str, Any]:
    usage = record.usage
    attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "gpt-oss-serving",
        "gen_ai.request.model": record.model,
        "gen_ai.response.model": record.model,
        "gen_ai.request.stream": record.stream,
        "gen_ai.response.time_to_first_chunk": record.first_token_after_s,
        "gen_ai.usage.input_tokens": usage and usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage and usage.completion_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage and usage.reasoning_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage and usage.cached_tokens,
        "http.request.method": record.method,
        "http.response.status_code": record.status,
        "serving.api": record.api,
        "serving.request_id": record.request_id,
        "serving.team": record.team,
        "serving.effort": record.effort,
        "serving.outcome": record.outcome,
        "serving.time_to_first_final_token": record.first_final_after_s,
        "serving.tool_calls": record.tool_calls or None,
        "serving.recoveries": sum(record.recoveries.values()) or None,
        "serving.failovers": record.failovers or None,
        "serving.cache": record.cache,
    }
    return {name: value for name, value in attributes.items() if value is not None}
