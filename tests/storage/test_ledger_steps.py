"""The ledger step by step: how often it does what, what it waits for, what it says, and how it stands still."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import OperationalError

from tests.storage.calls import NOON, attempt
from tests.storage.journals import ROOT, note, until
from tests.storage.test_keeper import Pauses, open_files
from tests.storage.test_ledger import Record, exclusive, opened
from tests.storage.test_stores import rows
from turnout.clock import Clock
from turnout.storage import ledger as ledger_module
from turnout.storage import retention
from turnout.storage.batch import DAY_US
from turnout.storage.frames import framed
from turnout.storage.keep import Keep
from turnout.storage.posting import HOUR_US
from turnout.storage.segments import segment_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from turnout.storage.ledger import Ledger
    from turnout.storage.store import Store


class HandClock(Clock):
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.wall = NOON

    def monotonic(self) -> float:
        """See `Clock`."""
        return self.seconds

    def now(self) -> int:
        """See `Clock`."""
        return self.wall


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    """A record whose ledger has not begun."""
    made = Record(tmp_path)
    yield made
    made.close()


@pytest.fixture
def hand(record: Record) -> HandClock:
    """The clock by which that ledger goes, at 0 and at noon."""
    clock = HandClock()
    record.ledger._clock = clock
    return clock


def step(ledger: Ledger) -> Store:
    """One step of the thread's; the ledger's store."""
    ledger._step(closing=False)
    assert ledger._intake is not None
    return ledger._intake.store


def ids(store: Store) -> list[str]:
    """The attempts in the tables."""
    return [row[0] for row in rows(store, "cost_records")]


def facts(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    """What was told with each event of that name."""
    return [vars(one)["facts"] for one in caplog.records if one.getMessage() == name]


async def test_a_ring_wakes_it(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is appended is posted when the bell rings, not when the ledger would have looked by itself."""
    monkeypatch.setattr(ledger_module, "IDLE_SECONDS", 60.0)
    record.ledger.start()
    for number in range(3):
        record.append(*attempt(id=f"a{number}"))
        assert await record.committed()
    assert record.ledger.close()
    assert not record.ledger.status().alive


def test_looking_by_itself(record: Record) -> None:
    """When nobody rings any more it looks a quarter of a second later, and not before."""
    looked: list[float] = []

    class Noting(Clock):
        """Tells when it is asked, which is once a step."""

        def monotonic(self) -> float:
            looked.append(super().monotonic())
            return looked[-1]

    record.ledger._clock = Noting()
    record.ledger._adopt_at = record.ledger._sweep_at = float("inf")
    record.ledger.wake()
    record.ledger.start()
    until(lambda: len(looked) > 6)
    record.ledger.close()
    gaps = [later - earlier for earlier, later in itertools.pairwise(looked[:7])]
    assert 0.24 < min(gaps) < 0.75


