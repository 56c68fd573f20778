"""The store: batches of the journal in, one transaction each. Used by the ledger's thread and by commands."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from sqlalchemy import delete, select, text
from sqlalchemy.exc import SQLAlchemyError

from turnout.storage import hours, schema, tables
from turnout.storage.batch import UNHEARD, UNSEEN, Batch
from turnout.storage.lines import CostRow
from turnout.storage.posting import changes
from turnout.storage.sqlite import LOCK_TIMEOUT, SqliteFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from turnout.storage.address import Address
    from turnout.storage.backend import Backend
    from turnout.storage.posting import Changes

_NAME = text("INSERT INTO meta (name, value) VALUES ('store', :value) ON CONFLICT (name) DO NOTHING")
_NAMED = select(tables.meta.c.value).where(tables.meta.c.name == "store")
_NOTHING = (0,) * len(tables.TOTALS)


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far an owner's journal is in the tables; `segment` is `None` when it holds nothing."""

    owner: str
    host: str
    boot: str
    spool: str
    at: int
    """Microseconds UTC."""
    segment: str | None = None
    position: int = 0
    """Bytes of the segment."""


class Store:
    """One database under the schema of `tables.py`, made and migrated when it is first written to.

    Every method raises `StoreFailed`, `OSError` or SQLAlchemy's errors; after any of them it can be called again.
    """

    def __init__(self, address: Address, *, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self.address = address
        self.backend = _backend(address, lock_timeout)
        self.identity: str | None = None
        """Made with the database; `None` until it is opened."""
        self._checked = False

    def open(self) -> None:
        """Make or migrate the schema where that is due. Raises `StoreFailed` for a later turnout's store."""
        schema.migrate(self.backend, file=self.address.file)
        if (identity := self._named()) is None:
            with self.backend.writing() as connection:
                connection.execute(_NAME, {"value": str(uuid4())})
            identity = self._named()
        self.identity = identity
        self._checked = True

    def _named(self) -> str | None:
        with self.backend.reading() as connection:
            return connection.execute(_NAMED).scalar()

    @contextmanager
    def write(self, log: Iterable[int] = (), now: int = 0) -> Iterator[Connection]:
        """One write transaction on the current schema; `log`: the moments of the events it will add, as of `now`."""
        if not self._checked:
            self.open()
        try:
            self.backend.prepare_log(log, now)
            with self.backend.writing() as connection:
                yield connection
        except (SQLAlchemyError, OSError):
            self._checked = False  # the file may be another one now, the schema gone: look again next time
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot of the current schema."""
        if not self._checked:
            self.open()
        with self.backend.reading() as connection:
            yield connection

    def post(self, payloads: Iterable[bytes], mark: Mark) -> list[bytes]:
        """Put events into the log and every table made of it; returns what could not be read.

        Events that were posted before, by whomever, change nothing.
        """
        batch = Batch(payloads)
        with self.write((event[2] for event in batch.events), mark.at) as connection:
            _advance(self.backend, connection, mark)
            write_batch(self.backend, connection, batch, self.backend.writer(mark.owner))
        return batch.unreadable

    def close_owner(self, owner: str) -> None:
        """Everything of an owner that has ended is in the tables: forget where it stood."""
        with self.write() as connection:
            connection.execute(delete(tables.owners).where(tables.owners.c.owner == owner))

    def positions(self) -> dict[str, tuple[str | None, int]]:
        """Segment and position of every owner that has posted and not ended."""
        with self.read() as connection:
            rows = connection.execute(
                select(tables.owners.c.owner, tables.owners.c.segment, tables.owners.c.position)
            )
            return {owner: (segment, position) for owner, segment, position in rows}

    def backup(self, to: Path) -> None:
        """Write a consistent copy to a file that does not exist; raises `StoreFailed` on PostgreSQL."""
        self.backend.backup(to)

    def close(self) -> None:
        """Close the connections."""
        self.backend.dispose()


def _backend(address: Address, lock_timeout: float) -> Backend:
    if address.is_postgres:
        from turnout.storage.postgres import PostgresServer  # noqa: PLC0415 - extra `postgres`

        return PostgresServer(address.url)
    return SqliteFile(address.file, lock_timeout=lock_timeout)


def _advance(backend: Backend, connection: Connection, mark: Mark) -> None:
    """First of all, and a lock: two transactions that post the same owner's events run one after the other."""
    row = (mark.owner, mark.host, mark.boot, mark.spool, 1, mark.segment, mark.position, mark.at)
    backend.merge(connection, tables.owners, [row])


def write_batch(backend: Backend, connection: Connection, batch: Batch, writer: str) -> None:
    """Write a batch's rows, and the differences they make to every sum, inside the caller's transaction."""
    found = changes(batch.attempts.values(), *_standing(backend, connection, batch))
    merge = backend.merge
    merge(connection, tables.events, batch.events)
    merge(connection, tables.bodies, batch.bodies)
    merge(connection, tables.cost_records, found.new)
    merge(connection, tables.cost_records, found.higher)
    write_sums(backend, connection, batch, found, writer)


def write_sums(backend: Backend, connection: Connection, batch: Batch, found: Changes, writer: str) -> None:
    """Add the differences to every sum, and what the batch saw of traces and sessions."""
    merge = backend.merge
    merge(connection, tables.traces, [*_trace_rows(batch, found)])
    merge(connection, tables.usage_days, [*_day_rows(batch, found)])
    merge(connection, tables.rollup_hours, hours.changed_rows(connection, found, writer))


def _standing(
    backend: Backend, connection: Connection, batch: Batch
) -> tuple[dict[str, str], dict[str, CostRow]]:
    """The state of every attempt of the batch that has a row, and those rows that a higher state will replace."""
    if not batch.attempts:
        return {}, {}
    states: dict[str, str] = {row[0]: row[1] for row in backend.states(connection, list(batch.attempts))}
    counted = [
        id_
        for id_, state in states.items()
        if state == "expired_estimated" and batch.attempts[id_].state == "settled"
    ]
    if not counted:
        return states, {}
    rows = connection.execute(select(tables.cost_records).where(tables.cost_records.c.id.in_(counted)))
    return states, {row.id: CostRow(*row) for row in rows}


def _trace_rows(batch: Batch, found: Changes) -> Iterator[tuple[Any, ...]]:
    for trace in batch.traces | found.traces:
        yield (trace, *batch.traces.get(trace, UNSEEN), *found.traces.get(trace, _NOTHING))


def _day_rows(batch: Batch, found: Changes) -> Iterator[tuple[Any, ...]]:
    for day in batch.days | found.days:
        yield (*day, *batch.days.get(day, UNHEARD), *found.days.get(day, _NOTHING))
