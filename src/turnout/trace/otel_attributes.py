"""Events in OpenTelemetry's terms: contexts, attributes, messages."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from turnout.trace import otel_names as names
from turnout.trace.nodes import metadata
from turnout.trace.traceparent import hex_span, hex_trace
from turnout.types import NANO_PER_DOLLAR, Event, Kind

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event as SpanEvent

Attributes = dict[str, Any]


class Span:
    """A span in progress."""

    def __init__(self, name: str, span: str, event: Event, kind: SpanKind = SpanKind.INTERNAL) -> None:
        self.name = name
        self.kind = kind
        self.context = context(event.trace, span)
        self.parent = context(event.trace, event.parent) if event.parent else None
        self.start = event.at
        self.end = event.at
        self.attributes: Attributes = known(
            {
                names.AGENT: event.agent,
                names.CONVERSATION: event.session,
                names.SESSION: event.session,
                names.USER: event.user,
            }
        )
        self.events: list[SpanEvent] = []
        self.links: list[Link] = []
        self.error: str | None = None
        self.cost_nano = 0

    def fail(self, error: str) -> None:
        """It did not go well."""
        self.error = error
        self.attributes[names.ERROR_TYPE] = error.partition(":")[0][:100]

    def add(self, name: str, amount: int | None) -> None:
        """Add to a count."""
        if amount is not None:
            self.attributes[name] = self.attributes.get(name, 0) + amount


def details(event: Event) -> Attributes:
    """What an event says, as attributes; contents stay behind."""
    facts = event.facts
    said: Attributes = {names.KIND: str(event.kind), names.COST: in_dollars(event.cost_nano)}
    if event.kind is Kind.MODEL_FALLBACK:
        said |= {
            names.FALLBACK_FROM: facts.get("from"),
            names.FALLBACK_TO: facts.get("to"),
            names.FALLBACK_REASON: facts.get("reason"),
            names.ERROR_TYPE: facts.get("reason"),
        }
    for name, value in metadata(facts).items():
        plain = isinstance(value, str | int | float)
        said[names.METADATA + name] = value if plain else msgspec.json.encode(value).decode()
    return known(said)


def messages(event: Event) -> str:
    """A call's messages, or its answer, in the conventions' shape, as JSON."""
    content = event.facts["body"]
    turns = content if isinstance(content, list) else [{"role": "assistant", **content}]
    return msgspec.json.encode(
        [
            {"role": turn.get("role"), "parts": [{"type": "text", "content": turn.get("content")}]}
            for turn in turns
            if isinstance(turn, dict)
        ]
    ).decode()


def known(values: Attributes) -> Attributes:
    """Without what is not known: OpenTelemetry has no null."""
    return {name: value for name, value in values.items() if value is not None}


def in_dollars(nano: int | None) -> float | None:
    """Its numbers are floats; the exact figure is in the store."""
    return None if nano is None else nano / NANO_PER_DOLLAR


def context(trace: str, span: str) -> SpanContext:
    """A span's ids as numbers, sampled."""
    return SpanContext(
        _as_number(hex_trace(trace), 32),
        _as_number(hex_span(span), 16),
        is_remote=False,
        trace_flags=TraceFlags(1),
    )


def _as_number(digits: str, length: int) -> int:
    """An id as OpenTelemetry has it; one that is not hex becomes a digest of itself."""
    try:
        return int(digits, 16) % 16**length or 1
    except ValueError:
        return int(hashlib.blake2b(digits.encode(), digest_size=length // 2).hexdigest(), 16)
