"""What is particular to SQLite: one file, one lock, one writer."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.storage.calls import attempt, many
from tests.storage.conftest import MARK
from tests.storage.test_stores import everything, rows
from turnout.errors import StoreFailed
from turnout.storage import address, sqlite, tables
from turnout.storage.rebuild import rebuild
from turnout.storage.store import Store

if TYPE_CHECKING:
    from pathlib import Path

FORK = """
import os, sys
from pathlib import Path
from tests.storage.calls import attempt
from tests.storage.conftest import MARK
from turnout.storage import address
from turnout.storage.store import Store
store = Store(address.read(None, Path(sys.argv[1])))
store.post(attempt(id="a0"), MARK)
inherited = store.backend._lock_fd
with store.backend.writing() as connection:      # the parent is within a transaction, and the lock is held
    child = os.fork()
    if child == 0:
        try:
            os.fstat(inherited)
            os._exit(3)                           # the lock's descriptor is still open
        except OSError:
            pass
        other = Store(store.address, lock_timeout=0.05)
        try:
            other.post(attempt(id="a9"), MARK)
            os._exit(4)                           # the parent's lock was lost
        except Exception as error:
            os._exit(0 if "has held" in str(error) else 5)
    assert os.waitpid(child, 0)[1] == 0, "child"
child = os.fork()
if child == 0:
    store.post(attempt(id="a1"), MARK)
    store.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, "second child"
store.post(attempt(id="a2"), MARK)
store.close()
"""
TWO = """
import sys
from pathlib import Path
from tests.storage.calls import many
from tests.storage.conftest import MARK
from turnout.storage import address
from turnout.storage.store import Store
store = Store(address.read(None, Path(sys.argv[1])))
for pair in many(150, seed=int(sys.argv[2])):
    store.post(pair, MARK)
store.close()
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in a file."""
    return Store(address.read(None, tmp_path / "home"))


def run(program: str, *args: object, stdin: int | None = None) -> subprocess.Popen[bytes]:
    """A Python process that can import what this one can."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", program, *map(str, args)], stdin=stdin, env=env)  # noqa: S603


def test_private_files(store: Store) -> None:
    """The folder is 0700 and every file of the store 0600."""
    store.post(attempt(), MARK)
    file = store.address.file
    assert file is not None
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    assert modes.keys() == {"turnout.db", "turnout.db-wal", "turnout.db-shm", "turnout.db.lock"}
    assert set(modes.values()) == {0o600}
    store.close()


def test_pragmas(store: Store) -> None:
    """WAL, no checkpoint of its own accord, foreign keys on, incremental vacuum, large pages, strict tables."""
    with store.write() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in (
                "journal_mode",
                "synchronous",
                "wal_autocheckpoint",
                "foreign_keys",
                "auto_vacuum",
                "mmap_size",
                "page_size",
            )
        }
        strict = connection.exec_driver_sql("SELECT name FROM pragma_table_list WHERE strict").scalars().all()
    assert found == {
        "journal_mode": "wal", "synchronous": 1, "wal_autocheckpoint": 0, "foreign_keys": 1, "auto_vacuum": 2,
        "mmap_size": 0, "page_size": 8192,
    }  # fmt: skip
    assert set(strict) >= {
        name for name, table in tables.metadata.tables.items() if not table.info.get("is_view")
    }
    store.close()


def test_a_file_elsewhere_stays_as_it_is(tmp_path: Path) -> None:
    """A folder that was there keeps its mode."""
    tmp_path.chmod(0o755)
    store = Store(address.read(f"sqlite:///{tmp_path}/x.db", tmp_path))
    store.open()
    store.close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_checkpoint(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A WAL that has grown is written back into the file; nobody else is needed for it."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_BYTES", 200_000)
    file = store.address.file
    assert file is not None
    sizes = []
    payloads = [payload for pair in many(800, seed=3) for payload in pair]
    for begin in range(0, len(payloads), 20):
        store.post(payloads[begin : begin + 20], MARK)
        sizes.append(file.with_name("turnout.db-wal").stat().st_size)
    assert max(sizes) < 600_000
    assert file.stat().st_size > 500_000
    store.close()
    assert not file.with_name("turnout.db-wal").exists()


def test_readers_do_not_wait(store: Store) -> None:
    """A reader sees the last commit while a writer is within its transaction."""
    store.post(attempt(id="a1"), MARK)
    with store.write() as connection:
        connection.exec_driver_sql("DELETE FROM cost_records")
        assert [row[0] for row in rows(store, "cost_records")] == ["a1"]
    assert rows(store, "cost_records") == []
    store.close()


def test_a_writer_that_waits_too_long(tmp_path: Path) -> None:
    """Whoever cannot have the lock is told by whom it is held: another thread, or another process."""
    store = Store(address.read(None, tmp_path), lock_timeout=0.05)
    other = Store(store.address, lock_timeout=0.05)
    said = []

    def write(one: Store) -> None:
        with pytest.raises(StoreFailed) as caught:
            one.post(attempt(), MARK)
        said.append(str(caught.value))

    with store.write():
        for one in (store, other):
            thread = threading.Thread(target=write, args=(one,))
            thread.start()
            thread.join()
    assert "another thread has held" in said[0]
    assert "another process has held" in said[1]
    store.close()
    other.close()


def test_two_processes(tmp_path: Path) -> None:
    """Two processes that make the store at once and write to it at once lose nothing and double nothing."""
    workers = [run(TWO, tmp_path, seed) for seed in (1, 2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    store = Store(address.read(None, tmp_path))
    attempts = sum(len(list(many(150, seed=seed))) for seed in (1, 2))
    assert len(rows(store, "cost_records")) == attempts
    before = everything(store)
    rebuild(store)
    assert everything(store) == before
    store.close()


def test_forks(tmp_path: Path) -> None:
    """A forked child drops the parent's connections without freeing its lock, and writes over its own."""
    assert run(FORK, tmp_path).wait(60) == 0
    store = Store(address.read(None, tmp_path))
    assert [row[0] for row in rows(store, "cost_records")] == ["a0", "a1", "a2"]
    store.close()


def test_backup(store: Store, tmp_path: Path) -> None:
    """A backup is a whole, private copy; an existing file is not overwritten."""
    store.post(attempt(), MARK)
    copy = tmp_path / "copy.db"
    store.backup(copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    connection = sqlite3.connect(copy)
    assert connection.execute("SELECT id, cost_nano FROM cost_records").fetchall() == [("a1", 1_000)]
    connection.close()
    with pytest.raises(StoreFailed, match="exists"):
        store.backup(copy)
    store.close()
