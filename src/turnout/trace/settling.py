"""What became of each node of a trace, and the sums: from the leaves upwards, so that nothing counts twice."""

from __future__ import annotations

from turnout.trace.nodes import Figures, Node, walk
from turnout.types import Kind

_WHY = {
    "left open": "left open: what it stands in has ended",
    "cut off": "cut off: its process ended before it did",
}


def settle(roots: list[Node], *, running: bool) -> None:
    """States of what never ended, then figures."""
    order = [node for _, node in walk(roots)]
    _close_calls(order)
    dead = not running or any(node.state == "cut off" for node in order)
    outlived: set[int] = set()
    for node in order:
        if node.seconds is not None or id(node) in outlived:
            outlived |= {id(child) for child in node.children}
        if node.seconds is None:
            _never_ended(node, dead=dead, outlived=id(node) in outlived)
    for node in reversed(order):
        _last_seen(node)
        total(node)


def _close_calls(order: list[Node]) -> None:
    """A call is as its attempts are."""
    for node in order:
        if node.what != "call":
            continue
        attempts = [child for child in node.children if child.what == "attempt"]
        ends = [attempt.ended_at for attempt in attempts]
        if ends and None not in ends:
            node.seconds = (max(end for end in ends if end is not None) - node.at) / 1e6
        if attempts:
            last = attempts[-1]
            node.state, node.error = last.state, last.error


def _never_ended(node: Node, *, dead: bool, outlived: bool) -> None:
    node.state = "left open" if outlived else "cut off" if dead else "open"
    if node.what == "attempt":
        node.figures.cost_nano = node.figures.held_nano
    if node.what != "call" and node.state != "open":
        node.marks.append(_WHY[node.state])


def _last_seen(node: Node) -> None:
    """The end that a span never told: that of the last thing seen in it."""
    if node.seconds is None and node.state != "open":
        ends = [child.at if child.ended_at is None else child.ended_at for child in node.children]
        node.seconds = max(0, max(ends, default=node.at) - node.at) / 1e6


def total(node: Node) -> None:
    """Its own figures where nothing below has any, else the sum of what is below: nothing counts twice."""
    below, tracked = Figures(), Figures()
    for child in node.children:
        (tracked if child.kind is Kind.COST_TRACKED and child.what == "event" else below).add(child.figures)
    own = node.figures
    if below.tokens or below.cost_nano or below.unpriced:
        node.figures = below
    elif own.tokens or own.cost_nano or own.unpriced:
        own.seconds = below.seconds
    else:
        tracked.seconds = below.seconds
        node.figures = tracked
    if not any(child.what != "event" for child in node.children):
        node.figures.seconds = node.seconds or 0.0
