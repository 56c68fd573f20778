"""Stores of every kind: a SQLite file, the memory, and a PostgreSQL server of this session's own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from tests.storage.calls import NOON
from tests.storage.server import running
from turnout.storage import address
from turnout.storage.store import Mark, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    MakeStore = Callable[[str], Store]

KINDS = ("sqlite", "postgresql", "memory")
MARK = Mark(
    owner="owner-1", host="h", boot="b", spool="s", at=NOON, segment="owner-1.00000001.jnl", position=10
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A running server on a private Unix socket; the address of its maintenance database."""
    with running() as server:
        yield server.url


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
