"""Spans as an OpenTelemetry collector receives them: a real receiver on loopback, OTLP over HTTP."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.trace.stage import NOON, Stage
from turnout.trace import otel
from turnout.trace.otel import OtelExporter, from_environment
from turnout.trace.otel_names import VERSION
from turnout.trace.privacy import Privacy
from turnout.types import Answer, Event, Kind, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Takes OTLP/HTTP on a loopback port and keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.scopes: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector._take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.resources.append(attributes(resource.resource))
            for scope in resource.scope_spans:
                self.scopes.append(scope.scope)
                self.spans += scope.spans

    def named(self, name: str) -> Span:
        """The one span of that name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def attributes(of: Any) -> dict[str, Any]:
    """Attributes as a dict."""
    found = {}
    for pair in of.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    made = Collector()
    yield made
    made.close()


def stage_for(
    collector: Collector, *, content: bool = False, privacy: Privacy | None = None
) -> tuple[Stage, OtelExporter]:
    """A recorder whose events go to the collector."""
    exporter = OtelExporter(SimpleSpanProcessor(OTLPSpanExporter(endpoint=collector.url)), content=content)
    return Stage(privacy, [exporter]), exporter


def test_a_fallback_in_a_trace(collector: Collector) -> None:
    """One chat span for the call, its attempts below it, the fallback on it, all in the trace's root span."""
    stage, exporter = stage_for(collector)
    with stage.spans.start_trace("s1", "alice", name="demo") as trace:
        with stage.spans.start_span("AGENT_ROUTING", agent="supervisor"):
            stage.clock.wait(0.1)
        stage.spans.log_event("AGENT_HANDOFF", **{"from": "supervisor", "to": "debugger"})
        stage.fallback(stage.call(user="alice", session="s1"))
        with stage.spans.start_span("TOOL_INVOCATION", name="search"):
            stage.spans.end_span(error="KeyError: 'notes'")
    exporter.close()
    assert stage.recorder.failures == 0
    root, chat = collector.named("invoke_workflow demo"), collector.named("chat deepseek-reasoner")
    assert {span.trace_id.hex() for span in collector.spans} == {trace.id.replace("-", "")}
    assert (root.span_id.hex(), root.parent_span_id) == (trace.span_id, b"")
    first, second = collector.named("attempt deepseek-reasoner"), collector.named("attempt gpt-4o-mini")
    routing, tool = collector.named("invoke_agent supervisor"), collector.named("execute_tool search")
    assert {chat.parent_span_id, routing.parent_span_id, tool.parent_span_id} == {root.span_id}
    assert {first.parent_span_id, second.parent_span_id} == {chat.span_id}
    assert [(event.name, attributes(event)["turnout.fallback.to"]) for event in chat.events] == [
        ("model_fallback", "gpt-4o-mini")
    ]
    assert [(event.name, attributes(event)["turnout.metadata.to"]) for event in root.events] == [
        ("agent_handoff", "debugger")
    ]
    assert chat.end_time_unix_nano - chat.start_time_unix_nano == 3_110_000_000
    assert first.start_time_unix_nano == (NOON + 100_000) * 1_000
    assert (chat.kind, first.kind, root.kind) == (3, 3, 1)
    assert (chat.status.code, first.status.code, tool.status.code) == (0, 2, 2)
    assert attributes(tool)["error.type"] == "KeyError"
    assert len(collector.spans) == 6


def test_attributes_of_a_call(collector: Collector) -> None:
    """The chat span has the conventions' names with the sums of its attempts; attempts have no `gen_ai.*` at all."""
    stage, exporter = stage_for(collector)
    call = stage.call(user="alice", session="s1")
    usage = Usage(
        input_tokens=90, cached_input_tokens=40, output_tokens=30, reasoning_tokens=20, cache_write_tokens=5
    )
    stage.attempt(call, outcome="timeout", usage=Usage(input_tokens=10, output_tokens=0), cost_nano=1_000)
    stage.attempt(
        call, number=2, usage=usage, cost_nano=2_000, upstream_model="deepseek-v4", price_id="p@1", status=200
    )
    stage.recorder.finished(call)
    assert attributes(collector.named("chat deepseek-chat")) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "deepseek",
        "gen_ai.request.model": "deepseek-chat",
        "gen_ai.response.model": "deepseek-v4",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.cache_write.input_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 20,
        "gen_ai.agent.name": "debugger",
        "gen_ai.conversation.id": "s1",
        "session.id": "s1",
        "user.id": "alice",
        "turnout.call.id": call.id,
        "turnout.attempts": 2,
        "turnout.cost.usd": 3e-06,
    }
    last = attributes(
        next(span for span in collector.spans if attributes(span).get("turnout.attempt.number") == 2)
    )
    assert {name: value for name, value in last.items() if name.startswith(("turnout.", "http."))} == {
        "turnout.attempt.number": 2,
        "turnout.attempt.model": "deepseek-chat",
        "turnout.attempt.provider": "deepseek",
        "turnout.attempt.cost.usd": 2e-06,
        "turnout.outcome": "ok",
        "turnout.price.id": "p@1",
        "http.response.status_code": 200,
    }
    assert not [name for name in last if name.startswith(("gen_ai.usage", "gen_ai.operation"))]
    assert collector.resources[0]["service.name"] == "turnout"
    assert {attributes(scope)["turnout.semconv"] for scope in collector.scopes} == {VERSION}
    exporter.close()


