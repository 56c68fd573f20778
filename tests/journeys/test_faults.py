"""Every fault x plain and streamed x with and without a backup x both transports, under one oracle."""

from __future__ import annotations

import asyncio
import contextlib
import random
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from tests.journeys.expectations import AIOHTTP, BIG, EXPECTED
from tests.journeys.oracle import KEY, PROMPT, PROVE, Run, Way, faults, listening, open_files, shown
from tests.toxic import FAULTS, Toxic, refused_url
from turnout import errors
from turnout.settings import load_settings
from turnout.wiring import LLMClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import MakeClient
    from tests.journeys.oracle import Log, Outcome
    from turnout.types import Reply

HURRY, PATIENCE, LEISURE = 1.5, 10.0, 30.0
"""Total deadlines: of faults that only a deadline ends, of the others, and of big ones."""
FIRST_TOKEN = 0.5
"""And the idle deadline, in a hurry."""
AT_ONCE = {PATIENCE: 48, HURRY: 16, LEISURE: 1}
"""A busy processor must not make the hurried ones late."""
SEED = 20261127
REUSED = ("reset-once-on-reuse", "close-on-reuse", "stale", "stale-2ms")
HI = [{"role": "user", "content": f"{PROMPT} hi"}]

Matrix = dict[str, list[tuple[Run, list[str]]]]


def ways(name: str, sampled: set[str]) -> Iterator[Way]:
    """Every way on our own transport, and on the other one for a sample of the faults."""
    for transport in ("turnout", "aiohttp") if name in sampled else ("turnout",):
        for mode in ("plain", "stream"):
            for backup in (True, False):
                yield Way(mode, backup, transport)


class Bench:
    """Two servers, a client for every run, and what all of them logged."""

    def __init__(self, folder: Path, first: Toxic, second: Toxic, log: Log) -> None:
        self.folder, self.first, self.second, self.log = folder, first, second, log
        self._turns = {total: asyncio.Semaphore(number) for total, number in AT_ONCE.items()}

    def client(self, fault: str, way: Way) -> tuple[LLMClient, float]:
        """A client whose first provider has the fault, and its total deadline."""
        reasons = {outcome.reason for outcome in EXPECTED[fault].values()}
        late = "timeout" in reasons and fault != "408"
        total = LEISURE if fault.startswith(tuple(BIG)) else HURRY if late else PATIENCE
        first = FIRST_TOKEN if late else total
        env = {
            "TURNOUT_HOME": str(self.folder),
            "TURNOUT_TRANSPORT": way.transport,
            "TURNOUT_TIMEOUT": str(total),
            "TURNOUT_FIRST_TOKEN_TIMEOUT": str(first),
            "TURNOUT_IDLE_TIMEOUT": str(first),
            "DEEPSEEK_API_KEY": KEY,
            "OPENAI_API_KEY": f"{KEY}-2",
            "DEEPSEEK_BASE_URL": self.first.url_of(fault),
            "OPENAI_BASE_URL": self.second.url,
        }
        return LLMClient(load_settings(environ=env, folder=self.folder)), total

    async def run(self, fault: str, way: Way, client: LLMClient, total: float) -> tuple[Run, list[str]]:
        """One call, and what is wrong with it."""
        nonce = f"<{fault}, {way}>"
        messages = [{"role": "user", "content": f"{PROMPT} {nonce}"}]
        async with self._turns[total], client:
            began = monotonic()
            streamed, came = await made(client, way, messages)
            seconds = monotonic() - began
            asked = [seen for seen in self.first.requests if nonce.encode() in seen.body]
            ours = {seen.connection for seen in asked}
            kept_busy = await self._left(lambda: ours & self.first.answering)
        trace = came.request_id if isinstance(came, errors.TurnoutError) else came.trace_id
        events = [event for event in self.log.events if event["trace_id"] == trace]
        lines = [line for line in self.log.lines if str(trace) in line]
        backup_asked = sum(nonce.encode() in seen.body for seen in self.second.requests)
        run = Run(
            way,
            came,
            streamed,
            seconds,
            total,
            len(asked),
            backup_asked,
            events,
            shown(came, lines),
        )
        wrong = list(faults(run, expected(fault, way), quoted=fault == "400-echo"))
        wrong += [f"connections {kept_busy} still answer a call that is over"] if kept_busy else []
        left = await self._left(lambda: ours & self.first.open_numbers)
        wrong += [f"connections {left} outlived the client"] if left else []
        return run, wrong

    async def _left(self, connections: Callable[[], set[int]]) -> set[int]:
        """Which of them are left a second later."""
        with contextlib.suppress(TimeoutError):
            await self.first.until(lambda: not connections(), within=1.0)
        return connections()


def expected(fault: str, way: Way) -> Outcome:
    """The fault's row."""
    row = AIOHTTP.get(fault) if way.transport == "aiohttp" else None
    return (row or EXPECTED[fault])[way.mode]


