"""A trace's events as a tree of spans: pure, and total: any list of events makes a tree that shows each of them.

What does not add up (a span left open, ended twice, ended and never started, inside itself) is marked, not dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from turnout.trace.nodes import Figures, Node, metadata
from turnout.trace.settling import settle
from turnout.types import Closed, Event, Kind, Opened

if TYPE_CHECKING:
    from collections.abc import Iterable

DEEPEST = 64
"""Levels; what is nested deeper is shown on the last one."""
SILENCE = 600 * 1_000_000
"""Microseconds without an event after which a span that never ended counts as cut off."""


def closes(event: Event) -> bool:
    """The event ends a span."""
    return bool(event.span) and (event.kind is Kind.LLM_CALL_END or "seconds" in event.facts)


def in_order(events: Iterable[Event]) -> list[Event]:
    """Each event once, as they happened.

    Of two at the same microsecond, what ends comes before what begins, but no span ends before its own start.
    """
    once = list({event.id + event.kind: event for event in events}.values())
    began = {event.span: event.at for event in once if event.span and not closes(event)}

    def rank(event: Event) -> int:
        if not closes(event):
            return 1
        return 2 if began.get(event.span or "") == event.at else 0

    return sorted(once, key=lambda event: (event.at, rank(event), event.id))


def build(events: Iterable[Event], now: int | None = None) -> list[Node]:
    """The trace's outermost nodes in the order they began.

    `now` (microseconds UTC) tells a span that is still open from one whose process has gone: without it, nothing is
    taken for running.
    """
    ordered = in_order(events)
    trees = _Trees(ordered)
    roots = trees.roots()
    last = max((event.at for event in ordered), default=0)
    settle(roots, running=now is not None and now - last < SILENCE)
    return roots


class _Trees:
    """Nodes by id while a tree is put together."""

    def __init__(self, ordered: list[Event]) -> None:
        self._nodes: dict[str, Node] = {}
        for event in ordered:
            facts = _call_facts(event)
            if facts is not None:
                self._attempt(event, facts)
            elif event.span:
                self._span(event)
        for event in ordered:
            if not event.span:
                self._point(event)

    def roots(self) -> list[Node]:
        """The outermost nodes, everything else in its place below them."""
        depths: dict[str, int] = {}
        for node in sorted(self._nodes.values(), key=lambda node: node.at):
            self._depth(node, depths)
        anchors: dict[str | None, Node] = {}
        for node in sorted(self._nodes.values(), key=lambda node: depths[node.id]):
            anchors[node.id] = node if depths[node.id] < DEEPEST else anchors[node.parent]
        roots: list[Node] = []
        for node in sorted(
            self._nodes.values(), key=lambda node: (node.at, depths[node.id], node.what != "event")
        ):
            above = anchors.get(node.parent)
            (roots if above is None else above.children).append(node)
        return roots

    def _depth(self, node: Node, depths: dict[str, int]) -> None:
        """Set the depth of a node and of all above it; a span inside itself is cut loose."""
        path: list[Node] = []
        seen: set[str] = set()
        here: Node | None = node
        while here is not None and here.id not in depths:
            if here.id in seen:
                path[-1].marks.append("stands inside itself: shown on its own")
                path[-1].parent = None
                break
            seen.add(here.id)
            path.append(here)
            here = self._nodes.get(here.parent or "")
        base = depths[here.id] + 1 if here is not None and here.id in depths else 0
        for level, member in enumerate(reversed(path)):
            depths[member.id] = base + level

    def _span(self, event: Event) -> None:
        node = self._nodes.get(event.span or "")
        if node is None:
            node = self._nodes[event.span or ""] = _opened(event)
            if closes(event):
                node.marks.append("its start is missing")
                node.at -= round(_seconds(event) * 1e6)
                _ended(node, event)
        elif not closes(event):
            node.marks.append("started twice")
        elif node.seconds is None:
            _ended(node, event)
        else:
            node.marks.append("ended twice")

    def _attempt(self, event: Event, facts: Opened | Closed) -> None:
        opened = facts.opened if isinstance(facts, Closed) else facts
        node = self._nodes.get(event.span or "")
        if node is None:
            call = self._call(opened, event)
            node = self._nodes[event.span or ""] = Node(
                id=event.span or event.id,
                what="attempt",
                kind=Kind.LLM_CALL_START,
                at=event.at,
                name=opened.model,
                agent=event.agent,
                parent=call.id,
                facts=event.facts,
                figures=Figures(held_nano=opened.hold_nano or 0),
            )
            if isinstance(facts, Closed):
                node.at = min(facts.attempt.started_at or event.at, event.at)
                call.at = min(call.at, node.at)
                node.marks.append("its start is missing")
        if isinstance(facts, Closed):
            _settled(node, facts, event)

    def _call(self, opened: Opened, event: Event) -> Node:
        """The call an attempt belongs to."""
        name = f"call {opened.call}"
        if name not in self._nodes:
            self._nodes[name] = Node(
                id=name,
                what="call",
                kind=Kind.LLM_CALL_START,
                at=event.at,
                name=event.agent or "",
                agent=event.agent,
                parent=event.parent,
                facts={"call": opened.call, "asked": opened.asked, "operation": opened.operation},
            )
        return self._nodes[name]

    def _point(self, event: Event) -> None:
        call = f"call {event.facts.get('call')}"
        self._nodes[f"event {event.id}"] = Node(
            id=f"event {event.id}",
            what="event",
            kind=event.kind,
            at=event.at,
            name=_name(event),
            agent=event.agent,
            error=event.error,
            state="failed" if event.error or event.kind is Kind.ERROR else "ok",
            seconds=0.0,
            parent=call if call in self._nodes else event.parent,
            facts=event.facts,
            figures=_figures(event),
        )


def _opened(event: Event) -> Node:
    return Node(
        id=event.span or event.id,
        what="trace" if event.kind in {Kind.SESSION_START, Kind.SESSION_END} else "span",
        kind=event.kind,
        at=event.at,
        name=_name(event),
        agent=event.agent,
        parent=event.parent,
        facts=dict(event.facts),
    )


def _ended(node: Node, event: Event) -> None:
    node.seconds = _seconds(event)
    node.error = event.error
    node.state = "failed" if event.error else "ok"
    node.agent = node.agent or event.agent
    both = {
        name: {**node.facts[name], **event.facts[name]}
        for name in ("metadata", "body")
        if isinstance(node.facts.get(name), dict) and isinstance(event.facts.get(name), dict)
    }
    node.facts = {**node.facts, **event.facts, **both}
    node.figures = _figures(event)


def _settled(node: Node, closed: Closed, event: Event) -> None:
    attempt, usage = closed.attempt, closed.attempt.usage
    if node.seconds is not None:
        lost = node.facts.get("state") == "expired_estimated"
        if not lost or closed.state == "expired_estimated":
            if closed.state != "expired_estimated":
                node.marks.append("ended twice")
            return
        node.marks.append("settled after its process was taken for dead")
    expired = closed.state == "expired_estimated"
    node.seconds = attempt.seconds
    node.facts = event.facts
    node.error = event.error or attempt.error
    node.state = "cut off" if expired else "ok" if attempt.outcome == "ok" else "failed"
    node.figures = Figures(
        input_tokens=(usage.input_tokens or 0) if usage else 0,
        output_tokens=(usage.output_tokens or 0) if usage else 0,
        tokens=((usage.input_tokens or 0) + (usage.output_tokens or 0)) if usage else 0,
        cost_nano=attempt.cost_nano or 0,
        unpriced=int(attempt.cost_nano is None),
        held_nano=(attempt.cost_nano or 0) if expired else 0,
    )


def _figures(event: Event) -> Figures:
    return Figures(tokens=event.tokens or 0, cost_nano=event.cost_nano or 0)


def _seconds(event: Event) -> float:
    seconds = event.facts.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _name(event: Event) -> str:
    name = metadata(event.facts).get("name")
    return name if isinstance(name, str) else ""


def _call_facts(event: Event) -> Opened | Closed | None:
    """What turnout itself wrote of an attempt; `None` of any other event."""
    if not event.span:
        return None
    try:
        if event.kind is Kind.LLM_CALL_START:
            return msgspec.convert(event.facts, Opened)
        if event.kind is Kind.LLM_CALL_END:
            return msgspec.convert(event.facts, Closed)
    except msgspec.ValidationError:
        # A newer turnout may have written facts this one cannot read: they are shown as any span's.
        return None
    return None
