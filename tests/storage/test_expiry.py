"""What stands in for the end of an attempt whose process died."""

from __future__ import annotations

import msgspec

from tests.storage.calls import NOON, attempt
from turnout.storage.expiry import Unclosed, expire
from turnout.types import Closed, Event, Kind, Usage

NO_CALL = msgspec.json.encode(Event(id="n", trace="t", kind=Kind.CONTEXT_BUILD, at=NOON))
NO_SPAN = msgspec.json.encode(
    msgspec.structs.replace(msgspec.json.decode(attempt()[0], type=Event), span=None)
)


def test_the_end_it_never_had() -> None:
    """It is an end of the same attempt a microsecond after its start, at its whole hold, always the same bytes."""
    start, _ = attempt(id="a1", hold=77)
    made = expire(start)
    assert made is not None
    assert made == expire(start)
    event = msgspec.json.decode(made, type=Event)
    begun = msgspec.json.decode(start, type=Event)
    closed = msgspec.convert(event.facts, Closed)
    assert (event.id, event.kind, event.at) == ("a1:expired", Kind.LLM_CALL_END, NOON + 1)
    assert (event.trace, event.span, event.user, event.session, event.agent) == (
        begun.trace, "a1", "alice", "s1", "debugger"
    )  # fmt: skip
    assert event.cost_nano == closed.attempt.cost_nano == 77
    assert event.error == closed.attempt.error
    assert "the process ended" in str(event.error)
    assert (closed.state, closed.attempt.outcome) == ("expired_estimated", "expired")
    assert (closed.attempt.id, closed.attempt.started_at, closed.attempt.seconds) == ("a1", NOON, 0.0)
    assert (closed.attempt.model, closed.attempt.provider) == ("deepseek-chat", "deepseek")
    assert closed.attempt.usage == Usage(input_tokens=110, source="estimated")
    assert msgspec.to_builtins(closed.opened) == begun.facts


def test_what_is_no_start() -> None:
    """An end, a start of nobody, another event and torn bytes expire to nothing."""
    _, end = attempt()
    assert [expire(payload) for payload in (end, NO_SPAN, NO_CALL, b"LLM_CALL_START")] == [None] * 4


def test_what_says_nothing_hides_nothing() -> None:
    """Between and before events of no call, of no attempt and torn ones, every start without an end is found."""
    lonely, _ = attempt(id="a1")
    start, end = attempt(id="a2")
    for noise in (NO_CALL, NO_SPAN, b'{"kind":"LLM_CALL_START"'):
        for payloads in ([noise, lonely, noise, start, end], [noise, end, lonely, start]):
            calls = Unclosed()
            calls.see(payloads)
            assert calls.expired() == [expire(lonely)]
            assert list(calls._starts) == ["a1", "a2"][: len(calls._starts)]
