"""The ledger: journal into tables, whatever happens to the store or to the process."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from sqlalchemy import func, select, text

from tests.storage.calls import NOON, attempt, many
from tests.storage.test_stores import everything, rows
from turnout import logs
from turnout.clock import Clock
from turnout.storage import access, address, intake, tables
from turnout.storage.frames import framed
from turnout.storage.intake import REFUSED, Intake, behind
from turnout.storage.journal import Journal
from turnout.storage.ledger import Ledger
from turnout.storage.rebuild import rebuild
from turnout.storage.segments import Spool, segment_name
from turnout.storage.store import Store
from turnout.types import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from turnout.storage.address import Address

STATES = {"settled": 0, "expired_estimated": 0, "reserved": 0}


class Record:
    """A journal and its ledger on one home folder."""

    def __init__(self, home: Path, where: Address | None = None, **journal: Any) -> None:
        self.where = where or address.read(None, home)
        self.folder = home / "spool" / self.where.spool_id
        clock = Clock()
        self.journal = Journal(self.folder, clock, durability="store", **journal)
        self.spool = Spool(self.folder)
        self.ledger = Ledger(self.journal, self.spool, lambda: Store(self.where, lock_timeout=0.1), clock)
        self.journal.wake = self.ledger.wake

    def append(self, *payloads: bytes) -> None:
        """Into the journal, and its file."""
        for payload in payloads:
            self.journal.append(msgspec.json.decode(payload, type=Event))
        assert self.journal.settled(10)

    async def committed(self) -> bool:
        """Wait until all of it is in the tables; false when that did not come about in time."""
        before = self.journal.unconfirmed
        for _ in range(5):
            await self.journal.durable()
            if self.journal.unconfirmed == before:
                return True
            before = self.journal.unconfirmed
        return False

    def close(self) -> None:
        """As a process does that ends."""
        self.ledger.close()
        self.journal.close()


@pytest.fixture
def make_record(tmp_path: Path) -> Iterator[Callable[..., Record]]:
    """Make a record on this test's home folder; closed when the test ends."""
    made: list[Record] = []

    def make(where: Address | None = None, **journal: Any) -> Record:
        made.append(Record(tmp_path, where, **journal))
        return made[-1]

    yield make
    for record in made:
        record.close()


