"""Where the store is: a database address, read without loading a database library."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

import msgspec

from turnout.errors import ConfigError

FILE_NAME = "turnout.db"
_POSTGRES = ("postgresql", "postgres")


class Address(msgspec.Struct, frozen=True):
    """A SQLite file or a PostgreSQL database. `str` and `repr` never show a password."""

    url: str
    file: Path | None = None
    """Of SQLite; `None` for PostgreSQL and for the memory."""

    @property
    def spool_id(self) -> str:
        """The name of the spool folder of this store: the same address has the same, on every host.

        It is made from the address, not read from the database: the journal begins before a database can be
        reached, and a database that is created anew still gets what was spooled for it.
        """
        return str(uuid5(NAMESPACE_URL, self._plain()))

    @property
    def is_memory(self) -> bool:
        """Nothing of it is kept."""
        return self.url == "sqlite://"

    @property
    def is_postgres(self) -> bool:
        """It is a server, not a file."""
        return self.file is None and not self.is_memory

    def _plain(self) -> str:
        if self.file is not None:
            return f"sqlite:///{self.file}"
        if self.is_memory:
            return self.url
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        query = f"?{parts.query}" if parts.query and "password" not in parts.query else ""
        return f"postgresql://{parts.hostname or ''}{port}{parts.path}{query}"

    def __str__(self) -> str:
        return self._plain()

    def __repr__(self) -> str:
        return f"Address({self._plain()!r})"


MEMORY = Address("sqlite://")


def read(url: str | None, home: Path) -> Address:
    """The address a `TURNOUT_DATABASE_URL` names; without one, `turnout.db` in the data folder.

    Raises `ConfigError` that repeats no password.
    """
    if not url:
        file = (home / FILE_NAME).absolute()
        return Address(f"sqlite:///{file}", file)
    scheme, _, rest = url.partition("://")
    scheme = scheme.partition("+")[0].lower()
    if scheme == "sqlite":
        if rest in {"", "/:memory:"}:
            return MEMORY
        if not rest.startswith("/") or rest == "/":
            raise ConfigError(
                "TURNOUT_DATABASE_URL: a SQLite address has three slashes before its path",
                hint="such as sqlite:////var/lib/turnout/turnout.db, or sqlite:///turnout.db for this folder",
            )
        file = Path(unquote(rest[1:].partition("?")[0])).expanduser().absolute()
        return Address(f"sqlite:///{file}", file)
    if scheme in _POSTGRES:
        address = Address(f"postgresql://{rest}")
        try:
            _ = str(address)
        except ValueError:
            raise ConfigError(
                "TURNOUT_DATABASE_URL has a port that is no number",
                hint="such as postgresql://user@host:5432/turnout; write @, : and / in a password as %40, %3A, %2F",
            ) from None
        return address
    raise ConfigError(
        f"TURNOUT_DATABASE_URL: there is no store of the kind {scheme!r}",
        hint="sqlite:///path/to/file.db or postgresql://user@host/database",
    )
