"""What the application tells: traces, spans and events of its own, in the place where the running task stands."""

from __future__ import annotations

from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from turnout.errors import AllProvidersFailed, InvalidRequest, ProviderError
from turnout.registry.reading import did_you_mean
from turnout.trace.active import OpenSpan, OpenTrace, Place, Running, find, here, leave, move
from turnout.trace.traceparent import parse
from turnout.types import NANO_PER_DOLLAR, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout.trace.scribe import Scribe

_ENDS: dict[Kind | None, Kind] = {
    Kind.SESSION_START: Kind.SESSION_END,
    Kind.AGENT_ACTIVITY_START: Kind.AGENT_ACTIVITY_COMPLETE,
}
_OURS = frozenset({Kind.LLM_CALL_START, Kind.LLM_CALL_END, Kind.MODEL_FALLBACK})


class Spans:
    """The application's verbs. Only a kind that does not exist raises."""

    def __init__(self, scribe: Scribe) -> None:
        self._scribe = scribe

    def start_trace(
        self,
        session: str | None = None,
        user: str | None = None,
        *,
        parent: str | None = None,
        **metadata: Any,
    ) -> OpenTrace:
        """SESSION_START: what this task does from here on belongs to a new trace, or to its parent's."""
        trace, above = _parent(parent, None)
        return OpenTrace.at(
            self, self._enter(self._running(trace, session, user), above, Kind.SESSION_START, metadata)
        )

    def start_span(
        self, kind: Kind | str, inputs: Any = None, *, parent: str | None = None, **metadata: Any
    ) -> OpenSpan:
        """A step of the trace; outside any trace, and without a parent, the first step of a new one."""
        checked = _kind(kind)
        outer = here()
        trace, above = _parent(parent, outer)
        within = outer is not None and trace in {None, outer.running.id}
        running = outer.running if outer is not None and within else self._running(trace, None, None)
        return OpenSpan.at(self, self._enter(running, above, checked, metadata, inputs))

    def log_event(self, kind: Kind | str, inputs: Any = None, outputs: Any = None, **metadata: Any) -> None:
        """Something that happened in the active span; outside any trace nothing is kept."""
        checked = _kind(kind)
        place = here()
        if place is not None:
            self._scribe.guarded(self._noted, place, checked, inputs, outputs, metadata)

    def end_span(self, span: OpenSpan | str | None = None, outputs: Any = None, **metadata: Any) -> None:
        """End a span, the innermost when none is named. One that is not open here is noted as an ERROR."""
        place = span.place if isinstance(span, OpenSpan) else find(span) if span else here()
        if place is None or (span is None and place.kind in {None, Kind.SESSION_START}):
            what = f"{span}, which is not open here" if span else "a span, and none is open"
            self.log_event(Kind.ERROR, error=f"end_span was asked to end {what}")
        else:
            self._leave(place, outputs, metadata)

    def end_trace(self, trace: OpenTrace | None = None, outputs: Any = None, **metadata: Any) -> str | None:
        """SESSION_END of a trace, the innermost when none is named: its id, or `None` when there is none to end."""
        place = here() if trace is None else trace.place
        while trace is None and place is not None and place.kind is not Kind.SESSION_START:
            place = place.outer
        if place is None:
            self._scribe.failed("end_trace: no trace is active")
            return None
        self._leave(place, outputs, metadata)
        return place.running.id

    @contextmanager
    def join(
        self, parent: str | None, session: str | None = None, user: str | None = None
    ) -> Iterator[str | None]:
        """Stand in the span that a `traceparent` names, without a span of one's own; yields the trace's id.

        What is no `traceparent` changes nothing, as W3C asks.
        """
        trace, above = _parent(parent, None)
        if trace is None:
            yield None
            return
        place = Place(self._running(trace, session, user), above, here())
        move(place)
        try:
            yield trace
        finally:
            leave(place)

    def _running(self, trace: str | None, session: Any, user: Any) -> Running:
        name = self._scribe.name
        return Running(trace or self._scribe.clock.new_id(), name(session), name(user))

    def _enter(
        self, running: Running, above: str | None, kind: Kind, metadata: dict[str, Any], inputs: Any = None
    ) -> Place:
        outer = here()
        agent = metadata.pop("agent", None) or (outer.agent if outer is not None else None)
        clock = self._scribe.clock
        place = Place(running, clock.new_id().replace("-", "")[16:], outer, agent=self._scribe.name(agent))
        place.kind, place.began = kind, clock.monotonic()
        move(place)
        self._scribe.guarded(self._entered, place, above, inputs, metadata)
        return place

    def _entered(self, place: Place, above: str | None, inputs: Any, metadata: dict[str, Any]) -> None:
        columns, facts = self._facts(place, inputs, None, metadata)
        self._write(place, place.kind or Kind.SESSION_START, facts, span=place.span, parent=above, **columns)

    def _leave(self, place: Place, outputs: Any, metadata: dict[str, Any]) -> None:
        place.ended = True
        place.running.ended |= place.kind is Kind.SESSION_START
        leave(place)
        self._scribe.guarded(self._left, place, outputs, metadata)

    def _left(self, place: Place, outputs: Any, metadata: dict[str, Any]) -> None:
        columns, facts = self._facts(place, None, outputs, metadata)
        facts["seconds"] = round(self._scribe.clock.monotonic() - place.began, 6)
        kind = place.kind or Kind.SESSION_START
        self._write(place, _ENDS.get(kind, kind), facts, span=place.span, **columns)

    def _noted(self, place: Place, kind: Kind, inputs: Any, outputs: Any, metadata: dict[str, Any]) -> None:
        columns, facts = self._facts(place, inputs, outputs, metadata)
        self._write(place, kind, facts, parent=place.span, **columns)

    def _write(self, place: Place, kind: Kind, facts: dict[str, Any], **columns: Any) -> None:
        running = place.running
        self._scribe.event(running.id, kind, facts, user=running.user, session=running.session, **columns)

    def _facts(
        self, place: Place, inputs: Any, outputs: Any, metadata: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """An event's own columns, and its facts."""
        privacy = self._scribe.privacy
        agent = self._scribe.name(metadata.pop("agent", None) or place.agent)
        tokens = metadata.pop("tokens", None)
        columns = {
            "agent": agent,
            "tokens": None if tokens is None else int(tokens),
            "cost_nano": _nano(metadata.pop("cost_usd", None)),
            "error": self._error(metadata.pop("error", None), agent),
        }
        facts = privacy.contents(agent, inputs=inputs, outputs=outputs)
        if kept := privacy.metadata(metadata, agent):
            facts["metadata"] = kept
        return columns, facts

    def _error(self, error: Any, agent: str | None) -> str | None:
        if error is None:
            return None
        if isinstance(error, BaseException):
            name = type(error).__name__
            if self._scribe.privacy.level(agent) == "off":
                return name
            return self._scribe.privacy.text(f"{name}: {_words(error)}")
        return self._scribe.privacy.text(str(error))


def _kind(kind: Kind | str) -> Kind:
    """The kind of that name. Raises `InvalidRequest` for any other, and for those that turnout alone writes."""
    try:
        found = Kind(kind)
    except ValueError:
        raise InvalidRequest(
            f"there is no kind of event {kind!r}", hint=did_you_mean(str(kind).upper(), list(Kind))
        ) from None
    if found in _OURS:
        raise InvalidRequest(
            f"{found} is written by turnout itself, for every call it makes",
            hint="for a model that something else called, use TOOL_INVOCATION with tokens= and cost_usd=",
        )
    return found


def _parent(parent: str | None, outer: Place | None) -> tuple[str | None, str | None]:
    """The trace and the span that a new span stands in; the trace is `None` when the parent does not say."""
    if isinstance(parent, OpenSpan):
        return parent.trace_id, parent.span_id
    if parent:
        return parse(str(parent)) or (None, str(parent) if outer is not None else None)
    return (None, None) if outer is None else (outer.running.id, outer.span)


def _words(error: BaseException) -> str:
    """What it says; of a provider's refusal only what we say, for some of them quote the prompt."""
    if isinstance(error, AllProvidersFailed):
        return ", ".join(f"{attempt.model}: {attempt.outcome}" for attempt in error.attempts)
    if isinstance(error, ProviderError):
        return str(error.reason) if error.status is None else f"{error.reason}, HTTP {error.status}"
    return str(error)


def _nano(dollars: Any) -> int | None:
    if dollars is None:
        return None
    return round(Decimal(str(dollars)) * NANO_PER_DOLLAR)
