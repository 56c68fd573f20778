"""The record under a whole client: every single fault of the disk and of the database, and kills on PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.pool import Pool

from tests.journeys.oracle import PROVE
from tests.journeys.record_books import WITHIN, check_sums, staged, worker
from tests.storage.journals import FaultyDisk, no_space
from tests.toxic import Toxic
from turnout.clock import Clock
from turnout.errors import BudgetUnavailable
from turnout.settings import load_settings
from turnout.storage import access, address, tables
from turnout.storage.intake import FAILURES, Intake
from turnout.storage.record import PACE, DiskRecord
from turnout.storage.segments import Spool
from turnout.storage.store import Store
from turnout.types import Event, Kind
from turnout.wiring import LLMClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from turnout.types import Attempt

PG_KILLS = 50 if PROVE else 3
EACH = 1 if PROVE else 3
"""`make prove` fails every single statement, `make test` every third."""
HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as it is when nothing is in it."""
    file = tmp_path_factory.mktemp("made") / "turnout.db"
    store = Store(address.read(f"sqlite:///{file}", file.parent))
    store.open()
    store.close()
    return file


class Scene:
    """Two servers, and clients over them with a data folder each."""

    def __init__(self, folder: Path, made: Path, first: Toxic, second: Toxic) -> None:
        self.first, self.second = first, second
        self._folder, self._made = folder, made

    def record(self, name: str, disk: FaultyDisk | None = None, **env: str) -> DiskRecord:
        """A record in a folder of that name, on a database that stands."""
        home = self._folder / name
        home.mkdir()
        shutil.copy(self._made, home / "turnout.db")
        urls = {"DEEPSEEK_BASE_URL": self.first.url, "OPENAI_BASE_URL": self.second.url}
        self.settings = load_settings(environ={"TURNOUT_HOME": str(home), **urls, **env}, folder=home)
        return DiskRecord(self.settings, address.read(None, home), Clock(), disk=disk, rotate_bytes=1_500)

    async def journey(self, record: DiskRecord) -> list[Attempt]:
        """A plain call, one that falls over, and a stream; every attempt that was told."""
        self.first.script("ok", "500", "ok")
        async with LLMClient(self.settings, record=record) as client:
            one = await client.call_with_fallback("dojo", HELLO)
            two = await client.call_with_fallback("dojo", HELLO)
            last = [delta async for delta in client.stream("dojo", HELLO)][-1].reply
            assert last is not None
            return [*one.attempts, *two.attempts, *last.attempts]

    def take_over(self) -> None:
        """What the client has left in its journal, by whoever comes next, and if that fails by who comes then."""
        where = address.read(None, self.settings.home)
        spool = Spool(access.spool_of(self.settings).folder)
        for _ in range(2):
            store = Store(where)
            with contextlib.suppress(*FAILURES):
                Intake(store, spool, "next", Clock()).adopt()
                store.close()

    def kept(self) -> dict[str, tuple[str, int | None]]:
        """State and cost of every row, once everything that was journalled is in the tables."""
        store = Store(address.read(None, self.settings.home))
        spool = Spool(access.spool_of(self.settings).folder)
        assert access.catch_up(store, spool, Clock()) == []
        check_sums(store)
        costs = tables.cost_records
        with store.read() as connection:
            rows = connection.execute(select(costs.c.id, costs.c.state, costs.c.cost_nano)).fetchall()
        store.close()
        return {row.id: (row.state, row.cost_nano) for row in rows}


@asynccontextmanager
async def scene(folder: Path, made: Path) -> AsyncIterator[Scene]:
    """One, its servers stopped afterwards."""
    async with Toxic() as first, Toxic() as second:
        yield Scene(folder, made, first, second)


def told(attempts: list[Attempt]) -> dict[str, tuple[str, int | None]]:
    """What the tables must hold of them."""
    return {attempt.id: ("settled", attempt.cost_nano) for attempt in attempts}


@pytest.mark.parametrize("sort", ["write", "sync", "create", "folder"])
async def test_each_fault_of_the_disk(tmp_path: Path, made: Path, sort: str) -> None:
    """The n-th write, flush, or new segment fails, for every n: each call is answered, each attempt kept, once."""
    async with scene(tmp_path, made) as play:
        for nth in range(1 if sort in {"write", "sync"} else 2, 100):
            disk = FaultyDisk()

            def fault(name: str, number: int, nth: int = nth) -> None:
                if (name, number) == (sort, nth):
                    raise no_space()

            disk.fault = fault
            record = play.record(f"{nth}", disk, TURNOUT_DURABILITY="power")
            attempts = await play.journey(record)
            assert await asyncio.to_thread(play.kept) == told(attempts)
            if disk.count[sort] < nth:
                break
            assert len(attempts) == 4
    print(f"\neach of {nth - 1} operations `{sort}` failed once: 0 calls failed, 0 attempts lost")
    assert nth > 2


async def test_a_disk_that_stays_full(tmp_path: Path, made: Path) -> None:
    """From the n-th write on nothing is taken: calls are answered all the same, and what is not kept is counted."""
    async with scene(tmp_path, made) as play:
        for nth in range(1, 9):
            disk = FaultyDisk()

            def fault(name: str, number: int, nth: int = nth) -> None:
                if name == "write" and number >= nth:
                    raise no_space()

            disk.fault = fault
            record = play.record(f"{nth}", disk)
            attempts = await play.journey(record)
            kept = await asyncio.to_thread(play.kept)
            sound = told(attempts)
            assert kept.keys() <= sound.keys()
            assert all(kept[id_] == sound[id_] or kept[id_][0] == "expired_estimated" for id_ in kept)


