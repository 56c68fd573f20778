"""Where a client's events go: journal, ledger and reports behind one object, opened by the first event or question."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from turnout.errors import ConfigError
from turnout.storage import address
from turnout.storage.journal import Journal
from turnout.storage.keep import Keep
from turnout.storage.ledger import Ledger
from turnout.storage.segments import Spool

if TYPE_CHECKING:
    from turnout.clock import Clock
    from turnout.settings import Settings
    from turnout.storage.journal import JournalStatus
    from turnout.storage.ledger import LedgerStatus
    from turnout.storage.reports import Reports
    from turnout.storage.store import Store
    from turnout.storage.tail import Disk
    from turnout.types import Event

PACE = 0.2
"""Seconds the ledger lets lines gather: a batch of a hundred costs half of what ten of ten cost, each."""
PATIENCE = 2.0
"""Seconds a question waits for what this host has journalled."""


class Record(Protocol):
    """What the engine writes to and people read from."""

    def append(self, event: Event) -> bool:
        """Keep an event. Raises `BudgetUnavailable` where the settings say `on_full = "refuse"`."""
        ...

    async def written(self) -> None:
        """Wait until what was appended is in a file."""
        ...

    async def durable(self) -> None:
        """Wait until what was appended is as safe as the settings ask."""
        ...

    @property
    def reports(self) -> Reports:
        """Everything that has been appended, to be read. Raises `ConfigError` when it cannot be opened."""
        ...

    def close(self) -> None:
        """Put what is left into the tables, as far as that can be done soon."""
        ...


class DiskRecord:
    """Implements `Record` in the data folder. A client that is only made touches nothing.

    `disk` is the file layer beneath the journal, `rotate_bytes` about how long one of its segments gets.
    """

    def __init__(
        self,
        settings: Settings,
        where: address.Address,
        clock: Clock,
        *,
        disk: Disk | None = None,
        rotate_bytes: int = 8 << 20,
    ) -> None:
        self._settings = settings
        self._disk = disk
        self._rotate_bytes = rotate_bytes
        self._where = where
        self._clock = clock
        self._spool = settings.home / "spool" / where.spool_id
        self._lock = threading.RLock()
        self._opening = False
        self._journal: Journal | None = None
        self._ledger: Ledger | None = None
        self._reading: Store | None = None
        _records.add(self)

    def append(self, event: Event) -> bool:
        """As `Record.append`."""
        journal = self._journal or self._open()
        return journal is not None and journal.append(event)

    async def written(self) -> None:
        """As `Record.written`."""
        if self._journal is not None:
            await self._journal.written()

    async def durable(self) -> None:
        """As `Record.durable`."""
        if self._journal is not None:
            await self._journal.durable()

    @property
    def reports(self) -> Reports:
        """As `Record.reports`; it waits up to two seconds for what this host has journalled."""
        from turnout.storage import access, reports, store  # noqa: PLC0415 - loads SQLAlchemy

        if (journal := self._journal) is not None:
            journal.settled()
        with self._lock:
            if self._reading is None:
                self._reading = store.Store(self._where, lock_timeout=PATIENCE)
        access.catch_up(self._reading, Spool(self._spool), self._clock, within=PATIENCE)
        return reports.Reports(self._reading)

    def status(self) -> tuple[JournalStatus, LedgerStatus] | None:
        """How the journal and the ledger are; `None` while nothing was written."""
        if self._journal is None or self._ledger is None:
            return None
        return self._journal.status(), self._ledger.status()

    def close(self) -> None:
        """As `Record.close`; what stays in the journal is taken up by the next process that opens the record."""
        with self._lock:
            journal, ledger, reading = self._journal, self._ledger, self._reading
            self._journal = self._ledger = self._reading = None
        if journal is not None:
            journal.settled()  # or what came last would miss the ledger
        if ledger is not None:
            ledger.close()
        if journal is not None:
            journal.close()
        if reading is not None:
            reading.close()

    def forget(self) -> None:
        """In a forked child: the parent's journal, ledger and connections stay the parent's; ours open anew."""
        _inherited.append((self._journal, self._ledger, self._reading))
        self._lock, self._opening = threading.RLock(), False
        self._journal = self._ledger = self._reading = None

    def _open(self) -> Journal | None:
        with self._lock:
            # while it opens the collector may end a coroutine that appends: the parent's, or of a client long closed
            if self._journal is None and not self._opening:
                self._opening = True
                try:
                    self._journal = self._opened()
                finally:
                    self._opening = False
            return self._journal

    def _opened(self) -> Journal:
        settings = self._settings
        journal = Journal(
            self._spool,
            self._clock,
            durability=settings.durability,
            max_bytes=settings.spool_bytes,
            on_full=settings.on_full,
            rotate_bytes=self._rotate_bytes,
            disk=self._disk,
        )
        try:
            self._begin(journal)
        except BaseException:
            journal.close()  # or each further event would leave one more behind
            raise
        return journal

    def _begin(self, journal: Journal) -> None:
        # under `store` somebody waits for the commit of each line
        pace = 0.0 if journal.durability == "store" else PACE
        spool = Spool(self._spool)
        ledger = Ledger(journal, spool, self._store, self._clock, keep=self._keep(), pace=pace)
        journal.wake = ledger.wake
        ledger.start()
        self._ledger = ledger

    def _store(self) -> Store:
        from turnout.storage.store import Store  # noqa: PLC0415 - loads SQLAlchemy, in the ledger's thread

        return Store(self._where)

    def _keep(self) -> Keep:
        days = {name: value for name, value in self._settings.retention.items() if name != "bodies"}
        return Keep(**days)


def record(settings: Settings, clock: Clock) -> Record:
    """The record that the settings name. Raises `ConfigError`."""
    url = settings.database_url.reveal() if settings.database_url else None
    where = address.read(url, settings.home)
    if where.is_postgres:
        _needs_psycopg()
    if not where.is_memory:
        return DiskRecord(settings, where, clock)
    from turnout.storage.memory import MemoryRecord  # noqa: PLC0415 - loads SQLAlchemy

    return MemoryRecord()


def _needs_psycopg() -> None:
    import importlib.util  # noqa: PLC0415

    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError("a postgresql:// store needs psycopg", hint='pip install "turnout[postgres]"')


_records: weakref.WeakSet[DiskRecord] = weakref.WeakSet()
_inherited: list[object] = []
"""What a forked child must not close: closing it would be the parent's business."""


def _forked() -> None:
    for one in list(_records):
        one.forget()


os.register_at_fork(after_in_child=_forked)
