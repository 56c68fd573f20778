"""The functions an application calls; they reach this process's recorder and reports through `current`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnout import current
from turnout.clock import Clock
from turnout.errors import InvalidRequest, TurnoutError
from turnout.trace.active import here
from turnout.trace.memory import MemorySink
from turnout.trace.recorder import Recorder
from turnout.trace.traceparent import canonical, parse
from turnout.trace.views import Trace, read

if TYPE_CHECKING:
    from turnout.trace.active import OpenSpan, OpenTrace
    from turnout.trace.memory import Reports
    from turnout.trace.spans import Spans
    from turnout.types import Kind


def start_trace(
    session_id: str | None = None, user_id: str | None = None, *, parent: str | None = None, **metadata: Any
) -> OpenTrace:
    """Begin a trace: what this task, and those it makes, do from here on belongs to it.

    The result is the trace's id as text, and a context manager that ends it. `parent` is a `traceparent`, or a span
    or trace of this process: the trace goes on within it. Of `metadata`, `agent` says on whose behalf, and `name`
    what people call it. Raises nothing.
    """
    return _spans().start_trace(session_id, user_id, parent=parent, **metadata)


def end_trace(trace: OpenTrace | None = None, outputs: Any = None, **metadata: Any) -> str | None:
    """End a trace, the innermost active one when none is named. Its id, or `None` when there is none to end."""
    return _spans().end_trace(trace, outputs, **metadata)


def start_span(
    kind: Kind | str, inputs: Any = None, *, parent: str | None = None, **metadata: Any
) -> OpenSpan:
    """Begin a step of the active trace; without one, and without a `parent`, the first step of a new trace.

    The result is the span's id as text, and a context manager that ends it and notes an exception that leaves it.
    `inputs` are content: kept as far as the agent's capture level allows. Of `metadata`, `name` is what people
    call the step, and `agent` on whose behalf it is. Raises `InvalidRequest` for a kind that does not exist.
    """
    return _spans().start_span(kind, inputs, parent=parent, **metadata)


def end_span(span: OpenSpan | str | None = None, outputs: Any = None, **metadata: Any) -> None:
    """End a span, the innermost open one when none is named; one that is not open is noted, not raised.

    Of `metadata`, `tokens`, `cost_usd` and `error` count in the summary.
    """
    _spans().end_span(span, outputs, **metadata)


def log_event(kind: Kind | str, inputs: Any = None, outputs: Any = None, **metadata: Any) -> None:
    """Note something that happened in the active span; outside any trace nothing is kept.

    Of `metadata`, `agent`, `tokens`, `cost_usd` and `error` have columns of their own. Raises `InvalidRequest` for a
    kind that does not exist.
    """
    _spans().log_event(kind, inputs, outputs, **metadata)


def is_trace_active() -> bool:
    """This task is in a trace that has not ended."""
    place = here()
    return place is not None and not place.running.ended


def get_trace(trace_id: str) -> Trace | None:
    """A trace by its id (also as 32 hex digits, or as a `traceparent`), or `None`. Raises `ConfigError`."""
    remote = parse(trace_id)
    return read(_reports().trace(remote[0] if remote else canonical(trace_id)), _CLOCK.now())


def get_session_traces(session_id: str) -> list[Trace]:
    """A session's traces, newest first. Raises `ConfigError`."""
    return _read(_reports().session_traces(session_id))


def get_user_traces(user_id: str, limit: int = 10) -> list[Trace]:
    """A user's latest traces, newest first. Raises `InvalidRequest` unless `limit` is 1 to 100, `ConfigError`."""
    if not 1 <= limit <= 100:
        raise InvalidRequest(f"limit must be 1 to 100, not {limit}")
    return _read(_reports().user_traces(user_id, limit))


_CLOCK = Clock()
_UNWIRED = Recorder(MemorySink(most=1), _CLOCK)
"""Stands in where the settings do not let a runtime be made: the call that follows will say so, a trace must not."""


def _spans() -> Spans:
    try:
        recorder: Recorder = current.runtime().recorder
    except TurnoutError:
        return _UNWIRED.spans
    return recorder.spans


def _reports() -> Reports:
    reports: Reports = current.runtime().reports
    return reports


def _read(ids: list[str]) -> list[Trace]:
    now, reports = _CLOCK.now(), _reports()
    traces = [read(reports.trace(trace), now) for trace in ids]
    return [trace for trace in traces if trace is not None]
