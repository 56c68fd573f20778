"""The record without a disk: the journal's verbs and the reports, in one object, for users' tests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from turnout.storage.address import MEMORY
from turnout.storage.reports import Reports
from turnout.storage.store import Mark, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout.types import Event

OWNER = "memory"


class MemoryRecord:
    """Takes events like a `Journal` and answers like `Reports`: the real tables, in memory, gone with this object."""

    wake: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.owner = OWNER
        self.store = Store(MEMORY)
        self._reports = Reports(self.store)
        self._pending: list[bytes] = []
        self._mutex = threading.Lock()

    def append(self, event: Event) -> bool:
        """Keep it; it is in the tables when next somebody reads."""
        self._pending.append(msgspec.json.encode(event))
        return True

    async def written(self) -> None:
        """Nothing to wait for."""

    async def durable(self) -> None:
        """Nothing to wait for."""

    @property
    def reports(self) -> Reports:
        """The reports, over everything that was appended."""
        with self._mutex:
            pending, self._pending = self._pending, []
            if pending:
                self.store.post(pending, Mark(owner=OWNER, host="", boot="", spool="", at=0))
        return self._reports

    def close(self) -> None:
        """Forget everything."""
        self.store.close()
