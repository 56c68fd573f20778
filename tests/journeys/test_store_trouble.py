"""Whatever happens to the store while calls are made: every call is answered, and afterwards every row is there."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import threading
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, event, func, select

from tests.journeys.oracle import PROVE, listening
from tests.storage.server import running
from tests.toxic import Toxic
from turnout.clock import Clock
from turnout.settings import load_settings
from turnout.storage import address, identity, tables
from turnout.storage.record import DiskRecord
from turnout.storage.segments import Spool
from turnout.storage.store import Store
from turnout.wiring import LLMClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

EACH_SECOND = 50
TROUBLE = 5.0 if PROVE else 1.0
"""Seconds that it lasts, with calls before, during and after it."""
SLOW_COMMIT = 5.0 if PROVE else 0.4
"""Seconds."""
MOST_PAGES = 2**30
"""SQLite's own bound, as good as none."""
CALM = 0.5
CATCHES_UP = 5.0
SAYS = {"read_only": "readonly database", "full": "database or disk is full"}
"""In SQLite's words."""
SLOWEST = 0.5
"""Seconds: no call waits for a store."""


class Load:
    """Calls at a steady rate, until it is left."""

    def __init__(self, client: LLMClient, record: DiskRecord) -> None:
        self.record = record
        self.slowest = 0.0
        self.made = 0
        self._client = client
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Make them; raises what the first failed call raises."""
        began = monotonic()
        async with asyncio.TaskGroup() as calls:
            while not self._over.is_set():
                calls.create_task(self._call())
                self.made += 1
                await self.rest(began + self.made / EACH_SECOND - monotonic())

    async def rest(self, seconds: float) -> None:
        """Let so much time pass, while calls are made."""
        await asyncio.sleep(max(0.0, seconds))

    async def _call(self) -> None:
        began = monotonic()
        await self._client.call_with_fallback("dojo", [{"role": "user", "content": "hi"}])
        self.slowest = max(self.slowest, monotonic() - began)

    def stop(self) -> None:
        """No more calls."""
        self._over.set()

    async def until(self, holds: Callable[[], bool], within: float = CATCHES_UP) -> float:
        """Wait for what the ledger's thread will do; how long it took."""
        began = monotonic()
        async with asyncio.timeout(within):
            while not holds():
                await self.rest(0.01)
        return monotonic() - began

    @property
    def failing(self) -> bool:
        """The ledger cannot write."""
        status = self.record.status()
        return status is not None and status[1].failing_seconds is not None

    @property
    def error(self) -> str:
        """What the store last refused with."""
        status = self.record.status()
        return "" if status is None else status[1].last_error or ""

    @property
    def caught_up(self) -> bool:
        """Everything is in the tables."""
        status = self.record.status()
        return status is not None and not status[1].behind_bytes and not self.failing


def settled(url: str, home: Path) -> int:
    """How many attempts are settled, by a reader of its own."""
    store = Store(address.read(url, home))
    try:
        with store.read() as connection:
            counted = select(func.count()).where(tables.cost_records.c.state == "settled")
            return int(connection.execute(counted).scalar_one())
    finally:
        store.close()


@asynccontextmanager
async def load(url: str, home: Path) -> AsyncIterator[Load]:
    """A steady load on a store; in the end no call has failed, none was slow, and the journal is in the tables."""
    settings = load_settings(environ={"TURNOUT_HOME": str(home)}, folder=home)
    async with Toxic() as server:
        settings = load_settings(
            environ={"TURNOUT_HOME": str(home), "DEEPSEEK_BASE_URL": server.url}, folder=home
        )
        record = DiskRecord(settings, address.read(url, home), Clock(), rotate_bytes=20_000)
        async with LLMClient(settings, record=record) as client:
            made = Load(client, record)
            running = asyncio.create_task(made.run())
            await made.rest(CALM)
            yield made
            await made.rest(CALM)
            made.stop()
            await running
            took = await made.until(lambda: made.caught_up)
            status = record.status()
        assert len(server.requests) == made.made
    assert status is not None
    print(f"\n{made.made} calls, 0 failed, slowest {made.slowest * 1e3:.0f} ms, caught up {took:.2f} s later")
    assert (status[0].dropped, status[1].refused) == (0, 0)
    assert made.slowest < SLOWEST


