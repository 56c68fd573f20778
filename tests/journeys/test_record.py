"""The record from end to end: killed at any moment, whatever was told is in the tables, once, as the servers saw it."""

from __future__ import annotations

import asyncio
import json
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.journeys.oracle import PROVE, many_files
from tests.journeys.record_books import KILLS, WITHIN, Stage, check_sums, staged, worker
from tests.journeys.record_worker import POINTS
from tests.toxic import Toxic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import MakeClient, Turnout
    from tests.journeys.record_books import Worker
    from turnout.types import Reply
    from turnout.wiring import LLMClient

DEEPEST = 40 if PROVE else 3
"""Each named point is tried at its first, second... passing up to this, and as often at a later one."""
CALLS = 1_000 if PROVE else 200


@pytest.fixture(scope="module")
def process() -> Iterator[Worker]:
    """One for all tests."""
    with worker() as started:
        yield started


@pytest.fixture
def stage(tmp_path: Path, process: Worker) -> Iterator[Stage]:
    """On a SQLite file."""
    home = tmp_path / "home"
    with staged(home, f"sqlite:///{home}/turnout.db", process) as made:
        yield made


def test_killed_at_random(stage: Stage, turnout: Turnout) -> None:
    """Told an answer: its attempts are settled, once. Begun and never told: closed at full hold in five seconds.

    The last one is closed by `turnout costs`, which counts every attempt of all.
    """
    slowest = max(stage.kill(f"r{number}") for number in range(KILLS))
    stage.kill("last", adopt=False)
    began = monotonic()
    done = turnout("costs", "--json", **stage.env)
    slowest = max(slowest, monotonic() - began)
    stage.compare()
    total = json.loads(done.stdout)["total"]
    stage.report("killed at random", slowest)
    check_sums(stage.store)
    assert total["attempts"] == sum(tally.settled + tally.expired for tally in stage.tallies)
    assert slowest < WITHIN
    assert sum(tally.expired for tally in stage.tallies) > KILLS


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point(stage: Stage, point: str) -> None:
    """The same before the n-th write, flush, statement, commit or removal, and right after a commit."""
    later = stage.chance.sample(range(DEEPEST, 50 + 2 * DEEPEST), DEEPEST)
    slowest = max(
        stage.kill(f"{point}{nth}", point=point, nth=nth) for nth in (*range(1, DEEPEST + 1), *later)
    )
    stage.report(f"killed at {point}", slowest)
    check_sums(stage.store)
    assert slowest < WITHIN


def test_killed_on_a_slow_disk(stage: Stage) -> None:
    """The same where every write takes 30 ms, so that many calls wait for each: whatever was sent or told is there."""
    slowest = max(stage.kill(f"s{number}", slow=True) for number in range(KILLS // 3))
    stage.report("killed on a slow disk", slowest)
    check_sums(stage.store)
    assert slowest < WITHIN


@pytest.mark.parametrize("point", ["statement", "commit", "committed", "remove"])
def test_killed_while_taking_over(stage: Stage, point: str) -> None:
    """Each is killed within the take-over of those before it; who comes last and lives closes all of them in time."""
    for nth in range(1, DEEPEST + 3):
        stage.kill(f"{point}{nth}", adopt=False, point=point, nth=nth)
    seconds = stage.live("heir")
    stage.compare()
    stage.report(f"killed at {point} of a take-over", seconds)
    check_sums(stage.store)
    assert seconds < WITHIN


async def ask(client: LLMClient, number: int, *, traced: bool) -> Reply:
    """A call with its number as session; every other one within a trace of the application's."""
    nonce = f"n{number}"
    messages = [{"role": "user", "content": f"<{nonce}> hello"}]
    if not traced:
        return await client.call_with_fallback("dojo", messages, session_id=nonce)
    with client.recorder.spans.start_trace(nonce, nonce, name=nonce):
        with client.recorder.spans.start_span("TOOL_INVOCATION", name=nonce):
            return await client.call_with_fallback("dojo", messages)


async def test_nobody_is_in_anothers_trace(make_client: MakeClient, tmp_path: Path) -> None:
    """So many calls at once, all in flight together: each trace holds its own events and all of them."""
    many_files()
    async with Toxic(f"together-{CALLS}") as server:
        env = {"DEEPSEEK_BASE_URL": server.url, "TURNOUT_DATABASE_URL": f"sqlite:///{tmp_path}/t.db"}
        async with make_client(**env) as client:
            replies = await asyncio.gather(*(ask(client, n, traced=bool(n % 2)) for n in range(CALLS)))
            traces = [await asyncio.to_thread(client.reports.trace, reply.trace_id) for reply in replies]
    for number, (reply, events) in enumerate(zip(replies, traces, strict=True)):
        kinds = [str(event.kind) for event in events]
        assert {event.session for event in events} == {f"n{number}"}
        assert [event.span for event in events if event.kind == "LLM_CALL_END"] == [reply.attempts[0].id]
        assert len(kinds) == (6 if number % 2 else 2), kinds
    print(f"\n{CALLS} calls at once: {sum(map(len, traces))} events, 0 in another's trace")
