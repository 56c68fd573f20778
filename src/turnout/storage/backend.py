"""What the two engines have in common, and the few things in which they differ: see `sqlite.py`, `postgres.py`."""

from __future__ import annotations

from functools import cache
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


@cache
def insert(table: Table, mark: str) -> str:
    """`INSERT INTO ...` with a place for every column, then the merge."""
    names = ", ".join(column.name for column in table.columns)
    places = ", ".join([mark] * len(table.columns))
    return f"INSERT INTO {table.name} ({names}) VALUES ({places}) {merge_clause(table)}"  # noqa: S608 - names of tables.py
