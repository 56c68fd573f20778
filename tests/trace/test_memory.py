"""The sink that remembers."""

from __future__ import annotations

from typing import Any

from turnout.trace.memory import MemorySink, Reports
from turnout.types import Event, Kind


def event(trace: str, at: int = 1, **told: Any) -> Event:
    """An event of a trace."""
    return Event(id=f"{trace}{at}", trace=trace, kind=Kind.ERROR, at=at, **told)


def test_reads_back_by_trace_session_and_user() -> None:
    """Events come back in the order they happened, traces newest first."""
    memory = MemorySink()
    reports: Reports = memory
    for one in (
        event("a", 2, user="u", session="s"),
        event("a", 1),
        event("b", 3, user="u"),
        event("c", session="s"),
    ):
        memory.append(one)
    assert [one.at for one in reports.trace("a")] == [1, 2]
    assert reports.trace("none") == []
    assert reports.session_traces("s") == ["c", "a"]
    assert (reports.user_traces("u"), reports.user_traces("u", 1)) == (["b", "a"], ["b"])
    assert memory.latest_traces(2) == ["c", "b"]


def test_the_oldest_makes_room() -> None:
    """No more traces are kept than asked for."""
    memory = MemorySink(most=2)
    for name in "abcb":
        memory.append(event(name))
    assert memory.latest_traces() == ["c", "b"]
