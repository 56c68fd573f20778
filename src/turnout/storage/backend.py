"""What the two engines have in common, and the few things in which they differ: see `sqlite.py`, `postgres.py`."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Connection, Table


class Backend(Protocol):
    """One engine under the schema of `tables.py`. Errors are SQLAlchemy's, OSError, or `StoreFailed`."""

    name: str

    def writing(self) -> AbstractContextManager[Connection]:
        """One write transaction, committed at the end."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection that only reads, in one snapshot."""
        ...

    def migrating(self) -> AbstractContextManager[Connection]:
        """One transaction in which nobody else migrates."""
        ...

    def states(self, connection: Connection, ids: Sequence[str]) -> Iterable[Sequence[Any]]:
        """Id and state of those attempts that have a row, held until the transaction ends."""
        ...

    def merge(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows to a table, by its columns' `merge`; a row of the log that stands already is left alone."""
        ...

    def prepare_log(self, moments: Iterable[int], now: int) -> None:
        """Before a transaction that adds events of these moments; `now` in microseconds UTC as well."""
        ...

    def roll_log(self, now: int, until: int) -> int:
        """Drop what of the log can go as a whole because it is older than `until`, and prepare what comes after `now`.

        Returns where the log begins then, or `until`: traces that ended before go one by one, with their events.
        """
        ...

    def writer(self, owner: str) -> str:
        """Under whose name the hourly sums of an owner are kept."""
        ...

    def backup(self, to: Path) -> None:
        """Write a consistent copy. Raises `StoreFailed` where the engine has its own tool for that."""
        ...

    def tidy(self) -> None:
        """Give back some of the space that deleting has freed."""
        ...

    def dispose(self) -> None:
        """Close every connection; the next use opens new ones."""
        ...


LOG = frozenset({"events", "bodies"})
"""Tables whose rows never change."""


@cache
def merge_clause(table: Table) -> str:
    """`ON CONFLICT ...` as the columns' `merge` say."""
    key = ", ".join(column.name for column in table.primary_key)
    if table.name in LOG:
        return f"ON CONFLICT ({key}) DO NOTHING"
    changes = ", ".join(
        _change(table.name, column.name, column.info["merge"])
        for column in table.columns
        if not column.primary_key
    )
    return f"ON CONFLICT ({key}) DO UPDATE SET {changes}"


def _change(table: str, name: str, merge: str) -> str:
    old, new = f"{table}.{name}", f"excluded.{name}"
    return {
        "replace": f"{name} = {new}",
        "add": f"{name} = {old} + {new}",
        "least": f"{name} = CASE WHEN {old} IS NULL OR {new} < {old} THEN {new} ELSE {old} END",
        "greatest": f"{name} = CASE WHEN {old} IS NULL OR {new} > {old} THEN {new} ELSE {old} END",
    }[merge]


@lru_cache(maxsize=512)
def insert(table: Table, mark: str, given: tuple[int, ...] | None = None) -> str:
    """`INSERT INTO ...` with a place for the columns of these positions, all when `None`, then the merge."""
    columns = list(table.columns)
    named = columns if given is None else [columns[position] for position in given]
    names = ", ".join(column.name for column in named)
    places = ", ".join([mark] * len(named))
    return f"INSERT INTO {table.name} ({names}) VALUES ({places}) {merge_clause(table)}"  # noqa: S608 - names of tables.py
