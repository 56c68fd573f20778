"""One thread per process that puts its journal into the tables, in small batches, whatever the store is doing.

A store that fails is tried again, at most two seconds later, for as long as the process lives; the journal grows
meanwhile, and nobody who calls a model notices.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from turnout import logs
from turnout.storage.keep import Keep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from turnout.clock import Clock
    from turnout.storage.intake import Intake
    from turnout.storage.segments import Spool
    from turnout.storage.store import Store

IDLE_SECONDS = 0.25
"""How long the thread sleeps when nobody wakes it."""
ADOPT_SECONDS = 1.0
SWEEP_SECONDS = 60.0
"""How often it asks whether old rows are due to go; once an hour somebody's are."""
SLOWEST_RETRY = 2.0
CLOSING_SECONDS = 5.0
FORK_PATIENCE = 2.0
"""How long a fork waits for the ledger."""


class Source(Protocol):
    """What a ledger asks of its process's journal."""

    owner: str

    @property
    def current(self) -> Path | None:
        """The segment being written."""
        ...

    def committed(self, path: Path, end: int) -> None:
        """Everything up to here is in the tables."""
        ...


class LedgerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far the tables are behind this process's journal, and why."""

    alive: bool
    """The thread runs."""
    behind_bytes: int
    """Of this process's segments, not in the tables."""
    lag_seconds: float
    """For how long the oldest of them has waited; 0 when there is nothing."""
    failing_seconds: float | None
    """For how long the store has failed; `None` while it works."""
    last_error: str | None
    posted: int
    refused: int
    """Events that could not be read or that the database would not take, kept in the spool's `refused.jsonl`."""
    adopted: int
    """Dead processes whose journals were taken over."""


class Ledger:
    """Reads one journal's segments and posts them to the store that `open_store` makes, in its own thread.

    `wake` may be called from any thread. Nothing here raises for what a store does; `status` tells it.
    """

    def __init__(
        self,
        journal: Source,
        spool: Spool,
        open_store: Callable[[], Store],
        clock: Clock,
        *,
        keep: Keep | None = None,
        pace: float = 0.0,
    ) -> None:
        """`pace`: seconds it lets lines gather before it posts them; larger batches cost less each."""
        self._journal = journal
        self._spool = spool
        self._open_store = open_store
        self._clock = clock
        self._keep = keep
        self._pace = pace
        self._intake: Intake | None = None
        self._positions: dict[str, int] = {}
        self._bell = threading.Event()
        self._closing = threading.Event()
        self._failing_since: float | None = None
        self._waiting_since: float | None = None
        self._last_error: str | None = None
        self._adopt_at = self._sweep_at = 0.0
        self.stepping = threading.Lock()
        """Held while it works. A child that is forked meanwhile would inherit locks that nobody ever opens: those of
        modules that were being imported, and the database library's."""
        self._thread = threading.Thread(target=self._run, name="turnout-ledger", daemon=True)
        _ledgers.add(self)

    def start(self) -> None:
        """Begin; the database library is loaded in the thread."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to read."""
        self._bell.set()

    def close(self, within: float = CLOSING_SECONDS) -> bool:
        """Post what is left and end the thread; whether everything is in the tables. The journal stays open."""
        self._closing.set()
        self._bell.set()
        if self._thread.ident is not None:
            self._thread.join(within)
        return not self._thread.is_alive() and self._waiting_since is None

    def status(self) -> LedgerStatus:
        """How it is doing, without asking the store."""
        now = self._clock.monotonic()
        since, failing, intake = self._waiting_since, self._failing_since, self._intake
        missing = 0
        for path in self._spool.mine(self._journal.owner):
            with suppress(FileNotFoundError):
                missing += max(0, path.stat().st_size - self._positions.get(path.name, 0))
        return LedgerStatus(
            alive=self._thread.is_alive(),
            behind_bytes=missing,
            lag_seconds=0.0 if since is None else now - since,
            failing_seconds=None if failing is None else now - failing,
            last_error=self._last_error,
            posted=intake.posted if intake else 0,
            refused=intake.refused if intake else 0,
            adopted=intake.adopted if intake else 0,
        )

    def _run(self) -> None:
        self._closing.wait(self._pace)  # a first call need not share its time with the loading of a library
        with self.stepping:
            from turnout.storage.intake import FAILURES  # noqa: PLC0415 - loads SQLAlchemy, in this thread

        retry = IDLE_SECONDS
        while True:
            closing = self._closing.is_set()
            self._bell.clear()
            try:
                with self.stepping:
                    self._step(closing=closing)
            except FAILURES as error:
                self._failed(error)
                self._closing.wait(retry)  # not the bell: a busy process must not hammer a store that fails
                retry = min(SLOWEST_RETRY, retry * 2)
            else:
                self._works()
                retry = IDLE_SECONDS
                if not closing:
                    self._bell.wait(IDLE_SECONDS)
                    self._closing.wait(self._pace)
            if closing:
                break
        if self._intake:
            with suppress(*FAILURES):
                self._intake.store.close()

    def _step(self, *, closing: bool) -> None:
        if self._intake is None:
            from turnout.storage.intake import Intake  # noqa: PLC0415 - loads SQLAlchemy

            self._intake = Intake(self._open_store(), self._spool, self._journal.owner, self._clock)
        self._post_own(self._intake)
        if closing:
            self._intake.store.close_owner(self._journal.owner)
            return
        now = self._clock.monotonic()
        if now >= self._adopt_at:
            self._intake.adopt()
            self._adopt_at = now + ADOPT_SECONDS
        if now >= self._sweep_at:
            self._sweep(self._intake.store)
            self._sweep_at = now + SWEEP_SECONDS

    def _post_own(self, intake: Intake) -> None:
        """Every segment of ours from where it stands; those that are complete go, after the commit."""
        current = self._journal.current
        for path in self._spool.mine(self._journal.owner):
            complete = current is None or path.name < current.name
            offset = self._positions.get(path.name, 0)
            if self._waiting_since is None and path.stat().st_size > offset:
                self._waiting_since = self._clock.monotonic()
            end, whole = intake.drain(path, offset)
            self._positions[path.name] = end
            self._journal.committed(path, end)
            if complete:
                if not whole:
                    intake.set_aside(path)
                self._spool.remove([path])
                self._positions.pop(path.name, None)
        self._waiting_since = None

    def _sweep(self, store: Store) -> None:
        from turnout.storage import retention  # noqa: PLC0415 - loads SQLAlchemy

        now = self._clock.now()
        if retention.claim(store, now):
            while retention.sweep(store, self._keep or Keep(), now) and not self._closing.is_set():
                if self._intake:
                    self._post_own(self._intake)

    def _failed(self, error: BaseException) -> None:
        self._last_error = f"{type(error).__name__}: {error}"
        if self._failing_since is None:
            self._failing_since = self._clock.monotonic()
            logs.event(logging.WARNING, "store_failing", "", error=self._last_error)

    def _works(self) -> None:
        if self._failing_since is not None:
            seconds = round(self._clock.monotonic() - self._failing_since, 3)
            self._failing_since = None
            logs.event(logging.INFO, "store_works_again", "", failed_for=seconds)


_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
_paused: list[threading.Lock] = []


def _before_fork() -> None:
    until = time.monotonic() + FORK_PATIENCE
    _paused[:] = [
        ledger.stepping
        for ledger in list(_ledgers)
        if ledger.stepping.acquire(timeout=max(0.0, until - time.monotonic()))
    ]


def _after_fork() -> None:
    for stepping in _paused:
        stepping.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork)
