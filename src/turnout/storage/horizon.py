"""How far the store has come with its own care, noted in `meta` in the transaction that did it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, text

from turnout.storage import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ADVANCE = text(
    "INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value "
    "WHERE CAST(meta.value AS bigint) <= CAST(excluded.value AS bigint) - :step"
)


def since(connection: Connection, name: str) -> int:
    """From when on nothing has been deleted of `events` or `costs`, or folded of `hours`; 0 when nothing ever was."""
    noted = select(tables.meta.c.value).where(tables.meta.c.name == f"{name}_since")
    return int(connection.execute(noted).scalar() or 0)


def advance(connection: Connection, name: str, moment: int, step: int = 1) -> bool:
    """Note a moment that is at least `step` microseconds after the one that is noted; whether it is.

    Of several transactions that try at once, one does.
    """
    done = connection.execute(_ADVANCE, {"name": name, "value": str(moment), "step": step})
    return done.rowcount == 1
