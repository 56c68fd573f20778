"""What is remembered of each provider's model, who may ask it, and who waits for a turn."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.routing.conftest import CHAT, MINI, REASONER
from turnout import errors
from turnout.routing.base import Obstacle
from turnout.routing.health import ALL_WELL, Health, ModelHealth
from turnout.types import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.routing.conftest import SetClock
    from turnout.routing.health import Permit

FLASH = ("deepseek", "deepseek-flash")


@pytest.fixture
def health(clock: SetClock) -> Health:
    """Nobody has been asked yet."""
    return Health(clock)


def fail(health: Health, error: errors.ProviderError, times: int = 1) -> ModelHealth | None:
    """So many attempts at CHAT that end so; what the last one turned."""
    turned = None
    for _ in range(times):
        turned = health.enter(CHAT).done(error)
    return turned


def test_in_good_times_there_is_nothing_to_read(health: Health) -> None:
    """A model that answers, or was never asked, is in no snapshot: that is one shared empty mapping."""
    health.enter(CHAT).done()
    assert health.snapshot() is ALL_WELL
    assert (health.obstacle(CHAT), health.obstacle(MINI)) == (None, None)
    assert health.report() == [ModelHealth(provider="deepseek", model="deepseek-flash")]
    assert health.of(MINI) == ModelHealth(provider="openai", model="gpt-4o-mini")


def test_five_faults_stand_in_the_way_of_both_names(health: Health, clock: SetClock) -> None:
    """An open circuit is the upstream's, whichever of our names called it; the call that opens it hears so."""
    assert fail(health, errors.ServerFault(status=500), times=4) is None
    turned = fail(health, errors.ProviderTimeout())
    assert turned == ModelHealth(
        provider="deepseek",
        model="deepseek-flash",
        state="open",
        seconds=30.0,
        faults=5,
        ejected=1,
        last_error=Reason.TIMEOUT,
    )
    clock.pass_by(6)
    why = "its circuit is open for another 24 s, last for timeout"
    assert health.obstacle(REASONER) == Obstacle(Reason.CIRCUIT_OPEN, why, 24.0)
    assert health.snapshot() == {FLASH: Obstacle(Reason.CIRCUIT_OPEN, why, 24.0)}
    assert health.obstacle(MINI) is None


def test_the_probe_decides(health: Health, clock: SetClock) -> None:
    """After the cooldown one call is let through and others see it tried; its success clears the way."""
    fail(health, errors.AuthError(status=401))
    clock.pass_by(30)
    assert (health.of(CHAT).state, health.snapshot()) == ("half_open", {})
    with health.enter(CHAT) as probe:
        why = "its circuit is half open and another call tries it, last for auth_error"
        assert health.obstacle(REASONER) == Obstacle(Reason.CIRCUIT_OPEN, why)
        assert (probe.probe, health.enter(REASONER).probe) == (True, False)
        turned = probe.done()
    assert turned is not None
    assert (turned.state, turned.faults, health.obstacle(CHAT)) == ("closed", 0, None)
    assert health.snapshot() is ALL_WELL


@pytest.mark.parametrize("end", ["cancelled", "left", "429"])
def test_a_probe_that_says_nothing_leaves_its_place(health: Health, clock: SetClock, end: str) -> None:
    """After a probe that was cancelled, dropped or merely told to wait, the next call is the probe."""
    fail(health, errors.AuthError(status=401))
    clock.pass_by(30)
    with health.enter(CHAT) as probe:
        if end == "cancelled":
            probe.cancelled()
        elif end == "429":
            probe.done(errors.RateLimited(status=429))
    assert health.of(CHAT).state == "half_open"
    assert health.enter(CHAT).probe


def test_a_probes_first_token_is_enough(health: Health, clock: SetClock) -> None:
    """A long stream closes the circuit when it begins; breaking off later is one fault like any other."""
    fail(health, errors.AuthError(status=401))
    clock.pass_by(30)
    probe = health.enter(CHAT)
    turned = probe.answering()
    assert turned is not None
    assert (turned.state, turned.in_flight, health.obstacle(CHAT)) == ("closed", 1, None)
    assert probe.done(errors.StreamTruncated()) is None
    now = health.of(CHAT)
    assert (now.state, now.faults, now.in_flight) == ("closed", 1, 0)


