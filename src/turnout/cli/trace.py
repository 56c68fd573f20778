"""`turnout trace`: what happened, as a story, a waterfall or figures."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec

from turnout.cli.shared import as_json, print_json
from turnout.clock import Clock
from turnout.errors import NoSuchTrace
from turnout.settings import load_settings
from turnout.trace.text import WIDTH, line_of, moment, render
from turnout.trace.traceparent import canonical, parse
from turnout.trace.views import read, timeline
from turnout.types import dollars

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout.storage.reports import Reports
    from turnout.trace.nodes import Node
    from turnout.trace.views import Summary, Trace

VIEWS = ("tree", "timeline", "summary")
INTERVAL = 0.5
"""Seconds between two looks of `tail --follow`."""
TAILED = 50
"""How many of the latest traces `tail` looks into."""


@click.group(name="trace")
def command() -> None:
    """Show what happened: one trace, a session's or a user's traces, or events as they come.

    \b
    turnout trace show 019ab352-66b8-74e3-b1ab-e00c171f11e1
    turnout trace list --session s1 --json
    turnout trace tail --follow
    """


@command.command(name="show")
@click.argument("trace_id", metavar="ID")
@click.option("--view", type=click.Choice(VIEWS), default="tree", show_default=True, help="How to show it.")
@as_json
def show(trace_id: str, view: str, as_json: bool) -> None:  # noqa: FBT001
    """Show the trace ID, which every answer carries; its 32 hex digits or a traceparent will do.

    \b
    turnout trace show 019ab352-66b8-74e3-b1ab-e00c171f11e1
    turnout trace show 019ab352-66b8-74e3-b1ab-e00c171f11e1 --view timeline
    """
    header = parse(trace_id)
    name = header[0] if header else canonical(trace_id)
    with _reports() as reports:
        found = read(reports.trace(name), Clock().now())
    if found is None:
        raise NoSuchTrace(name, hint="`turnout trace list` shows the latest; events are kept for 30 days")
    if as_json:
        print_json(_facts(found, view))
    else:
        click.echo(render(found, view, _width()))


@command.command(name="list")
@click.option("--session", help="Those of this session.")
@click.option("--user", help="Those of this user.")
@click.option(
    "--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="At most so many."
)
@as_json
def list_(session: str | None, user: str | None, limit: int, as_json: bool) -> None:  # noqa: FBT001
    """List traces, newest first: the latest, or a session's or a user's.

    \b
    turnout trace list
    turnout trace list --session s1 --json
    turnout trace list --user alice --limit 5
    """
    if session is not None and user is not None:
        raise click.UsageError("--session and --user: give one of them")
    now = Clock().now()
    with _reports() as reports:
        if session is not None:
            names = reports.session_traces(session)[:limit]
        else:
            names = reports.latest_traces(limit) if user is None else reports.user_traces(user, limit)
        traces = [found for name in names if (found := read(reports.trace(name), now)) is not None]
    if as_json:
        print_json([_summary(trace.summary) for trace in traces])
        return
    for trace in traces:
        click.echo(line_of(trace.summary, _width()))
    if not traces:
        click.echo("no trace yet: every call makes one, and `start_trace` gathers several", err=True)


@command.command(name="tail")
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
@click.option(
    "--lines", "-n", type=click.IntRange(0, 10_000), default=20, show_default=True, help="Begin with so many."
)
@as_json
def tail(follow: bool, lines: int, as_json: bool) -> None:  # noqa: FBT001
    """Print the latest steps of all traces, one a line; with --json one object a line.

    \b
    turnout trace tail
    turnout trace tail --follow --json
    """
    seen: set[str] = set()
    with _reports() as reports:
        steps = _latest(reports)
        _print_new(steps[-lines:] if lines else [], as_json=as_json)
    while follow:
        seen |= {key for key, _ in steps}
        time.sleep(INTERVAL)
        with _reports(within=0.0) as reports:
            steps = _latest(reports)
        _print_new([step for step in steps if step[0] not in seen], as_json=as_json)


def _print_new(steps: list[tuple[str, Node]], *, as_json: bool) -> None:
    for key, node in steps:
        if as_json:
            click.echo(msgspec.json.encode({"trace_id": key.partition(" ")[0], **_bare(node)}).decode())
        else:
            click.echo(moment(node, _width()))


def _latest(reports: Reports) -> list[tuple[str, Node]]:
    """The steps of the latest traces that have ended, by the time they did."""
    now = Clock().now()
    traces = [(name, read(reports.trace(name), now)) for name in reports.latest_traces(TAILED)]
    steps = [
        (line.node.ended_at or line.node.at, -line.depth, f"{name} {line.node.id}", line.node)
        for name, trace in traces
        for line in (timeline(trace.tree) if trace else ())
        if line.seconds is not None and line.what != "call"
    ]
    return [step[2:] for step in sorted(steps, key=lambda step: step[:2])]


@contextmanager
def _reports(within: float = 2.0) -> Iterator[Reports]:
    """The configured store's reports, with what this host had journalled in its tables, as far as time allows."""
    from turnout.storage import access, reports  # noqa: PLC0415 - loads SQLAlchemy

    settings = load_settings()
    with access.using(settings) as store:
        for one in access.catch_up(store, access.spool_of(settings), Clock(), within):
            if within:
                click.echo(f"not in yet: {one.bytes} bytes of the process {one.owner}", err=True)
        yield reports.Reports(store)


def _facts(trace: Trace, view: str) -> dict[str, Any]:
    """A view as `--json` prints it; the events themselves are in the tree."""
    facts: dict[str, Any] = {
        "trace_id": trace.trace_id,
        "session_id": trace.session_id,
        "user_id": trace.user_id,
        "started_at": trace.started_at,
        "ended_at": trace.ended_at,
        "summary": _summary(trace.summary),
    }
    if view == "tree":
        facts["tree"] = [_nested(node) for node in trace.tree]
        facts["events"] = trace.events
    if view == "timeline":
        facts["timeline"] = [
            {"offset": line.offset, "depth": line.depth, **_bare(line.node)} for line in timeline(trace.tree)
        ]
    return facts


def _summary(summary: Summary) -> dict[str, Any]:
    return {**msgspec.structs.asdict(summary), "cost_usd": summary.cost_usd}


def _nested(node: Node) -> dict[str, Any]:
    return {**_bare(node), "children": [_nested(child) for child in node.children]}


def _bare(node: Node) -> dict[str, Any]:
    """A node without what is below it."""
    facts = msgspec.structs.asdict(node)
    del facts["children"]
    return {
        **facts,
        "figures": msgspec.structs.asdict(node.figures),
        "cost_usd": float(dollars(node.figures.cost_nano)),
    }


def _width() -> int:
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
