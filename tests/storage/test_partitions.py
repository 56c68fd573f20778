"""PostgreSQL's log by days: made in time by whoever needs them, dropped whole, and nobody waits long for either."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, text, update
from sqlalchemy.exc import DBAPIError

from tests.storage.calls import NOON, attempt, many
from tests.storage.conftest import MARK
from tests.storage.test_stores import everything, rows
from turnout.storage import address, horizon, partitions, retention, tables
from turnout.storage.batch import DAY_US
from turnout.storage.keep import Keep
from turnout.storage.rebuild import rebuild
from turnout.storage.reports import Reports
from turnout.storage.store import Store
from turnout.types import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from tests.storage.conftest import MakeStore

KEEP = Keep(events=10)
TODAY = NOON - NOON % DAY_US
AT_ONCE = """
import sys
from pathlib import Path
import msgspec
from tests.storage.calls import NOON, many
from tests.storage.conftest import MARK
from turnout.storage import address
from turnout.storage.batch import DAY_US
from turnout.storage.store import Store
number = int(sys.argv[2])
store = Store(address.read(sys.argv[1], Path("/")))
pairs = list(many(60, seed=number, spread=12 * DAY_US))
if number % 2:
    pairs.reverse()
sys.stdin.read()
mark = msgspec.structs.replace(MARK, owner=f"owner-{number}", at=NOON + 12 * DAY_US)
for begin in range(0, len(pairs), 4):
    store.post([payload for pair in pairs[begin : begin + 4] for payload in pair], mark)
store.close()
"""


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    """An empty store on PostgreSQL."""
    return make_store("postgresql")


def days(store: Store) -> list[int]:
    """Which days have a partition, counted from the first."""
    with store.read() as connection:
        return sorted((day - TODAY) // DAY_US for day in partitions.days_of(connection))


def strays(store: Store) -> int:
    """How many events lie in no day."""
    with store.read() as connection:
        return partitions.strays(connection)


def happened(store: Store, at: int, *, id: str = "e", trace: str = "t", now: int = NOON) -> None:  # noqa: A002
    """Post one event."""
    event = Event(id=id, trace=trace, kind=Kind.CONTEXT_BUILD, at=at)
    store.post([msgspec.json.encode(event)], msgspec.structs.replace(MARK, at=now))


def refusals(caplog: pytest.LogCaptureFixture) -> list[dict[str, str]]:
    """What was said of days that the database did not make or drop."""
    return [vars(record)["facts"] for record in caplog.records if record.message == "partition_refused"]


def wait_for_waiters(count: int, connection: Connection, *threads: threading.Thread) -> None:
    """Until so many wait for a lock."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while connection.execute(waiting).scalar() != count:
        assert all(thread.is_alive() for thread in threads)


@contextmanager
def held(store: Store, statement: str) -> Iterator[None]:
    """Another connection within a transaction that has run a statement."""
    with psycopg.connect(store.address.url) as other:
        other.execute(statement.encode())
        yield


