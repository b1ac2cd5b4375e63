"""Spans of the whole app's requests, as they arrive at a collector that speaks OTLP over HTTP."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from serving.app import create_app
from serving.engine.base import OwnedEngine
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.parts import Parts
from serving.settings.telemetry import TracingSettings
from serving.settings.tree import Settings
from serving.telemetry.process import ProcessTelemetry

HARMONY = "<|channel|>analysis<|message|>Thinking.<|end|><|start|>assistant<|channel|>final<|message|>Hello!<|return|>"
SECRET = "Quetzalcoatl"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


class Collector:
    """Keeps the spans that are sent to `endpoint`."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass  # the test's output is for what fails

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def named(self, name: str) -> Any:
        [span] = [span for span in self.spans if span.name == name]
        return span


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()
    thread.join()


@asynccontextmanager
async def traced(tracing: TracingSettings) -> AsyncIterator[httpx.AsyncClient]:
    """The app; all spans have been sent when this is left."""
    engine = ScriptedEngine(Script((ScriptLine(completion=HARMONY, step_ms=2),)), model="demo")
    await engine.start()
    settings = Settings(tracing=tracing)
    engines: Mapping[str, OwnedEngine] = {"demo": engine}
    async with (
        Parts.in_process(settings, engines) as parts,
        httpx.AsyncClient(transport=httpx.ASGITransport(create_app(parts)), base_url="http://test") as client,
    ):
        yield client
    await engine.close()


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": SECRET}], **fields}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_has_spans_of_its_parts_within_it(collector: Collector, stream: bool) -> None:
    async with traced(TracingSettings(endpoint=collector.endpoint)) as client:
        await client.post("/v1/chat/completions", json=chat(stream=stream), headers={"x-request-id": "mine"})
    assert {span.name for span in collector.spans} == {"chat demo", "render", "queue", "engine", "parse"}
    root = collector.named("chat demo")
    for span in collector.spans:
        assert span.trace_id == root.trace_id
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano, span.name
        assert span is root or span.parent_span_id == root.span_id
    order = ["render", "queue", "engine", "parse"]
    begins = [collector.named(name).start_time_unix_nano for name in order]
    assert begins == sorted(begins)
    found = attributes(root)
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.request.model"] == "demo"
    assert found["gen_ai.usage.output_tokens"] > found["gen_ai.usage.reasoning.output_tokens"] > 0
    assert found["serving.request_id"] == "mine"
    assert found["http.response.status_code"] == 200


async def test_the_callers_trace_goes_on(collector: Collector) -> None:
    async with traced(TracingSettings(endpoint=collector.endpoint, sample=0)) as client:
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        await client.post("/v1/chat/completions", json=chat(), headers=headers)
    root = collector.named("chat demo")
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, CALLER)


@pytest.mark.parametrize("traceparent", [f"00-{TRACE}-{CALLER}-00", None])
async def test_what_is_not_sampled_is_not_sent(collector: Collector, traceparent: str | None) -> None:
    async with traced(TracingSettings(endpoint=collector.endpoint, sample=0)) as client:
        headers = {"traceparent": traceparent} if traceparent else {}
        await client.post("/v1/chat/completions", json=chat(), headers=headers)
    assert collector.spans == []


@pytest.mark.parametrize("traceparent", ["nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ü"])
async def test_a_malformed_traceparent_begins_a_trace_of_its_own(collector: Collector, traceparent: str) -> None:
    async with traced(TracingSettings(endpoint=collector.endpoint)) as client:
        headers = {b"traceparent": traceparent.encode()}
        reply = await client.post("/v1/chat/completions", json=chat(), headers=headers)
    assert reply.status_code == 200
    assert collector.named("chat demo").parent_span_id == b""


async def test_a_failure_is_an_error_with_its_type(collector: Collector) -> None:
    async with traced(TracingSettings(endpoint=collector.endpoint)) as client:
        await client.post("/v1/chat/completions", json=chat(model="gpt-17"))
    root = collector.named("POST chat")
    assert root.status.code == root.status.STATUS_CODE_ERROR
    assert attributes(root)["error.type"] == "model_not_found"


async def test_no_span_has_content(collector: Collector) -> None:
    async with traced(TracingSettings(endpoint=collector.endpoint)) as client:
        await client.post("/v1/chat/completions", json=chat())
        await client.post("/v1/chat/completions", json=chat(model=SECRET))
    assert SECRET not in str(collector.spans)
    assert "Thinking" not in str(collector.spans)


async def test_a_collector_that_is_away_costs_no_answer() -> None:
    async with traced(TracingSettings(endpoint="http://127.0.0.1:9/v1/traces")) as client:
        reply = await client.post("/v1/chat/completions", json=chat())
    assert reply.status_code == 200


async def test_without_an_endpoint_nothing_is_timed() -> None:
    telemetry = ProcessTelemetry(Settings(), {}, labels={})
    assert telemetry.recording.timed is False