def test_only_the_first_word_of_a_permit_counts(health: Health) -> None:
    """An attempt ends once: what is said of it later changes nothing."""
    permit = health.enter(CHAT)
    permit.cancelled()
    for _ in range(9):
        assert permit.done(errors.ServerFault()) is None
        assert permit.answering() is None
    permit.cancelled()
    assert health.report() == [ModelHealth(provider="deepseek", model="deepseek-flash")]


def test_a_failure_another_key_may_mend_is_the_keys(health: Health) -> None:
    """While another key is free neither a refusal nor a 429 is held against the model."""
    for error in (errors.AuthError(status=401), errors.RateLimited(status=429, retry_after=60)):
        assert health.enter(CHAT).done(error, another_key=True) is None
    assert health.report() == [ModelHealth(provider="deepseek", model="deepseek-flash")]


@pytest.mark.parametrize(("seconds", "faults"), [(9.9, 0), (10.0, 1), (math.inf, 1)])
def test_a_hurried_caller_ejects_nobody(health: Health, seconds: float, faults: int) -> None:
    """A timeout counts only when the attempt had been given ten seconds."""
    health.enter(CHAT, seconds).done(errors.ProviderTimeout())
    assert health.of(CHAT).faults == faults


def test_a_retry_after_benches_the_model(health: Health, clock: SetClock) -> None:
    """A provider that asks to be left alone is, for as long as it says, and its circuit stays closed."""
    fail(health, errors.ServerFault(status=503, retry_after=20))
    fail(health, errors.ServerFault(status=503, retry_after=5))
    clock.pass_by(0.5)
    why = "it asked to be left alone for another 20 s"
    assert health.obstacle(CHAT) == Obstacle(Reason.BENCHED, why, 19.5)
    assert (health.of(CHAT).state, health.of(CHAT).seconds) == ("benched", 19.5)
    clock.pass_by(19.5)
    assert (health.obstacle(CHAT), health.of(CHAT).state) == (None, "closed")
    health.enter(CHAT).done()
    assert health.snapshot() is ALL_WELL


def test_an_open_circuit_and_a_rest_end_with_the_later(health: Health, clock: SetClock) -> None:
    """Who is both ejected and benched is asked when both are over."""
    fail(health, errors.PaymentRequired(status=429, retry_after=100))
    obstacle = health.obstacle(CHAT)
    assert obstacle is not None
    assert (obstacle.reason, obstacle.seconds) == (Reason.CIRCUIT_OPEN, 100.0)
    assert obstacle.why == "its circuit is open for another 100 s, last for payment_required"
    clock.pass_by(30)
    assert health.of(CHAT).state == "benched"
    clock.pass_by(70)
    assert health.of(CHAT).state == "half_open"


def test_a_callers_retry_after_benches_nobody(health: Health) -> None:
    """What the caller's own error asks for is not the provider's wish."""
    fail(health, errors.RequestRejected(status=400, retry_after=60))
    assert health.snapshot() is ALL_WELL


def test_429s_never_open_the_circuit(health: Health) -> None:
    """A hundred 429s in a row limit the calls in flight and nothing else."""
    fail(health, errors.RateLimited(status=429), times=100)
    assert health.report() == [
        ModelHealth(provider="deepseek", model="deepseek-flash", limit=1, last_error=Reason.RATE_LIMIT)
    ]
    assert health.snapshot() == {}
    with health.enter(CHAT):
        why = "1 calls are in flight, and it takes about 1 at once"
        assert health.obstacle(CHAT) == Obstacle(Reason.BUSY, why)
    assert health.obstacle(CHAT) is None


async def queue(
    health: Health, calls: int, seconds: float = 60.0
) -> tuple[Permit, list[asyncio.Task[Permit]]]:
    """A limit of one, somebody in flight, and so many calls behind it that wait."""
    fail(health, errors.RateLimited(status=429))
    permit = health.enter(CHAT)
    tasks = [asyncio.create_task(health.turn(CHAT, seconds)) for _ in range(calls)]
    await asyncio.sleep(0)
    assert health.of(CHAT).waiting == calls
    return permit, tasks


async def test_turns_come_in_order(health: Health, clock: SetClock) -> None:
    """Calls over the limit wait, first come first served, and are given what their waiting left of their time."""
    permit, tasks = await queue(health, 3)
    for number, task in enumerate(tasks, 1):
        clock.pass_by(1)
        permit.done(errors.ServerFault())
        permit = await task
        assert permit.seconds == 60.0 - number
        assert (health.of(CHAT).waiting, health.of(CHAT).in_flight) == (3 - number, 1)


