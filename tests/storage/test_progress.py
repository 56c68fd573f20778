"""Waiting for a number: everybody is woken once it is there, in his own loop, and nobody waits longer than he said."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.journals import until
from turnout.storage.progress import JOINS_WITHIN, Progress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LONG = 60.0


def elsewhere(run: ThreadPoolExecutor, wait: Callable[[], Awaitable[bool]]) -> Callable[[], bool]:
    """Wait in a thread with a loop of its own; gives back what asks for the result."""

    async def main() -> bool:
        return await wait()

    return run.submit(lambda: asyncio.run(main())).result


async def parked(progress: Progress[int], count: int) -> None:
    """Let tasks run until so many cohorts wait."""
    await asyncio.to_thread(until, lambda: len(progress._cohorts) >= count)


@given(marks=st.lists(st.integers(1, 6), max_size=12), steps=st.lists(st.integers(0, 7), max_size=8))
@settings(deadline=None, max_examples=60)
def test_who_is_woken(marks: list[int], steps: list[int]) -> None:
    """At every step exactly those are through whose mark is reached, however many share it; it never goes back."""

    async def main() -> None:
        progress, so_far = Progress(0), 0
        tasks = [asyncio.create_task(progress.reach(mark, LONG)) for mark in marks]
        await asyncio.sleep(0)
        assert len(progress._cohorts) == len(set(marks))
        for step in steps:
            await asyncio.to_thread(progress.advance, step)
            so_far = max(so_far, step)
            done = [task for mark, task in zip(marks, tasks, strict=True) if mark <= so_far]
            assert all(await asyncio.gather(*done))
            assert progress.value == so_far
            assert sum(task.done() for task in tasks) == len(done)
        progress.give_up()
        assert [await task for task in tasks] == [mark <= so_far for mark in marks]
        assert await progress.reach(so_far, 0)

    asyncio.run(main())


def test_loops_and_threads() -> None:
    """Coroutines of several loops and threads that have none wait for the same mark, and all are woken."""
    progress = Progress(0)
    with ThreadPoolExecutor(6) as run:
        waiting = [elsewhere(run, lambda: progress.reach(1, LONG)) for _ in range(4)]
        waiting += [run.submit(progress.wait, 1, LONG).result for _ in range(2)]
        until(lambda: len(progress._cohorts) == 4)
        progress.advance(1)
        assert [result() for result in waiting] == [True] * 6
        assert progress.wait(1, 0)


def test_a_loop_that_has_ended() -> None:
    """A loop that was closed while somebody waited in it keeps nobody else from being woken."""
    progress = Progress(0)
    ended = asyncio.new_event_loop()
    task = ended.create_task(progress.reach(1, LONG))
    ended.call_soon(ended.stop)
    ended.run_forever()
    ended.close()

    async def main() -> bool:
        other = asyncio.create_task(progress.reach(1, LONG))
        await parked(progress, 2)
        await asyncio.to_thread(progress.advance, 1)
        return await other

    assert asyncio.run(main())
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]


async def test_who_leaves_leaves_alone() -> None:
    """Of many who share a wait one is cancelled: the others wait on, and are woken."""
    progress = Progress(0)
    first, second, third = (asyncio.create_task(progress.reach(1, LONG)) for _ in range(3))
    await parked(progress, 1)
    first.cancel()
    await asyncio.wait([first])
    assert (first.cancelled(), second.done(), third.done()) == (True, False, False)
    await asyncio.to_thread(progress.advance, 1)
    assert all(await asyncio.gather(second, third))


@pytest.mark.parametrize("late", [0.0, JOINS_WITHIN / 2, 2 * JOINS_WITHIN])
async def test_patience(late: float) -> None:
    """Nobody waits longer than he said, nor a tenth of a second less, whoever waited for the same before him."""
    progress, patience = Progress(0), 0.4
    first = asyncio.create_task(progress.reach(1, patience))
    await parked(progress, 1)

    async def join() -> float:
        began = monotonic()
        assert not await progress.reach(1, patience)
        return monotonic() - began

    await asyncio.sleep(late)
    second = asyncio.create_task(join())
    await asyncio.sleep(0)
    assert len(progress._cohorts) == (2 if late > JOINS_WITHIN else 1)
    assert not await first
    assert patience - JOINS_WITHIN - 0.01 <= await second < patience + 0.3
    assert progress._cohorts == []


async def test_giving_up() -> None:
    """Who waits when it is given up is told so, in coroutines and threads; who comes then waits anew."""
    progress = Progress(0)
    task = asyncio.create_task(progress.reach(1, LONG))
    thread = asyncio.create_task(asyncio.to_thread(progress.wait, 1, LONG))
    await parked(progress, 1)
    while not thread.done():
        await asyncio.to_thread(progress.give_up)
    assert (await task, await thread) == (False, False)
    again = asyncio.create_task(progress.reach(1, LONG))
    await parked(progress, 1)
    await asyncio.to_thread(progress.advance, 1)
    assert await again


def test_many_at_once() -> None:
    """Four loops that each wait for thousands of marks, moved on by a thread of their own: none is missed."""
    marks = 2_500
    progress = Progress(0)
    over = threading.Event()

    async def waiter() -> bool:
        for mark in range(1, marks + 1):
            if not await progress.reach(mark, LONG):
                return False
        return True

    def mover() -> None:
        while not over.is_set() and progress.value < marks:
            progress.advance(progress.value + 1)

    with ThreadPoolExecutor(5) as run:
        results = [elsewhere(run, waiter) for _ in range(4)]
        run.submit(mover)
        try:
            assert all(result() for result in results)
        finally:
            over.set()