@pytest.fixture
def make_worker(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that journals calls on this test's home folder."""
    started: list[subprocess.Popen[str]] = []

    def start(calls: int, seed: int, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.storage.worker", str(tmp_path), str(calls), str(seed), *more]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        started.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)  # noqa: S603
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def json_event() -> bytes:
    """An event that is no call's."""
    return msgspec.json.encode(Event(id=Clock().new_id(), trace="t", kind=Kind.CONTEXT_BUILD, at=NOON))


class Heard(logging.Handler):
    """Knows which events have been logged, and waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.events = {name: threading.Event() for name in ("store_failing", "store_works_again")}

    def emit(self, record: logging.LogRecord) -> None:
        """Note it."""
        if record.getMessage() in self.events:
            self.events[record.getMessage()].set()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Heard]:
    """What the library logs during a test."""
    handler = Heard()
    with caplog.at_level(logging.INFO, logger="turnout"):
        logs.LOGGER.addHandler(handler)
        yield handler
        logs.LOGGER.removeHandler(handler)


@contextmanager
def opened(where: Address) -> Iterator[Store]:
    """A store to look with."""
    store = Store(where)
    yield store
    store.close()


def states(store: Store) -> dict[str, int]:
    """How many attempts are in each state."""
    column = tables.cost_records.c.state
    with store.read() as connection:
        found = connection.execute(select(column, func.count()).group_by(column))
        return STATES | {row[0]: row[1] for row in found}


def heard(process: subprocess.Popen[str], lines: int | None = None) -> list[str]:
    """What a worker says, up to so many lines or to its `done`."""
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        if line == "done\n":
            break
        said.append(line.strip())
        if len(said) == lines:
            break
    return said


async def test_journal_to_tables(make_record: Callable[..., Record]) -> None:
    """What is appended is in the tables when `durable` of a journal that waits for the store returns."""
    record = make_record()
    record.ledger.start()
    for pair in many(40, seed=1):
        record.append(*pair)
    assert await record.committed()
    with opened(record.where) as store:
        assert states(store)["settled"] == len(list(many(40, seed=1)))
        assert behind(store, record.spool) == []
    status = record.ledger.status()
    assert (status.behind_bytes, status.lag_seconds, status.failing_seconds, status.alive) == (
        0,
        0.0,
        None,
        True,
    )
    assert status.posted == 2 * len(list(many(40, seed=1)))


async def test_an_open_call_is_reserved_then_settled(make_record: Callable[..., Record]) -> None:
    """A call under way has a row that counts nothing; its end settles that row."""
    record = make_record()
    record.ledger.start()
    start, end = attempt()
    record.append(start)
    assert await record.committed()
    with opened(record.where) as store:
        assert states(store)["reserved"] == 1
        record.append(end)
        assert await record.committed()
        assert states(store) == STATES | {"settled": 1}


async def test_finished_segments_go_after_their_commit(make_record: Callable[..., Record]) -> None:
    """Rotated segments stay while the store is away and are gone once it has them; nothing is lost."""
    record = make_record(rotate_bytes=4_000)
    written = threading.Event()
    record.journal.wake = written.set
    first = record.journal.current
    for pair in many(60, seed=2):
        record.append(*pair)
    while record.journal.current == first:
        assert written.wait(5)
        written.clear()
        record.append(json_event())
    assert first in record.spool.mine(record.journal.owner)
    record.ledger.start()
    assert await record.committed()
    assert record.ledger.close()
    assert record.spool.mine(record.journal.owner) == [record.journal.current]
    assert len(record.ledger._positions) == 1
    with opened(record.where) as store:
        assert states(store)["settled"] == len(list(many(60, seed=2)))


async def test_what_it_counts(make_record: Callable[..., Record]) -> None:
    """Events posted, events that cannot be read, and dead neighbours that were taken over are in the status."""
    record = make_record()
    neighbour = record.spool.enter("neighbour")
    (record.folder / segment_name("neighbour", 1)).write_bytes(
        framed(msgspec.json.decode(attempt(id="n1")[0], type=Event))
    )
    neighbour.release()
    record.append(*attempt(id="a1"), json_event())
    record.journal.append(Event(id="odd", trace="t", kind=Kind.LLM_CALL_START, at=NOON))
    status = record.ledger.status()
    assert (status.alive, status.posted, status.refused, status.adopted) == (False, 0, 0, 0)
    assert status.behind_bytes == sum(path.stat().st_size for path in record.spool.mine(record.journal.owner))
    record.ledger.start()
    assert record.ledger._thread.daemon
    assert await record.committed()
    assert record.ledger.close()
    status = record.ledger.status()
    assert (status.posted, status.refused, status.adopted, status.behind_bytes) == (5, 1, 1, 0)
    with opened(record.where) as store:
        assert states(store) == STATES | {"settled": 1, "expired_estimated": 1}


def test_a_ledger_that_never_began(make_record: Callable[..., Record]) -> None:
    """It can be closed, and has nothing left to do."""
    assert make_record().ledger.close()


def test_retries_become_rarer(make_record: Callable[..., Record]) -> None:
    """A store that fails is not hammered: it is tried again after a quarter, then after half a second."""
    record = make_record()
    tried: list[float] = []
    enough = threading.Event()

    def fail() -> Store:
        tried.append(time.monotonic())
        if len(tried) == 3:
            enough.set()
        raise OSError("it is away")

    record.ledger._open_store = fail
    record.ledger.start()
    for _ in range(3):
        record.ledger.wake()
    assert enough.wait(10)
    assert tried[1] - tried[0] >= 0.24
    assert tried[2] - tried[1] >= 0.49
    assert not record.ledger.close(0.0)
    assert "it is away" in str(record.ledger.status().last_error)


def test_closing_posts_what_is_left(make_record: Callable[..., Record]) -> None:
    """A process that ends cleanly leaves nothing in the spool and no row among the owners."""
    record = make_record()
    record.ledger.start()
    for pair in many(30, seed=3):
        record.append(*pair)
    record.close()
    assert list(record.folder.iterdir()) == []
    with opened(record.where) as store:
        assert states(store)["settled"] == len(list(many(30, seed=3)))
        assert rows(store, "owners") == []


async def test_the_ledger_sweeps(make_record: Callable[..., Record]) -> None:
    """Rows beyond their term go while the process runs, and what is new stays."""
    record = make_record()
    record.append(*attempt(id="old", call="old", at=NOON - 500 * 86_400_000_000))
    record.append(*attempt(id="new", call="new", at=Clock().now()))
    record.ledger.start()
    assert await record.committed()
    assert record.ledger.close()
    with opened(record.where) as store:
        assert [row[0] for row in rows(store, "cost_records")] == ["new"]
        assert {row[0] for row in rows(store, "events")} == {"new"}


def lock(where: Address) -> Callable[[], None]:
    """Another process's lock on the store; returns what lets go of it."""
    assert where.file is not None
    where.file.parent.mkdir()
    fd = os.open(f"{where.file}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return lambda: os.close(fd)


def in_the_way(where: Address) -> Callable[[], None]:
    """A file where the store's folder should be."""
    assert where.file is not None
    where.file.parent.write_text("")
    return where.file.parent.unlink


def no_database(where: Address) -> Callable[[], None]:
    """A file that is no database."""
    assert where.file is not None
    where.file.parent.mkdir()
    where.file.write_bytes(b"what is this?" * 1_000)
    return where.file.unlink


def newer(where: Address) -> Callable[[], None]:
    """A schema of a later turnout."""
    with opened(where) as store:
        store.open()

    def set_to(revision: str) -> None:
        connection = sqlite3.connect(str(where.file))
        with connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.close()

    set_to("9999")
    return lambda: set_to(tables.REVISION)


def exclusive(where: Address) -> Callable[[], None]:
    """A tool that locks the database itself, as a shell left in a transaction does."""
    with opened(where) as store:
        store.open()
    connection = sqlite3.connect(str(where.file), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection.close


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (lock, "another process has held"),
        (in_the_way, "FileExistsError"),
        (no_database, "file is not a database"),
        (newer, "has schema 9999 of a later turnout"),
        (exclusive, "database is locked"),
    ],
)
async def test_a_store_in_trouble(
    make_record: Callable[..., Record],
    tmp_path: Path,
    logged: Heard,
    trouble: Callable[[Address], Callable[[], None]],
    says: str,
) -> None:
    """Whatever is wrong with the store, appending goes on, the status says so, and the ledger catches up afterwards."""
    where = address.read(f"sqlite:///{tmp_path}/store/turnout.db", tmp_path)
    end_of_trouble = trouble(where)
    record = make_record(where)
    for pair in many(10, seed=4):
        record.append(*pair)
    record.ledger.start()
    assert logged.events["store_failing"].wait(15)
    status = record.ledger.status()
    assert says in str(status.last_error)
    assert status.behind_bytes > 0
    assert status.failing_seconds is not None
    assert 0 <= status.failing_seconds < 60
    assert 0 < status.lag_seconds < 60
    end_of_trouble()
    assert await record.committed()
    assert logged.events["store_works_again"].wait(15)
    status = record.ledger.status()
    assert (status.behind_bytes, status.failing_seconds) == (0, None)
    with opened(where) as store:
        assert states(store)["settled"] == len(list(many(10, seed=4)))


async def test_a_store_that_is_deleted(make_record: Callable[..., Record]) -> None:
    """A database file that disappears is made and migrated anew, and what comes then is in it."""
    record = make_record()
    record.ledger.start()
    record.append(*attempt(id="a1"))
    assert await record.committed()
    assert record.where.file is not None
    for suffix in ("", "-wal", "-shm"):
        record.where.file.with_name(record.where.file.name + suffix).unlink()
    record.append(*attempt(id="a2"))
    assert await record.committed()
    with opened(record.where) as store:
        assert [row[0] for row in rows(store, "cost_records")] == ["a2"]


async def test_a_server_that_goes_away(
    make_record: Callable[..., Record], new_database: Callable[[], str], tmp_path: Path
) -> None:
    """PostgreSQL cuts every connection: the ledger opens new ones and goes on, nothing lost or doubled."""
    where = address.read(new_database(), tmp_path)
    record = make_record(where)
    record.ledger.start()
    for number, pair in enumerate(many(60, seed=6)):
        record.append(*pair)
        if number % 20 == 19:
            assert await record.committed()
            with opened(where) as store, store.read() as connection:
                connection.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                         " AND datname = current_database()")
                )  # fmt: skip
    assert await record.committed()
    with opened(where) as store:
        assert states(store)["settled"] == len(list(many(60, seed=6)))


