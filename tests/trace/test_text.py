"""Traces as people read them: whole views, word for word, and no line beyond its width."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trace.stage import Stage
from tests.trace.test_tree import anything
from turnout.trace.text import money, render, seconds
from turnout.trace.views import Trace, read
from turnout.types import Kind

if TYPE_CHECKING:
    from turnout.types import Event

VIEWS = ("tree", "timeline", "summary")


@pytest.fixture
def fallback(stage: Stage) -> Trace:
    """A routed question whose first model is rate-limited."""
    with stage.spans.start_trace("s1", "alice", name="why does my loop never end?") as trace:
        with stage.spans.start_span("AGENT_ROUTING", agent="supervisor", agent_id="debugger"):
            stage.clock.wait(0.02)
            stage.attempt(stage.call("supervisor"), seconds=0.31)
        stage.spans.log_event("AGENT_HANDOFF", **{"from": "supervisor", "to": "debugger"})
        stage.fallback(stage.call())
        with stage.spans.start_span("TOOL_INVOCATION", name="search notes", agent="debugger"):
            stage.clock.wait(0.4)
            stage.spans.end_span(error="KeyError: 'notes'")
    return stage.read(trace)


def killed() -> Trace:
    """A session that was killed while its second call was under way."""
    stage = Stage()
    trace = stage.spans.start_trace("s1", name="nightly run")
    stage.attempt(stage.call("librarian"), seconds=0.8)
    stage.spans.start_span("TOOL_INVOCATION", name="index")
    stage.attempt(stage.call("librarian"), ends=False)
    return stage.read(trace)


GOLDEN = {
    "tree": """\
trace 019ab000-0000-7000-8000-000000000001 · 2026-11-18 12:00:00 UTC
session s1 · user alice
ended · 3.84 s · 2 calls · 3 attempts · 1 fallback · 1,360 tokens · $0.0002404

✓ session why does my loop never end?                        3.84 s   $0.0002404
├─ ✓ agent routing debugger (supervisor)                     0.33 s  $0.00003640
│  └─ ✓ call for supervisor                                  0.31 s  $0.00003640
│     └─ ✓ deepseek-chat answered: 100 in, 20 out            0.31 s  $0.00003640
├─ · agent handoff supervisor → debugger
├─ ✓ call for debugger                                       3.11 s   $0.0002040
│  ├─ ✗ deepseek-reasoner failed: rate limit (HTTP 429)      0.21 s           $0
│  │      it said: too many requests
│  ├─ · gpt-4o-mini steps in for deepseek-reasoner: rate limit
│  └─ ✓ gpt-4o-mini answered: 1,200 in, 40 out               2.90 s   $0.0002040
└─ ✗ tool invocation search notes (debugger)                 0.40 s
       KeyError: 'notes'
""",
    "timeline": """\
