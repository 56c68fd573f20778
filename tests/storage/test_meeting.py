"""Transactions that meet in PostgreSQL: batches, sweeps, rebuilds and openings lose nothing and wait in no circle."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from sqlalchemy import event, insert
from sqlalchemy.engine import Engine

from tests.storage.calls import NOON, attempt
from tests.storage.conftest import MARK
from tests.storage.test_hours import HOUR, TOTALS, named, told
from tests.storage.test_partitions import happened, wait_for_waiters
from tests.storage.test_stores import rows
from turnout.storage import hours, retention, rollup, schema, tables
from turnout.storage.batch import DAY_US
from turnout.storage.keep import Keep
from turnout.storage.posting import HOUR_US
from turnout.storage.rebuild import rebuild
from turnout.storage.store import Store
from turnout.types import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.storage.conftest import MakeStore

NOTHING = (0,) * len(TOTALS)


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    """An empty store on PostgreSQL."""
    return make_store("postgresql")


@pytest.fixture
def other(store: Store) -> Iterator[Store]:
    """The same database, as another process has it."""
    found = Store(store.address)
    found.open()
    yield found
    found.close()


@contextmanager
def just_after(statement: str, then: Callable[[], None]) -> Iterator[None]:
    """Do something once, right after the first statement that begins like this."""
    done: list[str] = []

    def after(_connection: object, _cursor: object, executed: str, *_rest: Any) -> None:
        if executed.startswith(statement) and not done:
            done.append(executed)
            then()

    event.listen(Engine, "after_cursor_execute", after)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", after)
    assert done


def latencies(store: Store) -> list[tuple[str, int, int]]:
    """Of each row of hours its writer, the answered attempts it counts, and those in its histogram."""
    found = rows(store, "rollup_hours")
    return [(row[4], row[6] - row[7], sum(rollup.counts(row[-1])[1])) for row in found]


def test_a_batch_into_an_hour_that_is_being_folded(store: Store, other: Store) -> None:
    """What a fold takes with it a batch that posts into that hour does not count again."""
    store.post(attempt(id="a1"), MARK)
    now = NOON + 5 * HOUR_US
    thread = threading.Thread(target=store.post, args=(attempt(id="a2", call="c2", seconds=20.0), MARK))
    with other.write() as connection:
        retention.fold(other.backend, connection, now)
        thread.start()
        wait_for_waiters(1, connection, thread)
    thread.join()
    assert latencies(store) == [("", 1, 1), (MARK.owner, 1, 1)]
    with other.write() as connection:
        retention.fold(other.backend, connection, now)
    assert latencies(store) == [("", 2, 2)]


def test_a_fold_locks_as_a_batch_does(store: Store, other: Store) -> None:
    """A fold that meets a batch in the middle of its hours waits for it, in whatever order the rows lie."""
    first, second = named("a"), named("b")
    with store.write() as connection:
        for series in (second, first):
            store.backend.merge(connection, tables.rollup_hours, [(*series, "w", *TOTALS, b"")])

    def fold() -> None:
        with other.write() as connection:
            retention.fold(other.backend, connection, HOUR + 5 * HOUR_US)

    thread = threading.Thread(target=fold)
    with store.write() as connection:
        for series in (first, second):
            changed = hours.changed_rows(connection, told(series), "w")
            store.backend.merge(connection, tables.rollup_hours, changed)
            if series is first:
                thread.start()
                wait_for_waiters(1, connection, thread)
    thread.join()
    doubled = tuple([2 * value for value in TOTALS])
    assert rows(store, "rollup_hours") == [(*series, "", *doubled, b"") for series in (first, second)]


def test_a_rebuild_waits_for_batches_without_attempts(store: Store, other: Store) -> None:
    """A rebuild and a batch of events that are no attempts change the same heads one after the other."""
    for trace in ("t2", "t1"):
        happened(store, NOON, id=f"e-{trace}", trace=trace)
    thread = threading.Thread(target=rebuild, args=(other,))
    with store.write() as connection:
        for trace in ("t1", "t2"):
            row = (trace, f"late-{trace}", NOON + 9, "CONTEXT_BUILD", *(None,) * 5, "{}", *(None,) * 3)
            store.backend.merge(connection, tables.events, [row])
            head = (trace, None, None, NOON + 9, NOON + 9, *NOTHING)
            store.backend.merge(connection, tables.traces, [head])
            if trace == "t1":
                thread.start()
                wait_for_waiters(1, connection, thread)
    thread.join()
    assert [row[0:1] + row[3:5] for row in rows(store, "traces")] == [
        (trace, NOON, NOON + 9) for trace in ("t1", "t2")
    ]


def test_a_trace_that_is_heard_of_while_a_sweep_looks(store: Store, other: Store) -> None:
    """A sweep that has found a trace too old looks again before it takes anything of it: its new body stays."""
    happened(store, NOON)
    now = NOON + 40 * DAY_US
    said = Event(id="e2", trace="t", kind=Kind.USER_INPUT, at=now, facts={"body": "hello"})
    mark = msgspec.structs.replace(MARK, at=now)

    def hear() -> None:
        store.post([msgspec.json.encode(said)], mark)

    with just_after("SELECT traces.trace_id", hear):
        retention.sweep(other, Keep(events=30), now)
    assert [row[1] for row in rows(store, "events")] == ["e2"]
    assert [row[4] for row in rows(store, "traces")] == [now]
    assert [row[1] for row in rows(store, "bodies")] == ["e2"]


def test_a_sweep_locks_heads_as_a_batch_does(store: Store, other: Store) -> None:
    """A sweep that meets a batch in the middle of its heads waits for it, in whatever order they are too old."""
    for number, trace in enumerate(("t2", "t1")):
        happened(store, NOON + number, id=f"e-{trace}", trace=trace)
    now = NOON + 40 * DAY_US
    thread = threading.Thread(target=retention.sweep, args=(other, Keep(events=30), now))
    with store.write() as connection:
        for trace in ("t1", "t2"):
            head = (trace, None, None, now, now, *NOTHING)
            store.backend.merge(connection, tables.traces, [head])
            if trace == "t1":
                thread.start()
                wait_for_waiters(1, connection, thread)
    thread.join()
    assert [row[4] for row in rows(store, "traces")] == [now, now]


def test_two_name_a_new_database_at_once(store: Store) -> None:
    """Of two that open a new database, one names it, and both know it by that name."""
    schema.migrate(store.backend)
    thread = threading.Thread(target=store.open)
    with store.backend.writing() as connection:
        connection.execute(insert(tables.meta).values(name="store", value="the first one's"))
        thread.start()
        wait_for_waiters(1, connection, thread)
    thread.join()
    assert store.identity == "the first one's"
