"""A copy of a SQLite file beside itself, before a migration touches what it holds."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from turnout.errors import StoreFailed

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

_OURS = {"alembic_version", "meta"}
"""Tables that say something of the store and nothing of any call."""


def copy(file: Path, connection: Connection, revision: str) -> Path | None:
    """Copy a file that holds data as it was before the `revision` that is due; `None` when it holds none.

    `connection` is in the transaction that will migrate, so nobody else writes. The copy is whole or not there, only
    its owner can read it, and one that is there is left alone. Raises `StoreFailed` when it cannot be made.
    """
    to = file.with_name(f"{file.name}.before-{revision}")
    if to.exists() or not _holds_data(connection):
        return None
    begun = file.with_name(f"{to.name}.part")
    try:
        begun.unlink(missing_ok=True)
        os.close(os.open(begun, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as reader:
            reader.execute("VACUUM INTO ?", (str(begun),)).close()
        _sync(begun)
        begun.rename(to)
        _sync(file.parent)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            begun.unlink(missing_ok=True)
        raise StoreFailed(
            f"{file} must be migrated to schema {revision}, and cannot be copied to {to} before: {error}",
            hint=f"{_room(file)}, or copy it elsewhere and `touch {to}`; until then it stays as it is",
        ) from error
    return to


def _holds_data(connection: Connection) -> bool:
    names = set(inspect(connection).get_table_names()) - _OURS
    return any(connection.execute(text(f'SELECT 1 FROM "{name}" LIMIT 1')).first() for name in names)  # noqa: S608 - its own


def _room(file: Path) -> str:
    size = file.stat().st_size
    with suppress(FileNotFoundError):
        size += file.with_name(f"{file.name}-wal").stat().st_size
    return f"make {-(-size // 2**20)} MiB free in {file.parent}"


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
