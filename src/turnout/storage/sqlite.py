"""SQLite in WAL mode: one file, one writer at a time among all processes, readers that wait for nobody.

SQLite before 3.51.3 can corrupt a WAL that is written while it is checkpointed (its release notes of 2026-03-13), and
distributions ship 3.40. So nothing checkpoints by itself here: every write, checkpoint and close happens under one
advisory lock on a file beside the database.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

from turnout.errors import StoreFailed
from turnout.storage import driver
from turnout.storage.backend import insert
from turnout.storage.mounts import refuse_network

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection, Engine, Table

LOCK_TIMEOUT = 10.0
"""Seconds a writer waits for the others."""
CHECKPOINT_BYTES = 64 * 2**20
"""The more is written between two checkpoints, the more often a page is written back once for many changes."""
READERS = 4
_STATES = "SELECT id, state FROM cost_records WHERE id IN (SELECT value FROM json_each(?))"
PRAGMAS = (
    # Before the first table, or without effect. A row without a rowid that takes more than a quarter of a page takes
    # another page besides, and the end of an attempt is about 1 kB.
    "page_size=8192",
    "auto_vacuum=INCREMENTAL",
    "journal_mode=WAL",
    "synchronous=NORMAL",  # the journal keeps what a power cut takes from the WAL
    "foreign_keys=ON",
    "wal_autocheckpoint=0",
    f"journal_size_limit={CHECKPOINT_BYTES}",
    "cache_size=-16384",  # 16 MiB: a month of hourly sums is read again and again
)


class SqliteFile:
    """A database file; without one, a database in memory that ends with this object."""

    name = "sqlite"

    def __init__(self, file: Path | None, *, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self._file = file
        self._wal = Path(f"{file}-wal")
        self._lock_timeout = lock_timeout
        self._reset()
        _opened.add(self)

    def _reset(self) -> None:
        self._mutex = threading.RLock()
        self._lock_fd: int | None = None
        self._inode: int | None = None
        self._writer: Engine | None = None
        self._readers: Engine | None = None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """`BEGIN IMMEDIATE` under the lock; a checkpoint afterwards when the WAL has grown."""
        with self._alone():
            writer = self._connected()
            with writer.begin() as connection:
                yield connection
            self._checkpoint(writer)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One snapshot."""
        if self._file is None:
            with self._mutex, self._connected().begin() as connection:
                yield connection
            return
        if self._readers is None:
            with self._alone():
                self._connected()
        with self._readers.begin() as connection:  # type: ignore[union-attr]  # made with the writer
            yield connection

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """As `writing`, foreign keys off: a table that is copied and dropped must not take its children with it."""
        with self._alone():
            writer = self._connected()
            with _idle(writer) as idle:
                idle.execute("PRAGMA foreign_keys=OFF")
            try:
                with writer.begin() as connection:
                    yield connection
            finally:
                with _idle(writer) as idle:
                    idle.execute("PRAGMA foreign_keys=ON")

    def states(self, connection: Connection, ids: Sequence[str]) -> Iterable[Sequence[Any]]:
        """Nothing to hold: nobody else writes."""
        asked = msgspec.json.encode(ids).decode()
        return driver.fetched(connection, _STATES, [(asked,)])

    def merge(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Row by row, by few statements, each prepared once."""
        driver.put(connection, rows, partial(insert, table, "?"))

    def prepare_log(self, moments: Iterable[int], now: int) -> None:
        """The log is one table."""

    def roll_log(self, now: int, until: int) -> int:
        """Nothing of it goes as a whole."""
        return until

    def writer(self, owner: str) -> str:
        """One for all: they take turns."""
        return ""

    def backup(self, to: Path) -> None:
        """A compact copy, private to this user."""
        if to.exists():
            raise StoreFailed(f"{to} exists", hint="name a file that does not exist")
        os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with self._alone(), _idle(self._connected()) as idle:
            idle.execute("VACUUM INTO ?", (str(to),))

    def tidy(self) -> None:
        """A thousand pages at most."""
        with self._alone(), _idle(self._connected()) as idle:
            idle.execute("PRAGMA incremental_vacuum(1000)").fetchall()

    def dispose(self) -> None:
        """Close every connection under the lock: the last one to close checkpoints."""
        if self._writer is None:
            return
        with self._alone():
            self._forget()
        with self._mutex:
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None

    def _forget(self) -> None:
        for engine in (self._readers, self._writer):
            if engine is not None:
                engine.dispose()
        self._readers = self._writer = None

    def abandon(self) -> None:
        """In a forked child: let go of the parent's descriptors without closing its connections or its lock."""
        fd = self._lock_fd
        _inherited.append((self._readers, self._writer))
        self._reset()
        if fd is not None:
            os.close(fd)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The only writer among the threads of this process and among all processes."""
        if not self._mutex.acquire(timeout=self._lock_timeout):
            raise StoreFailed(
                f"another thread has held {self._file or 'the memory store'} for {self._lock_timeout:g} s"
            )
        try:
            if self._file is None:
                yield
                return
            fd = self._lock()
            try:
                yield
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            self._mutex.release()

    def _lock(self) -> int:
        """Take the lock file, which is made with its folder where there is none."""
        file = Path(f"{self._file}.lock")
        if self._lock_fd is None:
            refuse_network(file.parent)
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + self._lock_timeout
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StoreFailed(
                        f"another process has held {file} for {self._lock_timeout:g} s",
                        hint="it is busy, stopped or stuck; `fuser` names it",
                    ) from None
                time.sleep(0.002)
            else:
                return self._lock_fd

    def _connected(self) -> Engine:
        """The writer, connected anew when the file is not the one that was opened."""
        if self._writer is not None and self._inode != _inode(self._file):
            self._forget()
        if self._writer is None:
            self._writer, self._readers = self._engines()
        return self._writer

    def _engines(self) -> tuple[Engine, Engine | None]:
        if self._file is None:
            return _engine("sqlite://", "BEGIN", self._lock_timeout, poolclass=StaticPool), None
        os.close(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._inode = _inode(self._file)
        url = f"sqlite:///{self._file}"
        writer = _engine(url, "BEGIN IMMEDIATE", self._lock_timeout, poolclass=StaticPool)
        pool = {
            "poolclass": QueuePool,
            "pool_size": READERS,
            "max_overflow": 0,
            "pool_timeout": self._lock_timeout,
        }
        readers = _engine(url, "BEGIN", self._lock_timeout, **pool)
        return writer, readers

    def _checkpoint(self, writer: Engine) -> None:
        if self._file is None:
            return
        with suppress(FileNotFoundError):
            if self._wal.stat().st_size > CHECKPOINT_BYTES:
                with _idle(writer) as idle:
                    idle.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


_opened: weakref.WeakSet[SqliteFile] = weakref.WeakSet()
_inherited: list[object] = []
"""Connections of the parent's: collecting one would close it, and SQLite forbids that in a forked child."""


def _abandon_all() -> None:
    for opened in list(_opened):
        opened.abandon()


os.register_at_fork(after_in_child=_abandon_all)


def _engine(url: str, begin: str, timeout: float, **pool: Any) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": timeout}, **pool)

    @event.listens_for(engine, "connect")
    def prepare(opened: sqlite3.Connection, _record: object) -> None:
        opened.isolation_level = None  # transactions begin where SQLAlchemy says so, below
        for pragma in PRAGMAS:
            opened.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        driver.execute(connection, begin)

    return engine


@contextmanager
def _idle(engine: Engine) -> Iterator[sqlite3.Connection]:
    """The driver's own connection, outside any transaction."""
    borrowed = engine.raw_connection()
    try:
        idle = borrowed.driver_connection
        if not isinstance(idle, sqlite3.Connection):
            raise TypeError("not a connection of sqlite3")
        yield idle
    finally:
        borrowed.close()


def _inode(file: Path | None) -> int | None:
    if file is None:
        return None
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None
