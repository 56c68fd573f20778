"""Calls acted out on a clock that moves only when told: what a recorder is told by the engine, in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnout.clock import Clock
from turnout.trace.memory import MemorySink
from turnout.trace.recorder import Recorder
from turnout.trace.views import Trace, read
from turnout.types import Attempt, Call, Closed, Opened, Options, Scope, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnout.trace.privacy import Privacy
    from turnout.trace.recorder import Exporter

NOON = 1_795_003_200_000_000
"""A moment in November 2026, in microseconds UTC."""


class StageClock(Clock):
    """Ids count up and time stands still."""

    def __init__(self) -> None:
        self.at = NOON
        self.made = 0

    def now(self) -> int:
        """As told."""
        return self.at

    def monotonic(self) -> float:
        """As told."""
        return self.at / 1e6

    def new_id(self) -> str:
        """The next one."""
        self.made += 1
        return f"019ab000-0000-7000-8000-{self.made:012x}"

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.at += round(seconds * 1e6)


class Stage:
    """A recorder over memory."""

    def __init__(self, privacy: Privacy | None = None, exporters: Sequence[Exporter] = ()) -> None:
        self.clock = StageClock()
        self.memory = MemorySink()
        self.recorder = Recorder(self.memory, self.clock, privacy, exporters)
        self.spans = self.recorder.spans

    def call(self, agent: str = "debugger", **scope: Any) -> Call:
        """A call that is about to be made."""
        content = b'[{"role":"user","content":"why does my loop never end?"}]'
        return Call(
            id=self.clock.new_id(), messages=content, options=Options(), scope=Scope(agent=agent, **scope)
        )

    def attempt(self, call: Call, model: str = "deepseek-chat", *, ends: bool = True, **told: Any) -> str:
        """One attempt from start to end, or only begun; its id."""
        number, seconds = told.pop("number", 1), told.pop("seconds", 1.0)
        opened = Opened(
            call=call.id,
            number=number,
            model=model,
            provider=told.pop("provider", "deepseek"),
            hold_nano=500_000,
            tags=call.scope.tags,
            run=call.scope.parent,
        )
        id_ = self.clock.new_id()
        began = self.clock.now()
        self.recorder.opened(call, opened, id_)
        if not ends:
            return id_
        self.clock.wait(seconds)
        told = {
            "outcome": "ok",
            "usage": Usage(input_tokens=100, output_tokens=20),
            "cost_nano": 36_400,
            **told,
        }
        attempt = Attempt(
            id=id_, model=model, provider=opened.provider, started_at=began, seconds=seconds, **told
        )
        self.recorder.closed(call, Closed(opened=opened, attempt=attempt, finish_reason="stop"))
        return id_

    def fallback(self, call: Call) -> None:
        """The first model is rate-limited, the second answers."""
        self.attempt(
            call,
            "deepseek-reasoner",
            seconds=0.21,
            outcome="rate_limit",
            status=429,
            error="too many requests",
            usage=None,
            cost_nano=0,
        )
        self.recorder.fallback(
            call, from_model="deepseek-reasoner", to_model="gpt-4o-mini", reason="rate_limit"
        )
        usage = Usage(input_tokens=1_200, output_tokens=40)
        self.attempt(
            call,
            "gpt-4o-mini",
            provider="openai",
            number=2,
            seconds=2.9,
            status=200,
            usage=usage,
            cost_nano=204_000,
        )
        self.recorder.finished(call)

    def read(self, trace: str, *, later: float = 3_600.0) -> Trace:
        """A trace as somebody sees it some seconds later, an hour unless told."""
        found = read(self.memory.trace(str(trace)), self.clock.at + round(later * 1e6))
        assert found is not None
        return found


class Runtime:
    """What `turnout.trace` reaches for: the recorder, and the reports that read back what it wrote."""

    def __init__(self) -> None:
        self.reports = MemorySink()
        self.recorder = Recorder(self.reports, Clock())
