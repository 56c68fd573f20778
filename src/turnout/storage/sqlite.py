"""SQLite in WAL mode: one file, one writer at a time among all processes, readers that wait for nobody.

SQLite before 3.51.3 can corrupt a WAL that is written while it is checkpointed (its release notes of 2026-03-13), and
distributions ship 3.40. So nothing checkpoints by itself here: every write, checkpoint and close happens under one
advisory lock on a file beside the database.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from turnout.errors import StoreFailed
from turnout.storage.backend import insert

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection, Engine, Table

LOCK_TIMEOUT = 10.0
"""Seconds a writer waits for the others."""
CHECKPOINT_BYTES = 64 * 2**20
"""The more is written between two checkpoints, the more often a page is written back once for many changes."""
READERS = 4
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "fuse.sshfs", "ceph", "afs", "9p"}
)
"""File systems on which WAL's shared memory does not work or loses data."""
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
            with _driver(writer) as driver:
                driver.execute("PRAGMA foreign_keys=OFF")
            try:
                with writer.begin() as connection:
                    yield connection
            finally:
                with _driver(writer) as driver:
                    driver.execute("PRAGMA foreign_keys=ON")

    def states(self, connection: Connection, ids: Sequence[str]) -> Iterable[Sequence[Any]]:
        """Nothing to hold: nobody else writes."""
        asked = msgspec.json.encode(ids).decode()
        return connection.exec_driver_sql(
            "SELECT id, state FROM cost_records WHERE id IN (SELECT value FROM json_each(?))", (asked,)
        ).fetchall()

    def merge(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Row by row, prepared once, past SQLAlchemy but for its errors.

        The driver binds a plain tuple in two thirds of the time of a named one.
        """
        if not rows:
            return
        driver, statement = connection.connection.driver_connection, insert(table, "?")
        if not isinstance(driver, sqlite3.Connection):
            raise StoreFailed("the connection is closed")
        try:
            driver.executemany(statement, map(tuple, rows)).close()
        except sqlite3.Error as error:
            raise DBAPIError.instance(statement, None, error, sqlite3.Error) from error
        except OverflowError as error:
            raise DataError(statement, None, error) from error

    def writer(self, owner: str) -> str:
        """One for all: they take turns."""
        return ""

    def backup(self, to: Path) -> None:
        """A compact copy, private to this user."""
        if to.exists():
            raise StoreFailed(f"{to} exists", hint="name a file that does not exist")
        os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with self._alone(), _driver(self._connected()) as driver:
            driver.execute("VACUUM INTO ?", (str(to),))

    def tidy(self) -> None:
        """A thousand pages at most."""
        with self._alone(), _driver(self._connected()) as driver:
            driver.execute("PRAGMA incremental_vacuum(1000)").fetchall()

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
            _refuse_network(file.parent)
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
            if Path(f"{self._file}-wal").stat().st_size > CHECKPOINT_BYTES:
                with _driver(writer) as driver:
                    driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


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
    def prepare(driver: sqlite3.Connection, _record: object) -> None:
        driver.isolation_level = None  # transactions begin where SQLAlchemy says so, below
        for pragma in PRAGMAS:
            driver.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@contextmanager
def _driver(engine: Engine) -> Iterator[sqlite3.Connection]:
    """The driver's own connection, outside any transaction."""
    borrowed = engine.raw_connection()
    try:
        driver = borrowed.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            raise TypeError("not a connection of sqlite3")
        yield driver
    finally:
        borrowed.close()


def _inode(file: Path | None) -> int | None:
    if file is None:
        return None
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None


def _refuse_network(folder: Path) -> None:
    kind = _file_system(folder.resolve())
    if kind in NETWORK:
        raise StoreFailed(
            f"{folder} is on a network file system ({kind}), where SQLite loses data",
            hint="set TURNOUT_HOME to a local folder, or TURNOUT_DATABASE_URL to a postgresql:// address",
        )


def _file_system(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of file system that holds a folder, where the system says so; else ''."""
    if sys.platform != "linux":
        return ""
    best, kind = "", ""
    with suppress(OSError):
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            _device, place, found, *_rest = [*line.split(" "), "", "", ""]
            place = place.replace("\\040", " ")
            if len(place) >= len(best) and (folder == Path(place) or Path(place) in folder.parents):
                best, kind = place, found
    return kind
