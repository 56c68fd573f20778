"""Is the store's schema ours? Alembic is loaded only when a migration is due."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text
from sqlalchemy.exc import DatabaseError

from turnout.errors import StoreFailed
from turnout.storage import before_migration
from turnout.storage.tables import REVISION

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from turnout.storage.backend import Backend

FOLDER = Path(__file__).parent / "migrations"
_STANDING = text("SELECT version_num FROM alembic_version")


def revision(backend: Backend) -> str | None:
    """The store's own; `None` of an empty one."""
    try:
        with backend.reading() as connection:
            found: str | None = connection.execute(_STANDING).scalar()
    except DatabaseError as error:
        if "alembic_version" not in str(error.orig):
            raise
        return None
    return found


def migrate(backend: Backend, *, to: str = REVISION, file: Path | None = None) -> bool:
    """Bring the schema up to `to`, while others wait; whether there was anything to do.

    A SQLite `file` that holds data is copied before. Raises `StoreFailed` when the store is a later turnout's, or
    cannot be copied.
    """
    standing = revision(backend)
    refuse_newer(standing)
    if standing is not None and standing >= to:
        return False
    with backend.migrating() as connection:
        standing = _standing(connection)
        refuse_newer(standing)
        if standing is not None and standing >= to:
            return True
        if file is not None:
            before_migration.copy(file, connection, to)
        _upgrade(connection, to)
    return True


def refuse_newer(standing: str | None) -> None:
    """Raises `StoreFailed` when a revision is later than ours."""
    if standing is not None and standing > REVISION:
        raise StoreFailed(
            f"the store has schema {standing} of a later turnout; this one knows {REVISION} and does not write to it",
            hint="upgrade turnout here, or give this one its own TURNOUT_DATABASE_URL; what it journals is kept",
        )


def _standing(connection: Connection) -> str | None:
    """Whoever had the lock before may have migrated already, and further than we would."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(_STANDING).scalar()
    return found


def _upgrade(connection: Connection, to: str) -> None:
    from alembic import command  # noqa: PLC0415 - 200 ms, and rarely due
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise StoreFailed(
            f"the database is another program's, or its schema is none of turnout's: {error}",
            hint="give turnout a database of its own in TURNOUT_DATABASE_URL; what it journals is kept",
        ) from error
