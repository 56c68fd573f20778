"""A SQLite file that holds data is copied beside itself before it is migrated, or it is not migrated."""

from __future__ import annotations

import resource
import sqlite3
import stat
import subprocess
import sys
import threading
import traceback
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert

from tests.storage.calls import attempt, many
from tests.storage.conftest import MARK
from tests.storage.test_migrations import OPEN
from tests.storage.test_store import run
from turnout.errors import StoreFailed
from turnout.storage import address, schema, tables
from turnout.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database of the first revision that holds calls."""
    store = Store(address.read(f"sqlite:///{tmp_path}/turnout.db", tmp_path))
    schema.migrate(store.backend, to="0001")
    store._checked = True
    store.post([payload for pair in many(200, seed=1) for payload in pair], MARK)
    store.close()
    return tmp_path / "turnout.db"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    """The store in that file."""
    found = Store(address.read(f"sqlite:///{file}", file.parent))
    yield found
    found.close()


def copies(file: Path) -> list[str]:
    """The names of what lies beside a database, but for SQLite's own files and the lock."""
    ours = {file.name, f"{file.name}-wal", f"{file.name}-shm", f"{file.name}.lock"}
    return sorted({path.name for path in file.parent.iterdir()} - ours)


def said(file: Path, statement: str) -> list[tuple[object, ...]]:
    """What a database answers."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(statement).fetchall()


def rows_of(file: Path) -> list[tuple[object, ...]]:
    """The cost rows of a database."""
    return said(file, "SELECT * FROM cost_records ORDER BY id")


def calls_of(thread: threading.Thread) -> set[str]:
    """The names of the functions that a thread is in."""
    frame = sys._current_frames().get(thread.ident or 0)
    return {inner.f_code.co_name for inner, _ in traceback.walk_stack(frame)} if frame else set()


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As on a disk that is full: every write beyond fails."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_copy_is_made(file: Path, store: Store) -> None:
    """The copy is the store as it was, whole and private; the store is migrated and holds the same."""
    before = rows_of(file)
    store.open()
    copy = file.with_name(f"turnout.db.before-{tables.REVISION}")
    assert copies(file) == [copy.name]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert said(copy, "SELECT version_num FROM alembic_version") == [("0001",)]
    assert said(copy, "PRAGMA integrity_check") == [("ok",)]
    assert rows_of(copy) == rows_of(file) == before
    assert schema.revision(store.backend) == tables.REVISION


def test_nothing_to_copy(tmp_path: Path) -> None:
    """A new database, and one that holds nothing of a call, is migrated without a copy; so is one in memory."""
    store = Store(address.read(f"sqlite:///{tmp_path}/turnout.db", tmp_path))
    schema.migrate(store.backend, to="0001")
    with store.backend.writing() as connection:
        connection.exec_driver_sql("INSERT INTO meta (name, value) VALUES ('store', 'x')")
    store.open()
    store.open()
    store.close()
    assert copies(tmp_path / "turnout.db") == []
    memory = Store(address.MEMORY)
    memory.post(attempt(), MARK)
    memory.close()


def test_a_copy_stays(file: Path, store: Store) -> None:
    """A copy of before the same revision is not overwritten."""
    copy = file.with_name(f"turnout.db.before-{tables.REVISION}")
    copy.write_text("mine")
    store.open()
    assert copy.read_text() == "mine"
    assert schema.revision(store.backend) == tables.REVISION


def test_everybody_migrates_at_once(file: Path) -> None:
    """Of processes that find an old store at the same moment one copies it, before any of them migrates."""
    processes = [run(OPEN, f"sqlite:///{file}", stdin=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 3
    (name,) = copies(file)
    assert said(file.with_name(name), "SELECT version_num FROM alembic_version") == [("0001",)]


def test_a_full_disk(file: Path, store: Store) -> None:
    """Without room for the copy there is no migration: the store is as it was, and the error says what to do."""
    before = rows_of(file)
    with no_file_larger_than(file.stat().st_size // 2):
        with pytest.raises(StoreFailed, match="must be migrated to schema") as caught:
            store.open()
    assert "MiB free in" in caught.value.hint
    assert (copies(file), rows_of(file)) == ([], before)
    assert schema.revision(store.backend) == "0001"
    store.open()
    assert schema.revision(store.backend) == tables.REVISION
    assert len(copies(file)) == 1


def test_a_copy_that_was_cut_is_begun_anew(file: Path, store: Store) -> None:
    """What a crash left of a copy is no copy."""
    part = file.with_name(f"turnout.db.before-{tables.REVISION}.part")
    part.write_text("half")
    store.open()
    assert copies(file) == [part.stem]
    assert rows_of(file.with_name(part.stem)) == rows_of(file)


def test_whoever_waited_copies_nothing(tmp_path: Path) -> None:
    """A process that finds an old store, and the lock taken, has nothing to copy once another has migrated it."""
    first, second = (Store(address.read(f"sqlite:///{tmp_path}/turnout.db", tmp_path)) for _ in range(2))
    schema.migrate(first.backend, to="0001")
    assert schema.revision(second.backend) == "0001"
    thread = threading.Thread(target=second.open)
    with first.backend.migrating() as connection:
        thread.start()
        while "_lock" not in calls_of(thread):
            assert thread.is_alive()
        schema._upgrade(connection, tables.REVISION)
        connection.execute(insert(tables.budgets).values(k="k", cap=1, spent=0, leased=0, recall=0))
    thread.join()
    assert copies(tmp_path / "turnout.db") == []
    first.close()
    second.close()