async def made(
    client: LLMClient, way: Way, messages: list[dict[str, str]]
) -> tuple[str, Reply | errors.TurnoutError]:
    """The text that was streamed, and the reply or the error."""
    streamed, reply = "", None
    model = None if way.backup else "deepseek-chat"
    try:
        if way.mode == "stream":
            async for delta in client.stream("dojo", messages, model=model):
                assert reply is None
                streamed, reply = streamed + delta.text, delta.reply
        else:
            call = client.call(model, messages) if model else client.call_with_fallback("dojo", messages)
            reply = await call
    except errors.TurnoutError as error:
        return streamed, error
    assert reply is not None
    return streamed, reply


async def everything(folder: Path) -> Matrix:
    """All runs: the small faults many at once, the big ones one after the other; and nothing is left behind."""
    names = sorted(EXPECTED.keys() - BIG.keys() if not PROVE else EXPECTED.keys())
    sampled = set(names if PROVE else random.Random(SEED).sample(names, len(names) // 4))  # noqa: S311
    tasks, files = asyncio.all_tasks(), open_files()
    matrix: Matrix = {}
    with listening() as log:
        async with Toxic() as first, Toxic() as second:
            bench = Bench(folder, first, second, log)
            jobs = [(name, way, *bench.client(name, way)) for name in names for way in ways(name, sampled)]
            done: list[tuple[Any, tuple[Run, list[str]]]] = []
            for total in AT_ONCE:
                some = [job for job in jobs if job[-1] == total]
                done += zip(some, await asyncio.gather(*(bench.run(*job) for job in some)), strict=True)
    for (name, *_), seen in done:
        matrix.setdefault(name, []).append(seen)
    if left := asyncio.all_tasks() - tasks:
        await asyncio.wait(left, timeout=1.0)
    assert asyncio.all_tasks() == tasks
    assert open_files() <= files
    return matrix


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """All runs by fault."""
    return asyncio.run(everything(tmp_path_factory.mktemp("faults")))


def test_every_fault_has_an_expectation() -> None:
    """A fault that is new to the server is not passed over, nor is one expected that it does not know."""
    assert {name for name in EXPECTED if name not in BIG.values()} == FAULTS.keys()


@pytest.mark.parametrize("fault", sorted(EXPECTED.keys() - BIG.keys() if not PROVE else EXPECTED))
def test_faults(matrix: Matrix, fault: str) -> None:
    """The whole answer or an error, in time, paid for, told in full and leaving nothing open, on every way."""
    wrong = {str(run.way): wrong for run, wrong in matrix[fault] if wrong}
    assert not wrong
    assert len(matrix[fault]) in {4, 8}


@pytest.mark.parametrize("mode", ["plain", "stream"])
@pytest.mark.parametrize("fault", REUSED)
async def test_a_stale_connection_is_one_attempt(make_client: MakeClient, fault: str, mode: str) -> None:
    """A kept connection that has died meanwhile is replaced within the same attempt: sent again once at most."""
    way = Way(mode, backup=True, transport="turnout")
    async with Toxic(fault) as first, Toxic() as second:
        async with make_client(DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.url) as client:
            for _ in range(2):
                _, came = await made(client, way, HI)
                assert [attempt.outcome for attempt in came.attempts] == ["ok"]
        assert len(first.requests) == (3 if fault in REUSED[:2] else 2)
        assert second.requests == []


@pytest.mark.parametrize("mode", ["plain", "stream"])
@pytest.mark.parametrize("fault", REUSED)
async def test_a_stale_connection_of_aiohttp(make_client: MakeClient, fault: str, mode: str) -> None:
    """The other transport sends nothing twice: what dies on a kept connection is an attempt of its own."""
    way = Way(mode, backup=True, transport="aiohttp")
    async with Toxic(fault) as first, Toxic() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url}
        async with make_client(TURNOUT_TRANSPORT="aiohttp", **env) as client:
            came = [(await made(client, way, HI))[1] for _ in range(2)]
        outcomes = [attempt.outcome for each in came for attempt in each.attempts]
        read = fault in REUSED[:2]
        lost = outcomes.count("connect_error")
        assert len(outcomes) - (0 if read else lost) == len(first.requests) + len(second.requests)
    assert outcomes == (["ok", "connect_error", "ok"] if read or lost else ["ok", "ok"])


@pytest.mark.parametrize("transport", ["turnout", "aiohttp"])
@pytest.mark.parametrize("mode", ["plain", "stream"])
async def test_nobody_listens(make_client: MakeClient, mode: str, transport: str) -> None:
    """A refused connection costs nothing, and the backup answers."""
    way = Way(mode, backup=True, transport=transport)
    with refused_url() as nobody:
        async with Toxic() as second:
            env = {"DEEPSEEK_BASE_URL": nobody, "OPENAI_BASE_URL": second.url}
            async with make_client(TURNOUT_TRANSPORT=transport, **env) as client:
                _, came = await made(client, way, HI)
    assert [(attempt.outcome, attempt.usage is None) for attempt in came.attempts] == [
        ("connect_error", True),
        ("ok", False),
    ]
    assert came.attempts[0].cost_nano == 0