@given(st.integers(*(bound // DAY_US for bound in partitions.SANE)))
def test_a_name_is_its_day(day: int) -> None:
    """A partition's name says which day it holds, and no other table's does."""
    name = partitions._name(day * DAY_US)
    match = partitions._NAME.fullmatch(name)
    assert match is not None
    assert partitions._day(match[1]) == day * DAY_US
    assert partitions._NAME.fullmatch("events_default") is None


@pytest.mark.parametrize(
    ("at", "has_a_day"),
    [
        (0, False),
        (partitions.SANE[0] - 1, False),
        (partitions.SANE[0], True),
        (NOON - 400 * DAY_US, True),
        (TODAY - 1, True),
        (TODAY + 8 * DAY_US - 1, True),
        (TODAY + 8 * DAY_US, False),
        (253_402_300_799_000_000, False),
    ],
)
def test_which_days_are_made(store: Store, at: int, *, has_a_day: bool) -> None:
    """A batch gets the days of its events, up to a week ahead; what an absurd clock says is kept all the same."""
    happened(store, at)
    assert (days(store), strays(store)) == ([(at - at % DAY_US - TODAY) // DAY_US] * has_a_day, 1 - has_a_day)
    assert [event.at for event in Reports(store).trace("t")] == [at]
    happened(store, at)
    assert len(rows(store, "events")) == 1


def test_a_stray_is_moved_once_its_day_comes(store: Store) -> None:
    """What came before its day could be made is moved into it by a sweep, and stays one row when it is repeated."""
    at = NOON + 20 * DAY_US
    happened(store, at)
    assert strays(store) == 1
    retention.sweep(store, KEEP, NOON + 15 * DAY_US)
    assert (strays(store), days(store)) == (0, [*range(15, 23)])
    happened(store, at, now=NOON + 15 * DAY_US)
    assert [row[2] for row in rows(store, "events")] == [at]


def test_everybody_makes_days_at_once(new_database: Callable[[], str], tmp_path: Path) -> None:
    """Processes whose batches need the same new days at once, in opposite orders, lose nothing and stray nothing."""
    url = new_database()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", AT_ONCE, url, str(number)], stdin=subprocess.PIPE, env=env
        )
        for number in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 3
    store = Store(address.read(url, tmp_path))
    attempts = sum(len(list(many(60, seed=number))) for number in range(3))
    assert len(rows(store, "events")) == 2 * attempts
    assert len(rows(store, "cost_records")) == attempts
    assert (strays(store), days(store)) == (0, [*range(13)])
    before = everything(store)
    rebuild(store)
    assert everything(store) == before
    store.close()


def test_a_day_that_another_has_just_made(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two that wait to make the same days: the second finds them made, and goes on to those that are its own."""
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "30s")
    happened(store, NOON)
    other = Store(store.address)
    other.open()

    def post(one: Store, number: int) -> None:
        ats = (NOON + DAY_US, NOON + (2 + number) * DAY_US)
        happen = [Event(id=f"{number}{at}", trace="t", kind=Kind.CONTEXT_BUILD, at=at) for at in ats]
        one.post(map(msgspec.json.encode, happen), msgspec.structs.replace(MARK, owner=f"owner-{number}"))

    threads = [threading.Thread(target=post, args=(one, number)) for number, one in enumerate((store, other))]
    with store.write() as connection:
        connection.exec_driver_sql("LOCK TABLE events IN ROW EXCLUSIVE MODE")
        for thread in threads:
            thread.start()
        wait_for_waiters(2, connection, *threads)
    for thread in threads:
        thread.join()
    other.close()
    assert (days(store), strays(store), refusals(caplog)) == ([0, 1, 2, 3], 0, [])


def test_where_the_log_begins_is_said_with_the_drop(store: Store) -> None:
    """A process that ends between the drop and the sweep of heads leaves no log that claims more than it has."""
    happened(store, NOON)
    begins = TODAY + 3 * DAY_US
    assert store.backend.roll_log(NOON + 10 * DAY_US, begins + 5) == begins
    with store.read() as connection:
        assert retention.since(connection, "events") == TODAY + DAY_US
    assert rows(store, "events") == []


def test_days_are_dropped_whole(store: Store) -> None:
    """A sweep drops the days before the term and makes the week ahead; what had already gone arrives late in vain."""
    for day in range(14):
        happened(store, NOON + day * DAY_US, id=f"e{day}", trace=f"t{day}", now=NOON + 13 * DAY_US)
    now = NOON + 13 * DAY_US
    assert not retention.sweep(store, KEEP, now)
    assert days(store) == [*range(3, 21)]
    assert [row[1] for row in rows(store, "events")] == [f"e{day}" for day in (10, 11, 12, 13, *range(3, 10))]
    with store.read() as connection:
        assert retention.since(connection, "events") == TODAY + 3 * DAY_US
    happened(store, NOON - DAY_US, id="late", trace="late", now=now)
    assert (strays(store), len(rows(store, "traces"))) == (1, 12)
    retention.sweep(store, KEEP, now)
    assert (strays(store), len(rows(store, "traces")), days(store)) == (0, 11, [*range(3, 21)])


def test_where_the_log_begins_never_goes_back(store: Store) -> None:
    """A longer term does not bring back what a shorter one has dropped, and does not claim so."""
    for day in (0, 5):
        happened(store, NOON + day * DAY_US, id=f"e{day}", trace=f"t{day}")
    retention.sweep(store, Keep(events=1), NOON + 3 * DAY_US)
    happened(store, NOON - 20 * DAY_US, id="late", trace="late")
    retention.sweep(store, Keep(events=10), NOON + 3 * DAY_US + 1)
    with store.read() as connection:
        assert retention.since(connection, "events") == TODAY + 2 * DAY_US
    assert [row[1] for row in rows(store, "events")] == ["e5"]


def test_a_long_read_keeps_its_day(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While somebody reads the log its old days stay, heads and all, and posting goes on; the next sweep drops them.

    One day to make and one to drop are tried, not each.
    """
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "50ms")
    for day in (0, 1, 20):
        happened(store, NOON + day * DAY_US, id=f"e{day}", trace=f"t{day}", now=NOON + 20 * DAY_US)
    now = NOON + 20 * DAY_US
    with held(store, "SELECT count(*) FROM events"):
        assert not retention.sweep(store, KEEP, now)
        happened(store, now, id="meanwhile", now=now)
        assert (len(rows(store, "events")), len(rows(store, "traces"))) == (4, 4)
        with store.read() as connection:
            assert retention.since(connection, "events") == 0
    tried = [partitions._name(TODAY + day * DAY_US) for day in (21, 0)]
    assert [told["partition"] for told in refusals(caplog)] == tried
    assert {told["why"] for told in refusals(caplog)} == {"canceling statement due to lock timeout"}
    retention.sweep(store, KEEP, now)
    assert len(rows(store, "events")) == 4
    retention.sweep(store, KEEP, now + 1)
    assert sorted(row[1] for row in rows(store, "events")) == ["e20", "meanwhile"]


def test_a_long_read_holds_up_no_batch(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A day that cannot be made because somebody reads is not waited for again: its events are kept, and moved later.

    Those that are too old by then go without having had a day.
    """
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "50ms")
    happened(store, NOON)
    with held(store, "SELECT count(*) FROM events"):
        for number in range(3):
            happened(store, NOON + DAY_US, id=f"e{number}")
        assert (days(store), strays(store)) == ([0], 3)
        assert [told["partition"] for told in refusals(caplog)] == [partitions._name(TODAY + DAY_US)]
        happened(store, NOON - 20 * DAY_US, id="old", trace="old")
        assert strays(store) == 4
    retention.sweep(store, KEEP, NOON + 3 * DAY_US)
    assert (days(store), strays(store)) == ([0, 1, *range(3, 11)], 0)
    assert {row[0] for row in rows(store, "events")} == {"t"}


def test_no_day_goes_while_the_tables_are_rebuilt(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild that has begun finds the log as long as it was told: a sweep drops no day of it meanwhile."""
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "50ms")
    store.post(attempt(), MARK)
    before = everything(store)
    thread = threading.Thread(target=rebuild, args=(store,))
    with store.write() as connection:
        connection.execute(update(tables.usage_days).values(calls=9))
        thread.start()
        wait_for_waiters(1, connection, thread)
        assert store.backend.roll_log(NOON + 9 * DAY_US, NOON + 2 * DAY_US) == TODAY
    thread.join()
    assert everything(store) == before


def test_a_trace_that_is_heard_of_again_just_then(store: Store) -> None:
    """A trace that a batch brings back to life while a sweep is about to take its head keeps it."""
    happened(store, NOON)
    now = NOON + 30 * DAY_US
    thread = threading.Thread(target=retention.sweep, args=(store, KEEP, now))
    with store.write() as connection:
        connection.execute(update(tables.traces).values(ended_at=now))
        thread.start()
        wait_for_waiters(1, connection, thread)
    thread.join()
    assert [row[4] for row in rows(store, "traces")] == [now]


def test_a_batch_under_way_is_waited_for(store: Store) -> None:
    """A day is made when no row can be on its way past it: a writer that has begun ends before."""
    happened(store, NOON)
    made = threading.Event()

    def make() -> None:
        happened(store, NOON + DAY_US, id="other")
        made.set()

    thread = threading.Thread(target=make)
    with store.write() as connection:
        row = {"trace_id": "t", "id": "e2", "at": NOON + DAY_US, "kind": "CONTEXT_BUILD", "facts": "{}"}
        connection.execute(insert(tables.events).values(row))
        thread.start()
        wait_for_waiters(1, connection, thread)
        assert not made.is_set()
    thread.join()
    assert (strays(store), len(rows(store, "events"))) == (0, 3)


def test_only_the_days_of_a_trace_are_read(store: Store) -> None:
    """Looking up a trace, a call or a user's calls touches no day but theirs, even one that cannot be read at all."""
    now = NOON + 6 * DAY_US
    for day in range(6):
        store.post(
            attempt(id=f"a{day}", call=f"c{day}", at=NOON + day * DAY_US, user=f"user-{day}"),
            msgspec.structs.replace(MARK, at=now),
        )
    reports = Reports(store)
    day_3 = partitions._name(TODAY + 3 * DAY_US)
    others = ", ".join(partitions._name(TODAY + day * DAY_US) for day in days(store) if day != 3)
    with held(store, f"LOCK TABLE {others}, events_default IN ACCESS EXCLUSIVE MODE"):
        assert [event.id for event in reports.trace("c3")] == ["a3s", "a3e"]
        assert [row.id for row in reports.call("c3")] == ["a3"]
        assert [row.id for row in reports.latest_calls(user="user-3")] == ["a3"]
        assert reports.trace("c9") == []
    with store.read() as connection:
        plan = connection.execute(
            text("EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM harness_traces WHERE trace_id = 'c3'")
        ).scalars()
        scans = [line for line in plan if " on events" in line and "never executed" not in line]
    assert len(scans) == 1
    assert f" on {day_3} " in scans[0]


def test_a_database_that_was_made_anew(store: Store) -> None:
    """A database whose schema vanished gets its days again with the tables."""
    happened(store, NOON)
    with psycopg.connect(store.address.url, autocommit=True) as other:
        other.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    with pytest.raises(DBAPIError):
        happened(store, NOON)
    happened(store, NOON)
    assert (days(store), strays(store)) == ([0], 0)


def test_a_table_in_the_way_of_a_day(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A day that cannot be made for a reason of its own is told of, and those after it are made."""
    happened(store, NOON)
    name = partitions._name(TODAY + DAY_US)
    with psycopg.connect(store.address.url, autocommit=True) as other:
        other.execute(f"CREATE TABLE {name} ()".encode())
    retention.sweep(store, KEEP, NOON)
    assert days(store) == [0, *range(2, 8)]
    assert refusals(caplog) == [{"partition": name, "why": f'relation "{name}" already exists'}]


def test_a_role_that_may_make_no_tables(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Where the role may only write rows, they are kept in the default partition; the log says why, once a try."""
    store.open()
    role = f"r{os.urandom(8).hex()}"
    with psycopg.connect(store.address.url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN".encode())
        owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}".encode())
    limited = Store(
        msgspec.structs.replace(store.address, url=store.address.url.replace("turnout@", f"{role}@"))
    )
    happened(limited, NOON)
    limited.backend.roll_log(NOON, NOON - DAY_US)
    limited.close()
    assert (days(store), strays(store)) == ([], 1)
    told = {"partition": partitions._name(TODAY), "why": "permission denied for schema public"}
    assert refusals(caplog) == [told, told]
    with store.write() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_of_many_at_once_one_advances(store: Store) -> None:
    """Two transactions that note the same step at once: one waits for the other, and then does not."""
    store.open()
    took = []

    def claim() -> None:
        with store.write() as connection:
            took.append(horizon.advance(connection, "swept_at", NOON, 5))

    thread = threading.Thread(target=claim)
    with store.write() as connection:
        took.append(horizon.advance(connection, "swept_at", NOON, 5))
        thread.start()
        wait_for_waiters(1, connection, thread)
    thread.join()
    assert took == [True, False]
