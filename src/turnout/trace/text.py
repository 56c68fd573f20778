"""A trace as text for people, 80 columns unless told otherwise: it reads from top to bottom as a story."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turnout.trace.nodes import metadata
from turnout.trace.views import timeline
from turnout.types import Kind, dollars

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from turnout.trace.nodes import Node
    from turnout.trace.views import Line, Summary, Trace

WIDTH = 80
_SIGNS = {"ok": "✓", "failed": "✗", "open": "…", "left open": "!", "cut off": "!"}
_RIGHT = 24
"""Columns for time and money."""


def render(trace: Trace, view: str, width: int = WIDTH) -> str:
    """A view of a trace: `tree`, `timeline` or `summary`."""
    body = {"tree": _tree, "timeline": _timeline, "summary": _summary}[view](trace, width)
    return "\n".join(_cut(line, width).rstrip() for line in [*_head(trace.summary, width), "", *body])


def line_of(summary: Summary, width: int = WIDTH) -> str:
    """A trace in one line of a list."""
    began = datetime.fromtimestamp(summary.started_at / 1e6, tz=UTC)
    notes = [
        *(["fell back"] if summary.fallbacks else []),
        *([] if summary.state == "ended" else [summary.state]),
        *([] if summary.calls == 1 else [_count(summary.calls, "call")]),
    ]
    who = ", ".join(summary.agents_used) or "-"
    cost = money(summary.cost_usd)
    return _cut(f"{summary.trace_id} {began:%m-%d %H:%M} {who} {cost} {', '.join(notes)}".rstrip(), width)


def moment(node: Node, width: int = WIDTH) -> str:
    """A step in one line of a log."""
    at = datetime.fromtimestamp((node.ended_at or node.at) / 1e6, tz=UTC)
    sign = "·" if node.what == "event" else _SIGNS[node.state]
    return _row(f"{at:%H:%M:%S} {sign} {story(node)}", _right(node), width).rstrip()


def seconds(value: float | None) -> str:
    """A duration in the unit that suits it."""
    if value is None:
        return ""
    if value < 0.0995:
        return f"{value * 1_000:.1f} ms"
    if value < 120:
        return f"{value:.2f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def money(amount: Decimal) -> str:
    """Dollars with at least four significant digits, never a rounded 0."""
    if amount == 0:
        return "$0"
    return f"${amount:.{min(9, max(2, 3 - amount.adjusted()))}f}"


def story(node: Node) -> str:
    """What happened, in a line."""
    if node.what == "attempt":
        return _attempt(node)
    if node.what == "call":
        asked = node.facts.get("asked")
        who = f"call for {node.agent}" if node.agent else "call"
        return f"{who}, pinned to {asked}" if asked else who
    if node.kind is Kind.MODEL_FALLBACK:
        return f"{node.facts.get('to')} steps in for {node.facts.get('from')}: {_words(node.facts.get('reason'))}"
    subject = node.name or _subject(metadata(node.facts))
    parts = [node.kind.replace("_", " ").lower() if node.what != "trace" else "session"]
    parts += [subject] if subject else []
    parts += [f"({node.agent})"] if node.agent and node.agent not in subject else []
    line = " ".join(parts)
    return f"{line}: {node.error}" if node.error and node.what == "event" else line


def _attempt(node: Node) -> str:
    attempt = node.facts.get("attempt")
    if not isinstance(attempt, dict) or node.state == "cut off":
        return (
            f"{node.name} is being asked"
            if node.state == "open"
            else f"{node.name} was asked, no answer known"
        )
    if node.state == "ok":
        usage = attempt.get("usage") or {}
        said = f"{node.name} answered"
        if usage.get("input_tokens") is not None:
            said += f": {usage['input_tokens']:,} in, {usage.get('output_tokens') or 0:,} out"
            said += " (estimated)" if usage.get("source") == "estimated" else ""
        return said
    status = attempt.get("status")
    said = f"{node.name} failed: {_words(attempt.get('outcome'))}"
    return f"{said} (HTTP {status})" if status else said


def _words(name: Any) -> str:
    return str(name).replace("_", " ")


def _subject(said: dict[str, Any]) -> str:
    """What an event is about, where its metadata says it in a field we know."""
    if "from" in said and "to" in said:
        return f"{said['from']} → {said['to']}"
    for name in ("agent_id", "to", "tool", "mode", "reason"):
        if isinstance(said.get(name), str):
            return str(said[name])
    return ""


def _head(summary: Summary, width: int) -> list[str]:
    began = datetime.fromtimestamp(summary.started_at / 1e6, tz=UTC)
    who = [
        f"{label} {name}"
        for label, name in (("session", summary.session_id), ("user", summary.user_id))
        if name
    ]
    first = f"trace {summary.trace_id}"
    figures = [
        {"ended": "ended", "open": "still open", "cut off": "cut off"}[summary.state],
        seconds(summary.seconds),
        _count(summary.calls, "call"),
        *([_count(summary.attempts, "attempt")] if summary.attempts != summary.calls else []),
        *([_count(summary.fallbacks, "fallback")] if summary.fallbacks else []),
        f"{summary.total_tokens:,} tokens",
        _spent(summary),
    ]
    return [
        *_fold([first, f"{began:%Y-%m-%d %H:%M:%S} UTC"], width),
        *_fold(who, width),
        *_fold(figures, width),
    ]


def _spent(summary: Summary) -> str:
    said = money(summary.cost_usd)
    if summary.held_nano:
        said += f" ({money(dollars(summary.held_nano))} of it held)"
    return f"{said} and {_count(summary.unpriced, 'attempt')} without a price" if summary.unpriced else said


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _fold(parts: list[str], width: int) -> list[str]:
    """Parts with a dot between, on as many lines as they need."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(part[:width])
    return lines


