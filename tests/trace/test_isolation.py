"""Traces that run at the same time never mix: in tasks, in threads, over processes."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from turnout.clock import Clock
from turnout.trace.memory import MemorySink
from turnout.trace.recorder import Recorder
from turnout.trace.views import read
from turnout.types import Attempt, Call, Closed, Event, Opened, Options, Scope

if TYPE_CHECKING:
    from tests.trace.stage import Stage
    from turnout.trace.active import OpenTrace

SEED = 20261125


class Crowd:
    """Traces that do random things at random moments, each carrying its nonce in all it says."""

    def __init__(self, seed: int) -> None:
        self.memory = MemorySink()
        self.clock = Clock()
        self.recorder = Recorder(self.memory, self.clock)
        self.dice = random.Random(seed)  # noqa: S311 - a seeded test

    async def one(self, nonce: str) -> str:
        """A trace with spans, calls and child tasks, as deep as the dice say."""
        spans = self.recorder.spans
        with spans.start_trace(nonce, nonce, nonce=nonce) as trace:
            await self._steps(nonce, 3)
            await asyncio.gather(*(self._steps(nonce, 2) for _ in range(self.dice.randrange(3))))
        return str(trace)

    async def _steps(self, nonce: str, depth: int) -> None:
        for _ in range(self.dice.randrange(1, 4)):
            await self._pause()
            self.recorder.spans.log_event("SAFETY_SWITCH", nonce=nonce)
            with self.recorder.spans.start_span("TOOL_INVOCATION", nonce=nonce):
                await self._call(nonce)
                if depth:
                    await self._steps(nonce, depth - 1)

    async def _call(self, nonce: str) -> None:
        call = Call(
            id=self.clock.new_id(),
            messages=b"[]",
            options=Options(),
            scope=Scope(agent=nonce, user=nonce, session=nonce, tags={"nonce": nonce}),
        )
        opened = Opened(call=call.id, number=1, model="m", provider="p", tags=call.scope.tags)
        id_ = self.clock.new_id()
        self.recorder.opened(call, opened, id_)
        await self._pause()
        attempt = Attempt(
            id=id_, model="m", provider="p", started_at=1, seconds=0.0, outcome="ok", cost_nano=1
        )
        self.recorder.closed(call, Closed(opened=opened, attempt=attempt))

    async def _pause(self) -> None:
        for _ in range(self.dice.randrange(3)):
            await asyncio.sleep(0)


def nonces(events: list[Event]) -> set[str]:
    """Every nonce that some events carry."""
    found = set()
    for event in events:
        found |= {event.user or "", event.session or ""}
        for facts in (event.facts, event.facts.get("opened", {})):
            found |= {(facts.get(name) or {}).get("nonce", "") for name in ("metadata", "tags")}
    return found - {""}


async def crowd(number: int, seed: int) -> int:
    """Run traces together; the number of events. Raises when one of them is in another's trace."""
    group = Crowd(seed)
    names = [f"nonce-{index}" for index in range(number)]
    traces = await asyncio.gather(*(group.one(name) for name in names))
    total = 0
    for name, trace in zip(names, traces, strict=True):
        events = group.memory.trace(trace)
        assert nonces(events) == {name}
        found = read(events)
        assert found is not None
        assert found.summary.marks == []
        assert found.summary.total_cost_nano == found.summary.attempts == found.summary.calls
        assert len(found.tree) == 1
        total += len(events)
    assert group.recorder.failures == 0
    assert len(set(traces)) == number
    assert total == sum(len(group.memory.trace(trace)) for trace in group.memory.latest_traces(number + 1))
    return total


async def test_concurrent_traces() -> None:
    """200 traces at once (`python -m tests.trace.test_isolation`: 1,000): none has another's event."""
    assert await crowd(200, SEED) > 5_000


def test_threads(stage: Stage) -> None:
    """A thread inherits no trace; handed a parent it stands in that, and its traces do not mix with others'."""
    start = threading.Barrier(8)

    def work(parent: OpenTrace, name: str) -> None:
        stage.spans.log_event("ERROR", name="nowhere")
        start.wait(10)
        for step in range(50):
            with stage.spans.start_span("TOOL_INVOCATION", parent=parent, name=f"{name} {step}"):
                stage.spans.log_event("SAFETY_SWITCH", name=name)

    parents = []
    for index in range(8):
        with stage.spans.start_trace(name=f"trace {index}") as trace:
            parents.append(trace)
    with ThreadPoolExecutor(8) as pool:
        for index, parent in enumerate(parents):
            pool.submit(work, parent, f"thread {index}")
    for index, parent in enumerate(parents):
        (root,) = stage.read(parent).tree
        assert [child.name for child in root.children] == [f"thread {index} {step}" for step in range(50)]
        assert {inner.name for child in root.children for inner in child.children} == {f"thread {index}"}
    assert stage.recorder.failures == 0


CHILD = """
import sys
import msgspec
from turnout.clock import Clock
from turnout.trace.recorder import Recorder

class Printer:
    def append(self, event):
        sys.stdout.buffer.write(msgspec.json.encode(event) + b"\\n")

spans = Recorder(Printer(), Clock()).spans
with spans.start_trace(parent=sys.argv[1], name="child"):
    with spans.start_span("TOOL_INVOCATION", name="in the child"):
        if sys.argv[2] == "dies":
            sys.stdout.flush()
            import os
            os.kill(os.getpid(), 9)
"""


def child(parent: str, end: str) -> list[Event]:
    """What a process of its own records in a parent's span."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", CHILD, parent, end], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == (0 if end == "ends" else -9), done.stderr
    return [msgspec.json.decode(line, type=Event) for line in done.stdout.splitlines()]


def test_processes(stage: Stage) -> None:
    """Another process, given the header, stands in this one's span, in the same trace."""
    with (
        stage.spans.start_trace(name="parent") as trace,
        stage.spans.start_span("TOOL_INVOCATION", name="run") as span,
    ):
        theirs = child(span.traceparent, "ends")
    found = read([*theirs, *stage.memory.trace(trace)])
    assert found is not None
    (root,) = found.tree
    run = root.children[0]
    assert (root.name, run.name, run.children[0].name) == ("parent", "run", "child")
    assert run.children[0].children[0].name == "in the child"
    assert found.summary.marks == []


def test_a_killed_process(stage: Stage) -> None:
    """What a killed process left open is shown closed and marked; the parent's own spans are not."""
    with stage.spans.start_trace(name="parent") as trace:
        theirs = child(trace.traceparent, "dies")
    assert [str(event.kind) for event in theirs] == ["SESSION_START", "TOOL_INVOCATION"]
    found = read([*theirs, *stage.memory.trace(trace)])
    assert found is not None
    assert found.tree[0].state == "ok"
    assert [node.state for node in (found.tree[0].children[0], found.tree[0].children[0].children[0])] == [
        "left open"
    ] * 2
    alone = read(theirs)
    assert alone is not None
    assert (alone.summary.state, alone.ended_at is None) == ("cut off", False)
    assert alone.summary.marks == [
        "child: cut off: its process ended before it did",
        "in the child: cut off: its process ended before it did",
    ]


if __name__ == "__main__":
    counted = asyncio.run(crowd(1_000, SEED))
    print(f"1,000 concurrent traces, seed {SEED}: {counted:,} events, 0 in another's trace")
