"""PostgreSQL 15 or newer through psycopg: rows go in by COPY to a temporary table, then one INSERT.

The log is kept by days: see `partitions.py`.
"""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from turnout.errors import StoreFailed
from turnout.storage.backend import LOG, insert, merge_clause
from turnout.storage.partitions import Partitions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Connection, Engine, Table

FEW_ROWS = 16
"""Up to here single statements cost less than a COPY."""
MIGRATION_LOCK = 0x7475726E
"""The key of our advisory lock."""


class PostgresServer:
    """A database on a server."""

    name = "postgresql"

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine = self._make()
        self._partitions = Partitions(self._begin)
        _opened.add(self)

    def _make(self) -> Engine:
        try:
            return create_engine(
                make_url(self._url).set(drivername="postgresql+psycopg"),
                pool_size=4,
                max_overflow=0,
                pool_timeout=10,
                pool_pre_ping=True,
                # Prepared statements do not survive a pooler that hands out connections by transaction.
                connect_args={"prepare_threshold": None, "connect_timeout": 5, "application_name": "turnout"},
            )
        except ModuleNotFoundError:
            raise StoreFailed(
                "a postgresql:// address needs psycopg", hint='pip install "turnout[postgres]"'
            ) from None

    def _begin(self) -> AbstractContextManager[Connection]:
        """Of the engine of now: a forked child has another."""
        return self._engine.begin()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Rows are locked in the order of their keys, so that two writers never wait for each other in a circle."""
        try:
            with self._engine.begin() as connection:
                connection.exec_driver_sql("SET LOCAL lock_timeout = '10s'")
                yield connection
        except DBAPIError:
            self._partitions.forget()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One snapshot, and half a minute at most."""
        snapshot = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with snapshot.begin() as connection:
            connection.exec_driver_sql("SET LOCAL statement_timeout = '30s'")
            yield connection

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """One at a time, by an advisory lock that ends with the transaction."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            yield connection

    def states(self, connection: Connection, ids: Sequence[str]) -> Iterable[Sequence[Any]]:
        """Locked, in order."""
        return connection.exec_driver_sql(
            "SELECT id, state FROM cost_records WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (list(ids),)
        ).fetchall()

    def merge(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """In the order of the key; text without NUL, which PostgreSQL does not take."""
        if not rows:
            return
        keys = [index for index, column in enumerate(table.columns) if column.primary_key]
        clean = [tuple(map(_without_nul, row)) for row in rows]
        clean.sort(key=lambda row: [row[index] for index in keys])
        if len(clean) <= FEW_ROWS or (table.name not in LOG and _is_any_twice(clean, keys)):
            connection.exec_driver_sql(insert(table, "%s"), clean)
            return
        incoming = f"incoming_{table.name}"
        names = ", ".join(column.name for column in table.columns)
        key = ", ".join(column.name for column in table.primary_key)
        connection.exec_driver_sql(
            f"CREATE TEMP TABLE IF NOT EXISTS {incoming} (LIKE {table.name}) ON COMMIT DELETE ROWS"
        )
        _copy(connection, f"COPY {incoming} ({names}) FROM STDIN", clean)
        once = f"DISTINCT ON ({key}) " if table.name in LOG else ""
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({names}) SELECT {once}{names} FROM {incoming} ORDER BY {key} "  # noqa: S608 - names of tables.py
            f"{merge_clause(table)}"
        )
        connection.exec_driver_sql(f"TRUNCATE {incoming}")

    def prepare_log(self, moments: Iterable[int], now: int) -> None:
        """Make the days of these moments, but for those that no sane clock shows."""
        self._partitions.provide(moments, now)

    def roll_log(self, now: int, until: int) -> int:
        """Make the week ahead, drop the days that have ended."""
        return self._partitions.roll(now, until)

    def writer(self, owner: str) -> str:
        """Each its own rows, so that no two wait for each other."""
        return owner

    def backup(self, to: Path) -> None:
        """PostgreSQL has its own tool."""
        raise StoreFailed(f"turnout does not write {to} from PostgreSQL", hint="use pg_dump")

    def tidy(self) -> None:
        """Autovacuum does."""

    def dispose(self) -> None:
        """Close the pool."""
        self._engine.dispose()

    def abandon(self) -> None:
        """In a forked child: a new pool; the parent's sockets are not spoken on, nor closed politely."""
        self._engine.dispose(close=False)
        self._engine = self._make()


_opened: weakref.WeakSet[PostgresServer] = weakref.WeakSet()


def _abandon_all() -> None:
    for opened in list(_opened):
        opened.abandon()


os.register_at_fork(after_in_child=_abandon_all)


def _copy(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Past SQLAlchemy, which has no COPY; the errors are its own all the same."""
    import psycopg  # noqa: PLC0415 - extra `postgres`

    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise StoreFailed("the connection is closed")
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        kind = DataError if isinstance(error, psycopg.DataError) else OperationalError
        raise kind(statement, None, error) from error


def _is_any_twice(rows: Sequence[tuple[Any, ...]], keys: Sequence[int]) -> bool:
    """Whether two of the sorted rows have one key, which one INSERT cannot merge: names may differ by a NUL alone."""
    return any(all(one[index] == two[index] for index in keys) for one, two in pairwise(rows))


def _without_nul(value: Any) -> Any:
    return value.replace("\x00", "\ufffd") if type(value) is str and "\x00" in value else value