async def test_lines_gather(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one batch to the next, and before the first, the ledger lets lines gather for as long as it was told."""
    commits = [time.monotonic()]
    committed = record.journal.committed

    def noting(path: Path, end: int) -> None:
        commits.append(time.monotonic())
        committed(path, end)

    monkeypatch.setattr(record.journal, "committed", noting)
    record.ledger._pace = 0.4
    record.append(*attempt(id="a0"))
    record.ledger.start()
    for number in (1, 2):
        assert await record.committed()
        record.append(*attempt(id=f"a{number}"))
    assert await record.committed()
    assert len(commits) == 4
    assert min(later - earlier for earlier, later in itertools.pairwise(commits)) >= 0.39


def test_closing_waits_for_no_more_lines(record: Record) -> None:
    """A ledger that lets lines gather posts them at once when it is closed."""
    record.ledger._pace = 60.0
    record.append(*attempt(id="a1"))
    record.ledger.start()
    assert record.ledger.close()
    with opened(record.where) as store:
        assert ids(store) == ["a1"]
    assert open_files(record.where.file.parent if record.where.file else record.folder, "turnout.db") == []


def test_pauses_double(record: Record) -> None:
    """After each failure it waits twice as long, two seconds at most; after a success a quarter of one again."""
    pauses, tried = Pauses(), 0
    working = record.ledger._open_store

    def fail() -> Store:
        nonlocal tried
        tried += 1
        if tried == 7:
            pauses.set()
            return working()
        raise OSError("it is away")

    record.ledger._closing = pauses
    record.ledger._open_store = fail
    record.ledger._run()
    assert pauses.asked == [0.0, 0.25, 0.5, 1.0, 2.0, 2.0, 2.0, 0.0]


def test_trouble_is_told_once(record: Record, hand: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    """The log has one line when a store begins to fail and one when it works again, with how long it took."""
    ledger = record.ledger
    with caplog.at_level(logging.INFO, "turnout"):
        ledger._works()
        hand.seconds = 10.0
        ledger._failed(OSError("first"))
        hand.seconds = 11.0
        ledger._failed(ValueError("second"))
        assert ledger.status().failing_seconds == 1.0
        hand.seconds = 12.34567
        ledger._works()
        ledger._works()
    assert facts(caplog, "store_failing") == [{"error": "OSError: first"}]
    assert facts(caplog, "store_works_again") == [{"failed_for": 2.346}]
    assert [one.levelname for one in caplog.records] == ["WARNING", "INFO"]
    assert (ledger.status().failing_seconds, ledger.status().last_error) == (None, "ValueError: second")


def test_how_long_it_waits(record: Record, hand: HandClock) -> None:
    """The lag counts from the first failed try at lines that wait, and ends with their commit."""
    step(record.ledger)
    assert record.ledger.status().lag_seconds == 0.0
    end_of_trouble = exclusive(record.where)
    record.append(*attempt(id="a1"))
    for moment in (5.0, 7.0):
        hand.seconds = moment
        with pytest.raises(OperationalError, match="database is locked"):
            step(record.ledger)
    hand.seconds = 8.5
    assert record.ledger.status().lag_seconds == 3.5
    assert record.ledger.status().behind_bytes > 0
    end_of_trouble()
    step(record.ledger)
    assert (record.ledger.status().lag_seconds, record.ledger.status().behind_bytes) == (0.0, 0)


def test_the_dead_are_looked_for_once_a_second(record: Record, hand: HandClock) -> None:
    """Who died is taken over in the first step, and from then on a second after the last look."""

    def die(owner: str) -> None:
        (record.folder / segment_name(owner, 1)).write_bytes(framed(note()))

    die("first")
    for moment, adopted in ((0.0, 1), (0.0, 1), (0.99, 1), (1.0, 2), (1.99, 2), (2.0, 3)):
        hand.seconds = moment
        step(record.ledger)
        assert record.ledger.status().adopted == adopted
        if adopted < 3:
            die(f"next{adopted}")


def test_old_rows_are_looked_for_once_a_minute(record: Record, hand: HandClock) -> None:
    """Rows beyond the term that the ledger was given go in the first step, and in that of a minute later."""
    record.ledger._keep = Keep(events=2, costs=3)
    for number, (moment, left) in enumerate(((0.0, 0), (59.0, 1), (60.0, 0), (119.0, 1), (120.0, 0))):
        hand.seconds, hand.wall = moment, NOON + number * HOUR_US
        record.append(*attempt(id=f"a{number}", call=f"c{number}", at=NOON - 4 * DAY_US))
        assert len(ids(step(record.ledger))) == left


def test_posting_between_slices(record: Record, hand: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """While old rows go, slice by slice, what comes in is posted; a ledger that closes leaves the rest of them."""
    monkeypatch.setattr(retention, "SLICE", 1)
    ledger = record.ledger
    store = step(ledger)
    for number in range(4):
        record.append(*attempt(id=f"old{number}", call=f"o{number}", at=NOON - 500 * DAY_US))
    step(ledger)
    record.append(*attempt(id="new"))
    hand.wall += HOUR_US
    ledger._sweep(store)
    assert ids(store) == ["new"]
    for number in range(3):
        record.append(*attempt(id=f"more{number}", call=f"m{number}", at=NOON - 500 * DAY_US))
    step(ledger)
    hand.wall += HOUR_US
    ledger._closing.set()
    ledger._sweep(store)
    assert len(ids(store)) == 3


def test_what_was_complete(record: Record, caplog: pytest.LogCaptureFixture) -> None:
    """Own segments before the current go once they are posted; a damaged one is kept aside, and said so."""
    owner = record.journal.owner
    sound, bad = record.folder / segment_name(owner, 0), record.folder / segment_name(owner, -1)
    sound.write_bytes(framed(note()))
    bad.write_bytes(framed(note()) + b"??\n")
    with caplog.at_level(logging.ERROR, "turnout"):
        step(record.ledger)
    current = record.journal.current
    assert current is not None
    assert record.spool.mine(owner) == [current]
    assert [path.name for path in record.folder.glob("*.damaged")] == [f"{bad.name}.damaged"]
    assert facts(caplog, "segment_damaged") == [{"segment": bad.name}]
    assert list(record.ledger._positions) == [current.name]
    assert record.ledger.status().posted == 2


def test_a_fork_waits_for_the_step(record: Record) -> None:
    """A fork waits until the ledger has done its step, and keeps it from the next until the parent goes on."""
    stepping = record.ledger.stepping
    stepping.acquire()
    fork = threading.Thread(target=ledger_module._before_fork)
    fork.start()
    fork.join(0.1)
    assert fork.is_alive()
    stepping.release()
    fork.join(10)
    assert not fork.is_alive()
    assert stepping.locked()
    assert stepping in ledger_module._paused
    ledger_module._after_fork()
    assert not stepping.locked()


def test_a_fork_waits_in_vain(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that is in the midst of a long step is not waited for any longer, nor told to go on afterwards."""
    monkeypatch.setattr(ledger_module, "FORK_PATIENCE", 0.05)
    with record.ledger.stepping:
        began = time.monotonic()
        ledger_module._before_fork()
        assert time.monotonic() - began >= 0.05
        assert record.ledger.stepping not in ledger_module._paused
        ledger_module._after_fork()
        assert record.ledger.stepping.locked()


def test_held_while_it_works(record: Record) -> None:
    """The lock that a fork waits for is held while the store is opened, and free while the ledger waits."""
    held: list[bool] = []
    working = record.ledger._open_store

    def noting() -> Store:
        held.append(record.ledger.stepping.locked())
        return working()

    record.ledger._open_store = noting
    record.ledger.start()
    until(lambda: held and not record.ledger.stepping.locked())
    assert held == [True]


def test_forks_are_noticed() -> None:
    """`os.fork` itself pauses ledgers: in the child they stand still for ever, in the parent they go on."""
    script = (
        "import os\n"
        "from turnout.storage import ledger\n"
        "one = ledger.Ledger(None, None, None, None)\n"
        "if not (pid := os.fork()):\n"
        "    os._exit(7 if one.stepping.locked() else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), one.stepping.locked())\n"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == "7 False\n"
