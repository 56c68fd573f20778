"""Tree, timeline and summary of a trace, from nothing but its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from turnout.trace.nodes import Node, State, What, metadata, walk
from turnout.trace.settling import total
from turnout.trace.tree import build, in_order
from turnout.types import Event, Kind, dollars

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal


class Summary(msgspec.Struct, kw_only=True):
    """A trace in figures. Tokens, money and `work_seconds` are sums over its leaves; `seconds` is on the wall."""

    trace_id: str
    session_id: str | None
    user_id: str | None
    started_at: int
    """Microseconds UTC."""
    ended_at: int | None
    """`None` while it goes on."""
    state: Literal["ended", "open", "cut off"]
    seconds: float
    work_seconds: float
    total_events: int
    calls: int
    attempts: int
    fallbacks: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    total_cost_nano: int
    held_nano: int
    """Of the cost, what is held for attempts that a killed process never settled."""
    unpriced: int
    """Attempts that are not in the cost, because their price is not known."""
    agents_used: list[str]
    models_used: list[str]
    modes_used: list[str]
    errors: list[str]
    marks: list[str]
    """What does not add up, in words."""

    @property
    def cost_usd(self) -> Decimal:
        """Dollars, exact."""
        return dollars(self.total_cost_nano)


class Line(msgspec.Struct, kw_only=True):
    """One line of the timeline."""

    offset: float
    """Seconds since the trace began."""
    seconds: float | None
    depth: int
    what: What
    state: State
    node: Node


class Trace(msgspec.Struct, kw_only=True):
    """A trace as it is kept: its events as they happened, and its summary."""

    trace_id: str
    session_id: str | None
    user_id: str | None
    started_at: int
    ended_at: int | None
    events: list[Event]
    summary: Summary
    tree: list[Node]


def read(events: Iterable[Event], now: int | None = None) -> Trace | None:
    """A trace from its events, in any order and with repetitions; `None` when there are none.

    `now` (microseconds UTC) tells what goes on from what was cut off.
    """
    ordered = in_order(events)
    if not ordered:
        return None
    nodes = build(ordered, now)
    told = summary(ordered, nodes, now)
    return Trace(
        trace_id=told.trace_id,
        session_id=told.session_id,
        user_id=told.user_id,
        started_at=told.started_at,
        ended_at=told.ended_at,
        events=ordered,
        summary=told,
        tree=nodes,
    )


def summary(ordered: list[Event], nodes: list[Node], now: int | None = None) -> Summary:
    """The figures of a trace: its events in order, and their tree; one that goes on has lasted until `now`."""
    flat = [node for _, node in walk(nodes)]
    attempts = [node for node in flat if node.what == "attempt"]
    whole = Node(id="", what="trace", kind=Kind.SESSION_START, at=0, children=nodes)
    total(whole)
    figures = whole.figures
    started = min(node.at for node in flat)
    is_open = any(node.state == "open" for node in flat)
    last = max(ordered[-1].at, *(node.ended_at or node.at for node in flat))
    if is_open and now is not None:
        last = max(last, now)
    return Summary(
        trace_id=ordered[0].trace,
        session_id=_first(event.session for event in ordered),
        user_id=_first(event.user for event in ordered),
        started_at=started,
        ended_at=None if is_open else last,
        state="open" if is_open else "cut off" if any(node.state == "cut off" for node in flat) else "ended",
        seconds=(last - started) / 1e6,
        work_seconds=round(figures.seconds, 6),
        total_events=len(ordered),
        calls=sum(node.what == "call" for node in flat),
        attempts=len(attempts),
        fallbacks=sum(node.kind is Kind.MODEL_FALLBACK for node in flat),
        input_tokens=figures.input_tokens,
        output_tokens=figures.output_tokens,
        total_tokens=figures.tokens,
        total_cost_nano=figures.cost_nano,
        held_nano=figures.held_nano,
        unpriced=figures.unpriced,
        agents_used=_distinct(node.agent for node in flat),
        models_used=_distinct(node.name for node in attempts),
        modes_used=_distinct(_mode(node) for node in flat),
        errors=_distinct(node.error for node in flat if node.what != "call"),
        marks=_distinct(f"{node.name or node.kind}: {mark}" for node in flat for mark in node.marks),
    )


def timeline(nodes: list[Node]) -> list[Line]:
    """Every node of a tree by the time it began."""
    flat = list(walk(nodes))
    began = min((node.at for _, node in flat), default=0)
    lines = [
        Line(
            offset=(node.at - began) / 1e6,
            seconds=node.seconds,
            depth=depth,
            what=node.what,
            state=node.state,
            node=node,
        )
        for depth, node in flat
    ]
    return sorted(lines, key=lambda line: line.offset)


def _first(names: Iterable[str | None]) -> str | None:
    return next((name for name in names if name is not None), None)


def _distinct(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))


def _mode(node: Node) -> str | None:
    """The mode that a MODE_TRANSITION goes to."""
    if node.kind is not Kind.MODE_TRANSITION:
        return None
    said = metadata(node.facts)
    mode = said.get("to") or said.get("mode")
    return mode if isinstance(mode, str) else None