def _tree(trace: Trace, width: int) -> Iterator[str]:
    for lead, below, node in _branches(trace.tree):
        sign = "·" if node.what == "event" else _SIGNS[node.state]
        yield _row(f"{lead}{sign} {story(node)}", _right(node), width)
        for note in _notes(node):
            yield _cut(f"{below}  {note}", width)


def _notes(node: Node) -> Iterator[str]:
    """What is to be said below a node's line."""
    if node.state == "failed" and node.error and node.what in {"span", "trace"}:
        yield node.error
    if node.state == "failed" and node.error and node.what == "attempt":
        attempt = node.facts.get("attempt")
        if isinstance(attempt, dict) and attempt.get("outcome") != node.error:
            yield f"it said: {node.error}"
    for mark in node.marks:
        yield f"! {mark}"


def _branches(roots: list[Node]) -> Iterator[tuple[str, str, Node]]:
    """Each node with the lines that lead to it, and those that go on below it."""
    stack = [("", "", node) for node in reversed(roots)]
    while stack:
        lead, below, node = stack.pop()
        yield lead, below + ("│ " if node.children else "  "), node
        for index, child in enumerate(reversed(node.children)):
            last = index == 0
            stack.append((below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "), child))


def _right(node: Node) -> tuple[str, str]:
    """Time and money of a node, as far as there is something to say."""
    figures = node.figures
    nothing = node.what == "event" or (node.state == "cut off" and not node.seconds)
    time = "" if nothing else seconds(node.seconds)
    if figures.unpriced and not figures.cost_nano:
        return time, "?"
    says = figures.cost_nano or node.what in {"attempt", "call"}
    return time, money(dollars(figures.cost_nano)) if says else ""


def _row(left: str, right: tuple[str, str], width: int) -> str:
    time, cost = right
    if not time and not cost:
        return _cut(left, width)
    room = width - _RIGHT
    return f"{_cut(left, room - 1):{room}}{time:>11}{cost:>13}"


def _cut(text: str, width: int) -> str:
    """One line that a terminal shows as it is: what models and providers say may hold control characters."""
    clean = text if text.isprintable() else "".join(sign if sign.isprintable() else " " for sign in text)
    return clean if len(clean) <= width else f"{clean[: width - 1]}…"


def _timeline(trace: Trace, width: int) -> Iterator[str]:
    lines = timeline(trace.tree)
    whole = max(trace.summary.seconds, 1e-9)
    bar = max(10, width // 5)
    for line in lines:
        label = f"{'  ' * min(line.depth, 6)}{'·' if line.what == 'event' else _SIGNS[line.state]} {story(line.node)}"
        room = width - bar - 24
        yield (
            f"{'+' + seconds(line.offset):>11} {_cut(label, room - 1):{room}}"
            f"{_bar(line, whole, bar)} {seconds(line.seconds) if line.what != 'event' else '':>10}"
        )


def _bar(line: Line, whole: float, columns: int) -> str:
    start = min(columns - 1, int(line.offset / whole * columns))
    if line.what == "event":
        return f"{'│':>{start + 1}}".ljust(columns)
    length = whole - line.offset if line.seconds is None else line.seconds
    long = max(1, min(columns - start, round(length / whole * columns)))
    return (" " * start + ("█" if line.state in {"ok", "failed"} else "▒") * long).ljust(columns)


def _summary(trace: Trace, width: int) -> Iterator[str]:
    told = trace.summary
    rows = [
        ("wall time", seconds(told.seconds)),
        ("work", f"{seconds(told.work_seconds)} in all steps together"),
        ("events", f"{told.total_events:,}"),
        (
            "calls",
            f"{told.calls:,} in {_count(told.attempts, 'attempt')}, {_count(told.fallbacks, 'fallback')}",
        ),
        ("tokens", f"{told.total_tokens:,} ({told.input_tokens:,} in, {told.output_tokens:,} out)"),
        ("cost", _spent(told)),
        ("agents", ", ".join(told.agents_used)),
        ("models", ", ".join(told.models_used)),
        ("modes", ", ".join(told.modes_used)),
        *(("error", error) for error in told.errors),
        *(("note", mark) for mark in told.marks),
    ]
    for name, value in rows:
        if value:
            yield _cut(f"{name:11}{value}", width)