async def test_a_newcomer_does_not_overtake(health: Health) -> None:
    """A place that is free but promised is not taken by a call that comes in between."""
    permit, tasks = await queue(health, 1)
    permit.done(errors.ServerFault())
    late = asyncio.create_task(health.turn(CHAT, 60.0))
    first, _ = await asyncio.wait([*tasks, late], return_when=asyncio.FIRST_COMPLETED)
    assert first == set(tasks)
    (await tasks[0]).cancelled()
    assert (await late).seconds == 60.0


async def test_nobody_waits_without_a_limit(health: Health) -> None:
    """A model that never said 429 takes whoever comes."""
    permits = [await health.turn(CHAT, 60.0) for _ in range(1_000)]
    assert health.of(CHAT).in_flight == len(permits)


async def test_successes_let_more_in(health: Health) -> None:
    """Each success of a full house raises the limit, so two of those waiting take one place."""
    permit, tasks = await queue(health, 3)
    permit.done()
    await asyncio.gather(*tasks[:2])
    assert (health.of(CHAT).limit, health.of(CHAT).in_flight, health.of(CHAT).waiting) == (2, 2, 1)
    tasks[2].cancel()
    await asyncio.wait(tasks)


async def test_waiting_ends_with_the_deadline(health: Health) -> None:
    """A turn that does not come in time is a rate limit with words to it, and the place in the queue is gone."""
    permit, tasks = await queue(health, 1, seconds=0.01)
    with pytest.raises(
        errors.RateLimited, match=r"no turn came within 0\.01 s; it takes about 1 calls"
    ) as caught:
        await tasks[0]
    assert (caught.value.provider, caught.value.reason) == ("deepseek", Reason.RATE_LIMIT)
    assert health.of(CHAT).waiting == 0
    permit.done()
    assert health.of(CHAT).in_flight == 0


@pytest.mark.parametrize("order", ["before", "between"])
async def test_cancelling_who_waits_loses_no_place(health: Health, order: str) -> None:
    """A call cancelled before its turn, or just when it came, leaves it to the next."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    permit, tasks = await queue(health, 2)
    if order == "between":
        permit.cancelled()
    tasks[0].cancel()
    permit.cancelled()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    (await tasks[1]).cancelled()
    assert complaints == []
    assert health.report() == [
        ModelHealth(provider="deepseek", model="deepseek-flash", limit=1, last_error=Reason.RATE_LIMIT)
    ]


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads are interrupted as often as the interpreter can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def together(work: Callable[[], object], threads: int) -> None:
    """Run it on so many threads, all beginning at once."""
    gate = threading.Barrier(threads)

    def run() -> None:
        gate.wait()
        work()

    crowd = [threading.Thread(target=run) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()


@pytest.mark.usefixtures("restless")
def test_threads_share_one_memory(health: Health) -> None:
    """Four event loops on four threads keep to one limit, lose no turn and leave nothing in flight."""
    fail(health, errors.RateLimited(status=429))
    seen = []

    async def calls() -> None:
        for _ in range(100):
            with await health.turn(CHAT, 10.0) as permit:
                seen.append(health.of(CHAT).in_flight)
                permit.done(errors.RequestRejected())

    together(lambda: asyncio.run(calls()), threads=4)
    assert (len(seen), max(seen)) == (400, 1)
    assert (health.of(CHAT).in_flight, health.of(CHAT).waiting) == (0, 0)


@pytest.mark.usefixtures("restless")
def test_threads_end_an_attempt_once(health: Health) -> None:
    """Attempts that several threads end at the same moment leave the count at nought."""
    permits = [health.enter(CHAT) for _ in range(2_000)]
    together(lambda: [permit.done() for permit in permits], threads=3)
    assert health.of(CHAT).in_flight == 0


def test_who_waits_on_a_closed_loop_is_passed_over(health: Health) -> None:
    """A loop that was closed with a call waiting on it does not keep its place for ever."""
    fail(health, errors.RateLimited(status=429))
    permit = health.enter(CHAT)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # it complains of the pending task
    task = loop.create_task(health.turn(CHAT, 60.0))
    loop.run_until_complete(asyncio.sleep(0))
    assert health.of(CHAT).waiting == 1
    loop.close()
    permit.cancelled()
    assert (health.of(CHAT).in_flight, health.of(CHAT).waiting) == (0, 0)
    del task
    gc.collect()
    assert (health.of(CHAT).in_flight, health.of(CHAT).waiting) == (0, 0)