class Sick:
    """A store that is read-only, full or slow on demand; its listeners stay while any ledger runs."""

    def __init__(self) -> None:
        self.is_read_only = False
        self.is_full = False
        self.is_slow = False
        self._well = threading.Event()
        self._listeners = (("begin", self._begin), ("commit", self._commit))

    def _begin(self, connection: Any) -> None:
        driver = connection.connection.driver_connection
        driver.execute(f"PRAGMA query_only={int(self.is_read_only)}")
        driver.execute(f"PRAGMA max_page_count={1 if self.is_full else MOST_PAGES}").fetchall()

    def _commit(self, _connection: Any) -> None:
        if self.is_slow:
            self._well.wait(SLOW_COMMIT)

    @contextmanager
    def listening(self) -> Iterator[Sick]:
        """Between the two, nothing is wrong unless it is said."""
        for name, listener in self._listeners:
            event.listen(Engine, name, listener)
        try:
            yield self
        finally:
            for name, listener in self._listeners:
                event.remove(Engine, name, listener)

    @contextmanager
    def read_only(self, _file: Path) -> Iterator[None]:
        """SQLite refuses as it does on a file that it may only read; to root every file is writable."""
        self.is_read_only = True
        yield
        self.is_read_only = False

    @contextmanager
    def full(self, _file: Path) -> Iterator[None]:
        """Not one more page: SQLite says what it says where the disk has none left."""
        self.is_full = True
        yield
        self.is_full = False

    @contextmanager
    def slow_commits(self, _file: Path) -> Iterator[None]:
        """Each takes as long as on a disk that is busy with something else."""
        self.is_slow = True
        yield
        self.is_slow = False
        self._well.set()

    @contextmanager
    def locked_by_a_writer(self, file: Path) -> Iterator[None]:
        """Another program's transaction."""
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.close()

    @contextmanager
    def locked_file(self, file: Path) -> Iterator[None]:
        """Another turnout that has stopped while it wrote."""
        with Path(f"{file}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@pytest.mark.parametrize(
    "trouble", ["locked_by_a_writer", "locked_file", "read_only", "full", "slow_commits"]
)
async def test_sqlite(tmp_path: Path, trouble: str) -> None:
    """A database that is locked, read-only, full or slow: no call fails or waits, and each is counted in the end."""
    url = f"sqlite:///{tmp_path}/turnout.db"
    with Sick().listening() as sick:
        async with load(url, tmp_path) as calls:
            await calls.until(lambda: calls.caught_up)
            with getattr(sick, trouble)(tmp_path / "turnout.db"):
                before = calls.made
                await calls.rest(TROUBLE)
                await calls.until(lambda: not calls.caught_up)
                if trouble in SAYS:
                    await calls.until(lambda: calls.failing)
                    assert SAYS[trouble] in calls.error
            assert calls.made - before > TROUBLE * EACH_SECOND / 3
    assert settled(url, tmp_path) == calls.made


async def test_a_deleted_database(tmp_path: Path) -> None:
    """Another one is made, the calls go on, and that rows were lost is logged as an error, once."""
    file = tmp_path / "turnout.db"
    url = f"sqlite:///{file}"
    with listening() as log:
        async with load(url, tmp_path) as calls:
            await calls.until(lambda: calls.caught_up)
            for name in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
                name.unlink()
            await calls.until(lambda: file.exists() and calls.caught_up)
    lost = [line for line in log.lines if '"database_lost"' in line]
    assert len(lost) == 1
    assert '"level": "error"' in lost[0]
    assert str(file) in lost[0]
    assert 0 < settled(url, tmp_path) < calls.made
    memory = identity.recall(Spool(tmp_path / "spool" / address.read(url, tmp_path).spool_id).folder)
    assert memory is not None
    assert len(memory.lost) == 1


async def test_postgresql(tmp_path: Path) -> None:
    """A server that is killed and started again: no call fails or waits, and each is counted in the end."""
    with running() as server:
        async with load(server.url, tmp_path) as calls:
            await calls.until(lambda: calls.caught_up)
            await asyncio.to_thread(server.stop)
            await calls.rest(TROUBLE)
            await calls.until(lambda: calls.failing)
            await asyncio.to_thread(server.start)
        assert settled(server.url, tmp_path) == calls.made
