"""`turnout db`: how the store is, and what can be done to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from turnout.cli.shared import as_json, print_json
from turnout.clock import Clock, as_datetime
from turnout.settings import load_settings

if TYPE_CHECKING:
    from turnout.storage.segments import Spool
    from turnout.storage.store import Store

EXPORTED = ("cost_records", "events", "traces", "sessions", "user_monthly_usage", "rollup_hours")
CHUNK = 5_000


@click.group(name="db")
def command() -> None:
    """See, copy, migrate or rebuild the store of calls and costs.

    \b
    turnout db status --json
    turnout db backup turnout-backup.db
    turnout db export cost_records > costs.jsonl
    turnout db rebuild
    """


@command.command(name="status")
@as_json
def status(as_json: bool) -> None:  # noqa: FBT001
    """Say where the store is, what it holds and what is not in it yet."""
    from turnout.storage import access  # noqa: PLC0415 - loads SQLAlchemy

    settings = load_settings()
    with access.using(settings) as store:
        facts = _status(store, access.spool_of(settings))
    if as_json:
        print_json(facts)
        return
    rows = facts.pop("rows")
    for name, value in facts.items():
        click.echo(f"{name:16} {'-' if value is None else value}")
    for name, count in rows.items():
        click.echo(f"{name:24} {count:>12,} rows")
    if facts["stray_events"]:
        click.echo(
            "stray_events lie in no day: a clock was wrong, or they came late; `turnout doctor --reach`",
            err=True,
        )


@command.command(name="backup")
@click.argument("file", type=click.Path(path_type=Path))
@as_json
def backup(file: Path, as_json: bool) -> None:  # noqa: FBT001
    """Write a consistent copy of a SQLite store to FILE, while it is in use."""
    from turnout.storage import access  # noqa: PLC0415 - loads SQLAlchemy

    with access.using(load_settings()) as store:
        store.backup(file)
    _done({"file": str(file), "bytes": file.stat().st_size}, as_json=as_json)


@command.command(name="export")
@click.argument("table", type=click.Choice(EXPORTED), default="cost_records")
def export(table: str) -> None:
    """Print a table as JSON, one row a line; times are microseconds UTC, money is nano-dollars."""
    import msgspec  # noqa: PLC0415 - with the rest
    from sqlalchemy import select  # noqa: PLC0415 - loads SQLAlchemy

    from turnout.storage import access, tables  # noqa: PLC0415

    found = tables.metadata.tables[table]
    settings = load_settings()
    with access.using(settings) as store:
        access.catch_up(store, access.spool_of(settings), Clock())
        with store.read() as connection:
            rows = connection.execution_options(yield_per=CHUNK).execute(
                select(found).order_by(*found.primary_key)
            )
            for row in rows:
                click.echo(msgspec.json.encode(row._asdict()).decode())


@command.command(name="migrate")
@as_json
def migrate(as_json: bool) -> None:  # noqa: FBT001
    """Bring the schema up to this version. It happens by itself when a process first writes."""
    from turnout.storage import access, schema  # noqa: PLC0415 - loads SQLAlchemy

    with access.using(load_settings()) as store:
        before = schema.revision(store.backend)
        store.open()
        after = schema.revision(store.backend)
    _done({"before": before, "after": after, "migrated": before != after}, as_json=as_json)


@command.command(name="rebuild")
@as_json
def rebuild(as_json: bool) -> None:  # noqa: FBT001
    """Make costs, traces, sessions, months and hourly sums anew from the log of events."""
    from turnout.storage import access  # noqa: PLC0415 - loads SQLAlchemy
    from turnout.storage.rebuild import rebuild as rebuild_store  # noqa: PLC0415

    settings = load_settings()
    with access.using(settings) as store:
        access.catch_up(store, access.spool_of(settings), Clock())
        done = rebuild_store(store)
    since = None if done.since == 0 else as_datetime(done.since).isoformat(timespec="seconds")
    _done({"events": done.events, "attempts": done.attempts, "since": since}, as_json=as_json)


def _status(store: Store, spool: Spool) -> dict[str, Any]:
    from sqlalchemy import func, select  # noqa: PLC0415 - loads SQLAlchemy

    from turnout.storage import intake, partitions, schema, tables  # noqa: PLC0415

    revision = schema.revision(store.backend)
    facts: dict[str, Any] = {
        "store": str(store.address),
        "id": None,
        "schema": revision,
        "schema_here": tables.REVISION,
        "spool": str(spool.folder),
        "spool_bytes": spool.size(),
        "behind_bytes": None,
        "events_since": None,
        "costs_since": None,
        "stray_events": None,
        "rows": {},
    }
    if revision != tables.REVISION:
        return facts
    with store.read() as connection:
        meta = {row.name: row.value for row in connection.execute(select(tables.meta))}
        for name, table in tables.metadata.tables.items():
            facts["rows"][name] = connection.execute(select(func.count()).select_from(table)).scalar_one()
        if store.address.is_postgres:
            facts["stray_events"] = partitions.strays(connection)
    facts["id"] = meta.get("store")
    for name in ("events_since", "costs_since"):
        if name in meta:
            facts[name] = as_datetime(int(meta[name])).isoformat(timespec="seconds")
    facts["behind_bytes"] = sum(one.bytes for one in intake.behind(store, spool))
    return facts


def _done(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        click.echo(f"{name:12} {'-' if value is None else value}")
