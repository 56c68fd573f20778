"""Traces without a disk: a sink that remembers, and answers what a store's reports answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from turnout.types import Event


class Reports(Protocol):
    """What traces are read back through."""

    def trace(self, trace: str) -> list[Event]:
        """The events of a trace in the order they happened; none when there is no such trace."""
        ...

    def session_traces(self, session: str) -> list[str]:
        """The ids of a session's traces, newest first."""
        ...

    def user_traces(self, user: str, limit: int = 10) -> list[str]:
        """The ids of a user's latest traces, newest first."""
        ...


class MemorySink:
    """Keeps the latest traces, `most` of them, in this process's memory."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._traces: dict[str, list[Event]] = {}

    def append(self, event: Event) -> None:
        """Keep it; the oldest trace makes room."""
        events = self._traces.get(event.trace)
        if events is None:
            if len(self._traces) >= self._most:
                self._traces.pop(next(iter(self._traces)), None)
            events = self._traces.setdefault(event.trace, [])
        events.append(event)

    async def written(self) -> None:
        """Nothing to wait for."""

    async def durable(self) -> None:
        """Memory is as safe as it gets."""

    def trace(self, trace: str) -> list[Event]:
        """As `Reports.trace`."""
        return sorted(self._traces.get(trace, ()), key=lambda event: event.at)

    def session_traces(self, session: str) -> list[str]:
        """As `Reports.session_traces`."""
        return self._of("session", session)

    def user_traces(self, user: str, limit: int = 10) -> list[str]:
        """As `Reports.user_traces`."""
        return self._of("user", user)[:limit]

    def latest_traces(self, limit: int = 10) -> list[str]:
        """The ids of the latest traces, newest first."""
        return list(reversed(self._traces))[:limit]

    def _of(self, column: str, value: str) -> list[str]:
        found = [
            trace
            for trace, events in self._traces.items()
            if any(getattr(event, column) == value for event in events)
        ]
        return found[::-1]