async def test_an_event_no_database_takes(
    make_record: Callable[..., Record], new_database: Callable[[], str], tmp_path: Path
) -> None:
    """An event that PostgreSQL refuses is kept in a file and counted; those around it are posted."""
    rng = random.Random(7)  # noqa: S311
    endless = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
    record = make_record(address.read(new_database(), tmp_path))
    for number in range(30):
        record.append(
            *attempt(id=f"a{number:02}", call=f"c{number}", session=endless if number == 7 else "s1")
        )
    record.ledger.start()
    assert await record.committed()
    assert record.ledger.status().refused == 2
    kept = (record.folder / REFUSED).read_bytes().splitlines()
    assert {msgspec.json.decode(line, type=Event).span for line in kept} == {"a07"}
    with opened(record.where) as store:
        assert states(store)["settled"] == 29


def test_dead_and_living(make_worker: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """The living are left alone and told as behind; the dead are taken over, their open calls at full hold."""
    worker = make_worker(30, 8)
    said = heard(worker)
    where = address.read(None, tmp_path)
    spool = Spool(tmp_path / "spool" / where.spool_id)
    with opened(where) as store:
        (missing,) = access.catch_up(store, spool, Clock(), within=0.1)
        assert 0 < missing.bytes <= spool.size()
        assert states(store) == STATES
        worker.kill()
        worker.communicate()
        assert access.catch_up(store, spool, Clock()) == []
        attempts = list(many(30, seed=8))
        assert states(store) == {
            "settled": len(said), "expired_estimated": len(attempts) - len(said), "reserved": 0
        }  # fmt: skip
        costs = tables.cost_records.c
        with store.read() as connection:
            expired = connection.execute(
                select(costs.cost_nano, costs.hold_nano).where(costs.state == "expired_estimated")
            ).fetchall()
        assert all(row.cost_nano == row.hold_nano == 5_000 for row in expired)
    assert list(spool.folder.iterdir()) == []


@pytest.mark.parametrize("seed", range(4))
def test_kills_at_any_moment(
    make_worker: Callable[..., subprocess.Popen[str]], tmp_path: Path, seed: int
) -> None:
    """Kill processes anywhere: each acknowledged end is one settled row, and every sum is its rows' sum."""
    rng = random.Random(seed)  # noqa: S311
    acknowledged: set[str] = set()
    workers = [make_worker(400, 10 * seed + number, "now") for number in range(2)]
    for worker in workers:
        acknowledged.update(heard(worker, rng.randrange(5, 300)))
        worker.send_signal(signal.SIGKILL)
        assert worker.stdout is not None
        rest = worker.stdout.read()
        worker.communicate()
        acknowledged.update(line for line in rest.splitlines() if len(line) == 36)
    where = address.read(None, tmp_path)
    spool = Spool(tmp_path / "spool" / where.spool_id)
    with opened(where) as store:
        assert access.catch_up(store, spool, Clock()) == []
        settled = {row[0] for row in rows(store, "cost_records") if row[5] == "settled"}
        assert acknowledged - settled == set()
        assert len(settled) <= len(acknowledged) + len(workers)
        assert states(store)["reserved"] == 0
        assert rows(store, "owners") == []
        before = everything(store)
        rebuild(store)
        assert everything(store) == before


def test_waiting_for_the_living(make_worker: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """Who asks for all that was journalled waits until the process that did it has posted it."""
    worker = make_worker(30, 23, "late")
    said = heard(worker)
    looked = threading.Event()

    class Noting(Clock):
        """Tells when the deadline is looked at, which is after a look at the tables."""

        calls = 0

        def monotonic(self) -> float:
            self.calls += 1
            if self.calls == 2:
                looked.set()
            return super().monotonic()

    def begin() -> None:
        looked.wait()
        assert worker.stdin is not None
        worker.stdin.write("begin\n")
        worker.stdin.flush()

    beginner = threading.Thread(target=begin)
    beginner.start()
    where = address.read(None, tmp_path)
    with opened(where) as store:
        missing = access.catch_up(store, Spool(tmp_path / "spool" / where.spool_id), Noting(), within=30)
        looked.set()
        beginner.join()
        assert missing == []
        assert states(store)["settled"] == len(said)


def test_two_adopters(make_worker: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """Many who adopt at once post a dead process's calls once."""
    worker = make_worker(100, 20)
    heard(worker)
    worker.kill()
    worker.communicate()
    where = address.read(None, tmp_path)
    spool = Spool(tmp_path / "spool" / where.spool_id)
    adopted: list[int] = []

    def adopt() -> None:
        with opened(where) as store:
            adopted.append(Intake(store, spool, "adopter", Clock()).adopt())

    threads = [threading.Thread(target=adopt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(adopted) == [0, 0, 0, 0, 0, 1]
    with opened(where) as store:
        assert sum(states(store).values()) == len(list(many(100, seed=20)))


def test_piece_by_piece(
    make_worker: Callable[..., subprocess.Popen[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment larger than one piece, with records larger than one, is read to its end."""
    monkeypatch.setattr(intake, "PIECE_BYTES", 700)
    worker = make_worker(40, 22)
    said = heard(worker)
    worker.kill()
    worker.communicate()
    where = address.read(None, tmp_path)
    spool = Spool(tmp_path / "spool" / where.spool_id)
    assert max(path.stat().st_size for path in spool.folder.glob("*.jnl")) > 7_000
    with opened(where) as store:
        Intake(store, spool, "adopter", Clock()).adopt()
        assert states(store)["settled"] == len(said)


def test_a_damaged_segment(make_worker: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """Of a segment with a flipped byte the good records are posted, and the file is kept for a person."""
    worker = make_worker(10, 21)
    said = heard(worker)
    worker.kill()
    worker.communicate()
    where = address.read(None, tmp_path)
    spool = Spool(tmp_path / "spool" / where.spool_id)
    (segment,) = spool.folder.glob("*.jnl")
    data = bytearray(segment.read_bytes())
    data[data.index(b"\n") + 30] ^= 1
    segment.write_bytes(data)
    with opened(where) as store:
        Intake(store, spool, "adopter", Clock()).adopt()
        assert states(store)["settled"] == len(said) - 1
    assert [path.name for path in spool.folder.iterdir()] == [f"{segment.name}.damaged"]
