"""Events -> OpenTelemetry spans (extra `otel`), handed to any span processor of its SDK.

One GenAI span covers a call with all its attempts; the attempts are its children and carry no `gen_ai.usage`, so
that a backend that adds up spans counts every token once. Content goes along only where it was captured and asked for.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from turnout.trace import otel_names as names
from turnout.trace.nodes import metadata
from turnout.trace.otel_attributes import Span, context, details, in_dollars, known, messages
from turnout.trace.traceparent import parse
from turnout.trace.tree import closes
from turnout.types import Closed, Event, Kind, Opened

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

MOST_OPEN = 10_000
"""Spans in progress; beyond them the oldest goes out as it stands."""
_SCOPE = InstrumentationScope("turnout", attributes={"turnout.semconv": names.VERSION})
_CONTENT = {Kind.USER_INPUT: names.INPUT_MESSAGES, Kind.AGENT_RESPONSE: names.OUTPUT_MESSAGES}


class OtelExporter:
    """A `turnout.trace.recorder.Exporter`. `content` sends captured messages along.

    `close` sends what is still open, flushes and shuts the processor down.
    """

    def __init__(
        self, processor: SpanProcessor, resource: Resource | None = None, *, content: bool = False
    ) -> None:
        self._processor = processor
        self._resource = resource or _resource()
        self._content = content
        self._open: dict[str, Span] = {}
        self._lock = threading.Lock()

    def export(self, event: Event) -> None:
        """Begin, fill or finish the span that the event is about."""
        with self._lock:
            if event.kind is Kind.LLM_CALL_START:
                self._attempt(event, msgspec.convert(event.facts, Opened))
            elif event.kind is Kind.LLM_CALL_END:
                self._settled(event, msgspec.convert(event.facts, Closed))
            elif not event.span:
                self._noted(event)
            elif closes(event):
                self._ended(event)
            else:
                self._keep(event.span, _began(event))

    def finished(self, call: str) -> None:
        """The call's span goes out."""
        with self._lock:
            self._emit(f"call {call}")

    def close(self) -> None:
        """Send everything; spans in progress say so."""
        with self._lock:
            for name in list(self._open):
                self._cut(name)
        self._processor.shutdown()

    def _call(self, event: Event, call: str) -> Span:
        """The span of a call, begun by whatever is heard of it first."""
        key = f"call {call}"
        if key not in self._open:
            span = Span(names.CHAT, call, event, SpanKind.CLIENT)
            span.attributes |= {names.CALL: call, names.OPERATION: names.CHAT}
            self._keep(key, span)
        return self._open[key]

    def _attempt(self, event: Event, opened: Opened) -> Span:
        call = self._call(event, opened.call)
        if names.REQUEST_MODEL not in call.attributes:
            operation = names.EMBEDDINGS if opened.operation == "search" else names.CHAT
            model = opened.asked or opened.model
            call.name = f"{operation} {model}"
            call.attributes |= {names.OPERATION: operation, names.REQUEST_MODEL: model}
        call.add(names.ATTEMPTS, 1)
        span = Span(f"attempt {opened.model}", event.span or event.id, event, SpanKind.CLIENT)
        span.parent = call.context
        span.attributes |= {
            names.ATTEMPT: opened.number,
            names.ATTEMPT_MODEL: opened.model,
            names.ATTEMPT_PROVIDER: opened.provider,
        }
        self._keep(event.span or event.id, span)
        return span

    def _settled(self, event: Event, closed: Closed) -> None:
        attempt, usage = closed.attempt, closed.attempt.usage
        span = self._open.get(attempt.id) or self._attempt(event, closed.opened)
        call = self._call(event, closed.opened.call)
        span.start, span.end = attempt.started_at or span.start, event.at
        span.attributes |= known(
            {
                names.OUTCOME: attempt.outcome,
                names.HTTP_STATUS: attempt.status,
                names.PRICE: attempt.price_id,
                names.ATTEMPT_COST: in_dollars(attempt.cost_nano),
            }
        )
        call.end = event.at
        call.attributes |= known(
            {
                names.PROVIDER: attempt.provider,
                names.RESPONSE_MODEL: attempt.upstream_model or attempt.model,
                names.FINISH_REASONS: [closed.finish_reason] if closed.finish_reason else None,
            }
        )
        call.cost_nano += attempt.cost_nano or 0
        call.attributes[names.COST] = in_dollars(call.cost_nano)
        call.add(names.UNPRICED, 1 if attempt.cost_nano is None else None)
        if usage is not None:
            call.add(names.INPUT_TOKENS, usage.input_tokens)
            call.add(names.OUTPUT_TOKENS, usage.output_tokens)
            call.add(names.CACHE_READ_TOKENS, usage.cached_input_tokens)
            call.add(names.CACHE_WRITE_TOKENS, usage.cache_write_tokens)
            call.add(names.REASONING_TOKENS, usage.reasoning_tokens)
        if attempt.outcome == "ok":
            call.error = None
            call.attributes.pop(names.ERROR_TYPE, None)
        else:
            span.fail(attempt.outcome)
            call.fail(attempt.outcome)
        self._emit(attempt.id)

    def _noted(self, event: Event) -> None:
        """An event within a span: on that span, or on one of its own where that is not ours."""
        call = event.facts.get("call")
        if event.kind in _CONTENT and isinstance(call, str):
            if self._content and "body" in event.facts:
                self._call(event, call).attributes[_CONTENT[event.kind]] = messages(event)
            return
        span = self._open.get(f"call {call}") or self._open.get(event.parent or "")
        alone = span is None
        if span is None:
            span = Span(event.kind.lower(), event.id, event)
        span.events.append(SpanEvent(event.kind.lower(), details(event), event.at * 1_000))
        parent = parse(str(metadata(event.facts).get("traceparent", "")))
        if parent is not None:
            span.links.append(Link(context(*parent)))
        if event.kind is Kind.ERROR:
            span.fail(event.error or "error")
        if alone:
            self._send(span)

    def _ended(self, event: Event) -> None:
        span = self._open.get(event.span or "")
        if span is None:
            span = _began(event)
            span.start -= round(float(event.facts["seconds"]) * 1e6)
            self._keep(event.span or event.id, span)
        span.end = event.at
        span.attributes |= details(event)
        if event.error:
            span.fail(event.error)
        self._emit(event.span or event.id)

    def _keep(self, key: str, span: Span) -> None:
        if len(self._open) >= MOST_OPEN:
            self._cut(next(iter(self._open)))
        self._open[key] = span

    def _cut(self, key: str) -> None:
        self._open[key].attributes[names.LEFT_OPEN] = True
        self._emit(key)

    def _emit(self, key: str) -> None:
        span = self._open.pop(key, None)
        if span is not None:
            self._send(span)

    def _send(self, span: Span) -> None:
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=span.context,
                parent=span.parent,
                resource=self._resource,
                attributes=span.attributes,
                events=span.events,
                links=span.links,
                kind=span.kind,
                instrumentation_scope=_SCOPE,
                status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
                start_time=span.start * 1_000,
                end_time=max(span.start, span.end) * 1_000,
            )
        )


def _resource() -> Resource:
    """As the `OTEL_*` variables name this service, else `turnout`."""
    found = Resource.create()
    nameless = str(found.attributes["service.name"]).startswith("unknown_service")
    return found.merge(Resource({"service.name": "turnout"})) if nameless else found


def from_environment(*, content: bool = False) -> OtelExporter:
    """Over OTLP/HTTP in batches, to where the `OTEL_*` variables say."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - requests
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - starts a thread

    return OtelExporter(BatchSpanProcessor(OTLPSpanExporter()), content=content)


def _began(event: Event) -> Span:
    name = metadata(event.facts).get("name") or (
        "supervisor" if event.kind is Kind.AGENT_ROUTING else event.agent
    )
    operation = names.OPERATIONS.get(event.kind)
    title = f"{operation or event.kind.lower()} {name or ''}".strip()
    span = Span(title, event.span or event.id, event)
    span.attributes |= details(event)
    if operation:
        span.attributes[names.OPERATION] = operation
    if event.kind is Kind.TOOL_INVOCATION and name:
        span.attributes[names.TOOL] = name
    return span