async def test_refusing_when_nothing_can_be_kept(tmp_path: Path, made: Path) -> None:
    """With on_full = refuse a call that could not be recorded is not made: nobody asks a provider."""
    disk = FaultyDisk()

    def fault(name: str, _number: int) -> None:
        if name == "write":
            raise no_space()

    disk.fault = fault
    async with scene(tmp_path, made) as play:
        record = play.record("home", disk, TURNOUT_ON_FULL="refuse")
        async with LLMClient(play.settings, record=record) as client:
            await client.call_with_fallback("dojo", HELLO)
            asked = len(play.first.requests)
            with pytest.raises(BudgetUnavailable, match="could not be kept"):
                await client.call_with_fallback("dojo", HELLO)
            assert len(play.first.requests) == asked
            disk.fault = lambda _name, _number: None
        assert len(await asyncio.to_thread(play.kept)) == 1


class Faults:
    """Makes the n-th statement of all connections fail within SQLite, or reports a commit that worked as failed."""

    def __init__(self) -> None:
        self.statement = self.commit = 0
        """Which is to fail; 0: none."""
        self.statements = self.commits = 0
        self._failing = False

    def reset(self, statement: int = 0, commit: int = 0) -> None:
        """Count anew."""
        self.statement, self.commit = statement, commit
        self.statements = self.commits = 0

    def stop(self) -> tuple[int, int]:
        """No more faults; how many statements and commits there were."""
        self.statement = self.commit = 0
        return self.statements, self.commits

    def _connected(self, driver: Any, _record: object) -> None:
        if not isinstance(driver, sqlite3.Connection):
            return

        def begun(_text: str) -> None:
            self.statements += 1
            self._failing = self.statements == self.statement

        driver.set_trace_callback(begun)
        driver.set_progress_handler(lambda: self._failing, 1)

    def _commits(self, connection: Any) -> None:
        self.commits += 1
        if self.commits == self.commit:
            connection.connection.driver_connection.commit()
            raise sqlite3.OperationalError("disk I/O error")

    @contextmanager
    def listening(self) -> Iterator[Faults]:
        """For connections made meanwhile."""
        event.listen(Pool, "connect", self._connected)
        event.listen(Engine, "commit", self._commits)
        yield self
        event.remove(Pool, "connect", self._connected)
        event.remove(Engine, "commit", self._commits)


async def test_each_fault_of_the_database(tmp_path: Path, made: Path) -> None:
    """The n-th statement fails, for every n: each call is answered, each attempt kept, every sum right."""
    async with scene(tmp_path, made) as play:
        with Faults().listening() as faults:
            tried, nth, seen = 0, 1, 1
            while seen >= nth:
                faults.reset(statement=nth)
                attempts = await play.journey(play.record(f"{nth}"))
                await asyncio.to_thread(play.take_over)
                seen, _ = faults.stop()
                assert await asyncio.to_thread(play.kept) == told(attempts)
                tried, nth = tried + 1, nth + EACH
    print(
        f"\n{tried} of {nth} statements failed, each once: 0 calls failed, 0 attempts lost or counted twice"
    )
    assert tried > 2


async def test_each_commit_in_doubt(tmp_path: Path, made: Path) -> None:
    """The n-th commit is done and reported as failed, for every n: posted again, nothing counts twice."""
    async with scene(tmp_path, made) as play:
        with Faults().listening() as faults:
            nth = seen = 1
            while seen >= nth:
                faults.reset(commit=nth)
                attempts = await play.journey(play.record(f"{nth}"))
                await asyncio.to_thread(play.take_over)
                _, seen = faults.stop()
                assert await asyncio.to_thread(play.kept) == told(attempts)
                nth += 1
    print(f"\neach of {nth - 1} commits in doubt: 0 attempts lost or counted twice")
    assert nth > 3


@pytest.mark.parametrize("point", [None, "statement", "commit", "committed"])
def test_killed_on_postgresql(tmp_path: Path, new_database: Callable[[], str], point: str | None) -> None:
    """As on SQLite: told means settled, once; begun and never told is closed at full hold; nothing is invented."""
    with worker() as process, staged(tmp_path / "home", new_database(), process) as stage:
        order: list[dict[str, Any]] = [
            {} if point is None else {"point": point, "nth": nth} for nth in range(1, PG_KILLS + 1)
        ]
        slowest = max(stage.kill(f"k{number}", **given) for number, given in enumerate(order))
        for number, given in enumerate(order):
            stage.kill(f"l{number}", adopt=False, **given)
        slowest = max(slowest, stage.live("heir"))
        stage.compare()
        stage.report(f"PostgreSQL, killed at {point or 'random'}", slowest)
        check_sums(stage.store)
    assert slowest < WITHIN


@pytest.mark.parametrize(("durability", "pace"), [("process", PACE), ("power", PACE), ("store", 0.0)])
def test_lines_gather_unless_their_commit_is_waited_for(tmp_path: Path, durability: str, pace: float) -> None:
    """The ledger lets lines gather before it posts them, but not where each answer waits for its commit."""
    environ = {"TURNOUT_HOME": str(tmp_path), "TURNOUT_DURABILITY": durability}
    settings = load_settings(environ=environ, folder=tmp_path)
    kept = DiskRecord(settings, address.read(None, tmp_path), Clock())
    kept.append(Event(id="i", trace="t", kind=Kind.ERROR, at=1))
    assert kept._ledger is not None
    assert kept._ledger._pace == pace
    kept.close()
