"""Events into the journal and the exporters; the one place that swallows failures, counts them and says so."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from turnout import logs
from turnout.errors import TurnoutError
from turnout.types import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turnout.clock import Clock
    from turnout.trace.privacy import Privacy
    from turnout.types import Kind


class Sink(Protocol):
    """Where events go: the journal, or a memory of them."""

    def append(self, event: Event) -> object:
        """Keep an event. May raise a `TurnoutError` to refuse LLM_CALL_START."""
        ...

    async def written(self) -> None:
        """Wait until what was appended would survive this process."""
        ...

    async def durable(self) -> None:
        """Wait until what was appended is as safe as it is going to be."""
        ...


class Exporter(Protocol):
    """Somewhere else that events go to as they happen; neither verb waits for anything."""

    def export(self, event: Event) -> None:
        """One event, already redacted."""
        ...

    def finished(self, call: str) -> None:
        """No further attempt of a call will come."""
        ...


class Scribe:
    """Writes events. `failures` counts what could not be recorded."""

    def __init__(self, journal: Sink, clock: Clock, privacy: Privacy, exporters: Sequence[Exporter]) -> None:
        self.clock = clock
        self.privacy = privacy
        self.failures = 0
        self._clean = lru_cache(4_096)(self._cleaned)
        self._journal = journal
        self.exporters = tuple(exporters)

    def event(self, trace: str, kind: Kind, facts: dict[str, Any], **columns: Any) -> None:
        """Write what happened now, under an id of its own."""
        now = self.clock.now()
        if "body" in facts:
            facts["expires_at"] = now + int(self.privacy.ttl * 1e6)
        self.write(Event(id=self.clock.new_id(), trace=trace, kind=kind, at=now, facts=facts, **columns))

    def write(self, event: Event) -> None:
        """Into the journal, and to whoever exports it."""
        self._journal.append(event)
        for exporter in self.exporters:
            exporter.export(event)

    def finished(self, call: str) -> None:
        """Tell the exporters that no further attempt of a call will come."""
        for exporter in self.exporters:
            exporter.finished(call)

    def guarded(self, work: Callable[..., None], *given: Any, may_refuse: bool = False) -> None:
        """Do it, and go on whatever happens; `may_refuse` lets the journal's own refusal through."""
        try:
            work(*given)
        except Exception as error:
            # A trace must never break the call it describes.
            if may_refuse and isinstance(error, TurnoutError):
                raise
            self.failed(f"{work.__name__.lstrip('_')}: {type(error).__name__}")

    def failed(self, what: str) -> None:
        """Count a failure; log the first, the second, the fourth, and so on."""
        self.failures += 1
        if self.failures & (self.failures - 1) == 0:
            logs.event(logging.WARNING, "not recorded", "", what=what, failures=self.failures)

    def name(self, value: Any) -> str | None:
        """A name that came from outside (user, session, agent, tag) as clean text; `None` stays `None`."""
        if value is None:
            return None
        return self._clean(value if isinstance(value, str) else _as_text(value))

    def _cleaned(self, name: str) -> str:
        return self.privacy.text(name, 256)


def _as_text(value: Any) -> str:
    return str(value) if isinstance(value, int) else type(value).__name__