trace 019ab000-0000-7000-8000-000000000001 · 2026-11-18 12:00:00 UTC
session s1 · user alice
ended · 3.84 s · 2 calls · 3 attempts · 1 fallback · 1,360 tokens · $0.0002404

    +0.0 ms ✓ session why does my loop never end?   ████████████████     3.84 s
    +0.0 ms   ✓ agent routing debugger (supervisor) █                    0.33 s
   +20.0 ms     ✓ call for supervisor               █                    0.31 s
   +20.0 ms       ✓ deepseek-chat answered: 100 in… █                    0.31 s
    +0.33 s   · agent handoff supervisor → debugger  │
    +0.33 s   ✓ call for debugger                    █████████████       3.11 s
    +0.33 s     ✗ deepseek-reasoner failed: rate l…  █                   0.21 s
    +0.54 s     · gpt-4o-mini steps in for deepsee…   │
    +0.54 s     ✓ gpt-4o-mini answered: 1,200 in, …   ████████████       2.90 s
    +3.44 s   ✗ tool invocation search notes (debu…               ██     0.40 s
""",
    "summary": """\
trace 019ab000-0000-7000-8000-000000000001 · 2026-11-18 12:00:00 UTC
session s1 · user alice
ended · 3.84 s · 2 calls · 3 attempts · 1 fallback · 1,360 tokens · $0.0002404

wall time  3.84 s
work       3.82 s in all steps together
events     14
calls      2 in 3 attempts, 1 fallback
tokens     1,360 (1,300 in, 60 out)
cost       $0.0002404
agents     supervisor, debugger
models     deepseek-chat, deepseek-reasoner, gpt-4o-mini
error      too many requests
error      KeyError: 'notes'
""",
    "killed": """\
trace 019ab000-0000-7000-8000-000000000001 · 2026-11-18 12:00:00 UTC
session s1
cut off · 0.80 s · 2 calls · 120 tokens · $0.0005364 ($0.0005000 of it held)

! session nightly run                                        0.80 s   $0.0005364
│   ! cut off: its process ended before it did
├─ ✓ call for librarian                                      0.80 s  $0.00003640
│  └─ ✓ deepseek-chat answered: 100 in, 20 out               0.80 s  $0.00003640
└─ ! tool invocation index                                            $0.0005000
   │   ! cut off: its process ended before it did
   └─ ! call for librarian                                            $0.0005000
      └─ ! deepseek-chat was asked, no answer known                   $0.0005000
             ! cut off: its process ended before it did
""",
    "open": """\
trace 019ab000-0000-7000-8000-000000000001 · 2026-11-18 12:00:00 UTC
still open · 2.00 s · 1 call · 0 tokens · $0.0005000 ($0.0005000 of it held)

… session now                                                         $0.0005000
└─ … call for debugger                                                $0.0005000
   └─ … deepseek-chat is being asked                                  $0.0005000
""",
    "narrow": """\
trace 019ab000-0000-7000-8000-000000000001
2026-11-18 12:00:00 UTC
session s1 · user alice
ended · 3.84 s · 2 calls · 3 attempts
1 fallback · 1,360 tokens · $0.0002404

✓ session why does my …      3.84 s   $0.0002404
├─ ✓ agent routing deb…      0.33 s  $0.00003640
│  └─ ✓ call for super…      0.31 s  $0.00003640
│     └─ ✓ deepseek-ch…      0.31 s  $0.00003640
├─ · agent handoff supervisor → debugger
├─ ✓ call for debugger       3.11 s   $0.0002040
│  ├─ ✗ deepseek-reaso…      0.21 s           $0
│  │      it said: too many requests
│  ├─ · gpt-4o-mini steps in for deepseek-reaso…
│  └─ ✓ gpt-4o-mini an…      2.90 s   $0.0002040
└─ ✗ tool invocation s…      0.40 s
       KeyError: 'notes'
""",
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_fallback_reads_as_a_story(fallback: Trace, view: str) -> None:
    """Each view of a fallback, at 80 columns: who failed, why, after how long, who answered, what it cost."""
    assert render(fallback, view) + "\n" == GOLDEN[view]


def test_a_killed_process() -> None:
    """What was cut off says so, and what is held for it."""
    assert render(killed(), "tree") + "\n" == GOLDEN["killed"]


def test_while_it_goes_on(stage: Stage) -> None:
    """A trace that has not ended says that it is open."""
    with stage.spans.start_trace(name="now") as trace:
        stage.attempt(stage.call(parent="run-1"), ends=False)
        stage.clock.wait(2)
        assert render(stage.read(trace, later=0), "tree") + "\n" == GOLDEN["open"]


def test_forty_columns(fallback: Trace) -> None:
    """On a narrow terminal lines are cut, figures are not."""
    assert render(fallback, "tree", 48) + "\n" == GOLDEN["narrow"]


def test_control_characters_do_nothing(stage: Stage) -> None:
    """What a model or provider says cannot move the cursor or begin a line of its own."""
    evil = "a\x1b[2Jb\nc\x9bd\u202ee"
    with stage.spans.start_trace(evil, evil, name=evil) as trace:
        stage.spans.log_event("ERROR", error=evil)
        stage.attempt(stage.call(evil), evil, outcome="server_error", error=evil)
    for view in VIEWS:
        text = render(stage.read(trace), view)
        assert all(line.isprintable() for line in text.splitlines())
        assert "\x1b" not in text


@settings(deadline=None, max_examples=100)
@given(st.lists(anything, min_size=1, max_size=20), st.integers(60, 140), st.sampled_from(VIEWS))
def test_any_trace_at_any_width(events: list[Event], width: int, view: str) -> None:
    """Whatever happened, it can be shown, and no line is wider than asked."""
    found = read(events)
    assert found is not None
    assert max(len(line) for line in render(found, view, width).splitlines()) <= width


def test_every_kind_has_words(stage: Stage) -> None:
    """Each kind of event can be shown in every view."""
    ours = {Kind.LLM_CALL_START, Kind.LLM_CALL_END, Kind.MODEL_FALLBACK}
    with stage.spans.start_trace() as trace:
        for kind in set(Kind) - ours:
            stage.spans.log_event(kind, confidence=0.5)
            with stage.spans.start_span(kind, agent_id="dojo"):
                pass
    for view in VIEWS:
        assert render(stage.read(trace), view)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0.0 ms"),
        (0.0123, "12.3 ms"),
        (0.0996, "0.10 s"),
        (59.9, "59.90 s"),
        (125.0, "2 min 5 s"),
    ],
)
def test_durations(value: float | None, text: str) -> None:
    """Durations come in the unit that suits them."""
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "$0"),
        ("0.000000001", "$0.000000001"),
        ("0.0002041", "$0.0002041"),
        ("1.5", "$1.500"),
        ("1234.5", "$1234.50"),
    ],
)
def test_money(amount: str, text: str) -> None:
    """Money has four significant digits and never becomes 0 by rounding."""
    assert money(Decimal(amount)) == text