def test_a_call_that_nobody_answers(collector: Collector) -> None:
    """The chat span fails with its last attempt's outcome, and goes out when the engine says it is over."""
    stage, exporter = stage_for(collector)
    call = stage.call()
    stage.attempt(call, outcome="server_error", cost_nano=None, usage=None)
    assert [span.name for span in collector.spans] == ["attempt deepseek-chat"]
    stage.recorder.finished(call)
    chat = collector.named("chat deepseek-chat")
    assert (chat.status.code, attributes(chat)["error.type"]) == (2, "server_error")
    assert attributes(chat)["turnout.cost.unpriced"] == 1
    stage.recorder.finished(call)
    assert len(collector.spans) == 2
    exporter.close()


@pytest.mark.parametrize("content", [False, True])
def test_content_only_when_asked_for(collector: Collector, content: bool) -> None:
    """Captured messages go out only with `content=True`; nothing else of them does."""
    stage, exporter = stage_for(collector, content=content, privacy=Privacy(capture="full"))
    call = stage.call()
    stage.recorder.asked(call)
    attempt = stage.attempt(call)
    stage.recorder.answered(
        call, attempt, Answer(content="because of i", finish_reason="stop", upstream_model="", usage=Usage())
    )
    stage.recorder.finished(call)
    with stage.spans.start_span("TOOL_INVOCATION", "my loop"):
        stage.spans.log_event("USER_INPUT", "my loop")
    exporter.close()
    said = "".join(str(span) for span in collector.spans)
    assert ("why does my loop" in said) == ("because of i" in said) == content
    assert ("gen_ai.input.messages" in said) == ("gen_ai.output.messages" in said) == content
    assert '"my loop"' not in said


def test_what_is_left_open_goes_out_marked(collector: Collector) -> None:
    """Closing sends spans in progress, and says that they did not end."""
    stage, exporter = stage_for(collector)
    stage.spans.start_trace(name="never ends")
    stage.attempt(stage.call(), ends=False)
    assert collector.spans == []
    exporter.close()
    assert sorted(span.name for span in collector.spans) == [
        "attempt deepseek-chat",
        "chat deepseek-chat",
        "invoke_workflow never ends",
    ]
    assert all(attributes(span)["turnout.left_open"] for span in collector.spans)


def test_what_is_open_is_bounded(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest span goes out as it stands; none is kept for ever."""
    monkeypatch.setattr(otel, "MOST_OPEN", 4)
    stage, exporter = stage_for(collector)
    for index in range(10):
        stage.spans.start_trace(name=f"{index}")
    assert [span.name for span in collector.spans] == [f"invoke_workflow {index}" for index in range(6)]
    exporter.close()


def test_events_whose_span_is_elsewhere(collector: Collector) -> None:
    """An event in another process's span, and an end whose start was not seen, are spans of their own."""
    stage, exporter = stage_for(collector)
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with stage.spans.join(header):
        stage.spans.log_event("ERROR", error="no: luck")
        stage.spans.log_event("AGENT_HANDOFF", traceparent=header, agents=["a", "b"])
    error, handoff = collector.named("error"), collector.named("agent_handoff")
    assert (error.trace_id.hex(), error.parent_span_id.hex()) == (header[3:35], header[36:52])
    assert (error.status.code, attributes(error)["error.type"]) == (2, "no")
    assert [link.span_id.hex() for link in handoff.links] == [header[36:52]]
    assert attributes(handoff.events[0])["turnout.metadata.agents"] == '["a","b"]'
    exporter.export(
        Event(
            id="e",
            trace="not hex",
            kind=Kind.TOOL_INVOCATION,
            at=NOON,
            span="nor this",
            facts={"seconds": 2.0},
        )
    )
    late = collector.named("execute_tool")
    assert late.end_time_unix_nano - late.start_time_unix_nano == 2_000_000_000
    exporter.close()


def test_an_attempt_whose_start_was_not_seen(collector: Collector) -> None:
    """LLM_CALL_END is complete in itself: its span goes out whole."""
    _, exporter = stage_for(collector)
    other = Stage()
    call = other.call()
    other.attempt(call, seconds=2.0)
    exporter.export(other.memory.trace(call.id)[-1])
    exporter.finished(call.id)
    span = collector.named("attempt deepseek-chat")
    assert span.end_time_unix_nano - span.start_time_unix_nano == 2_000_000_000
    assert attributes(collector.named("chat deepseek-chat"))["gen_ai.usage.input_tokens"] == 100
    exporter.close()


def test_from_the_environment(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `OTEL_*` variables say where to and as whom; spans go in batches and are flushed at the end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-app")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    exporter = from_environment()
    stage = Stage(exporters=[exporter])
    for _ in range(20):
        call = stage.call()
        stage.fallback(call)
    exporter.close()
    assert Counter(span.name for span in collector.spans) == {
        "chat deepseek-reasoner": 20,
        "attempt deepseek-reasoner": 20,
        "attempt gpt-4o-mini": 20,
    }
    assert {resource["service.name"] for resource in collector.resources} == {"my-app"}
