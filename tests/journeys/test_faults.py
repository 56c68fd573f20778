"""Every fault x plain and streamed x with and without a backup x both transports, under one oracle."""

from __future__ import annotations

import asyncio
import contextlib
import random
from time import monotonic
from typing import TYPE_CHECKING, Literal, NamedTuple

import pytest

from tests.journeys.expectations import AIOHTTP, BIG, EXPECTED
from tests.journeys.oracle import (
    KEY,
    PROVE,
    Run,
    Way,
    faults,
    listening,
    made,
    many_files,
    open_files,
    shown,
)
from tests.toxic import FAULTS, Toxic
from turnout import errors
from turnout.settings import load_settings
from turnout.wiring import LLMClient

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.oracle import Log, Outcome

HURRY, PATIENCE, LEISURE = 1.5, 10.0, 30.0
"""Total deadlines: of faults that only a deadline ends, of the others, and of big ones."""
FIRST_TOKEN = 0.5
"""And the idle deadline, in a hurry."""
AT_ONCE = {PATIENCE: 48, HURRY: 16, LEISURE: 1}
"""A busy processor must not make the hurried ones late."""
SEED = 20261127


class Job(NamedTuple):
    """One run to make: its own faulty server, behind an endpoint, a model, a tier and an agent of its own."""

    name: str
    """Of all of those."""
    fault: str
    way: Way
    total: float
    server: Toxic

    @property
    def rows(self) -> str:
        """As turnout.toml has them."""
        name = self.name
        return f"""
[endpoints.{name}]
title = "{name}"
base_url = "{self.server.url}/v1"
codec = "deepseek"
key_vars = ["{name.upper()}_API_KEY"]
[models.{name}]
provider = "{name}"
upstream = "{name}"
context_window = 200_000
max_output = 100
default_output = 10
[agents.{name}]
name = "{name}"
tier = "{name}"
[[prices]]
models = ["{name}"]
from = 2025-01-01T00:00:00Z
input = "1"
output = "2"
source = "ours"
checked = 2026-11-01
"""


class Seen(NamedTuple):
    """A run and all that is wrong with it."""

    run: Run
    wrong: list[str]


Matrix = dict[str, list[Seen]]


def deadline(fault: str) -> float:
    """How long a call with the fault may take."""
    if fault.startswith(tuple(BIG)):
        return LEISURE
    reasons = {outcome.reason for outcome in EXPECTED[fault].values()}
    return HURRY if "timeout" in reasons and fault != "408" else PATIENCE


def planned(names: list[str], sampled: set[str]) -> list[tuple[str, Way]]:
    """Every way on our own transport, and on the other one for a sample of the faults."""
    return [
        (name, Way(mode, backup, transport))
        for name in names
        for transport in (("turnout", "aiohttp") if name in sampled else ("turnout",))
        for mode in ("plain", "stream")
        for backup in (True, False)
    ]


def client(folder: Path, jobs: list[Job], second: Toxic) -> LLMClient:
    """The one client of jobs that have transport and deadline in common."""
    total, transport = jobs[0].total, jobs[0].way.transport
    config = folder / f"{transport}-{total}.toml"
    tiers = [f'{job.name} = ["{job.name}", "gpt-4o-mini", "gpt-6-luna"]\n' for job in jobs]
    config.write_text("".join(["[tiers]\n", *tiers, *(job.rows for job in jobs)]))
    first = FIRST_TOKEN if total == HURRY else total
    env = {
        "TURNOUT_HOME": str(folder),
        "TURNOUT_CONFIG": str(config),
        "TURNOUT_TRANSPORT": transport,
        "TURNOUT_TIMEOUT": str(total),
        "TURNOUT_FIRST_TOKEN_TIMEOUT": str(first),
        "TURNOUT_IDLE_TIMEOUT": str(first),
        "OPENAI_BASE_URL": second.url,
        "OPENAI_API_KEY": KEY,
        **{f"{job.name.upper()}_API_KEY": f"{KEY}-{job.name}" for job in jobs},
    }
    return LLMClient(load_settings(environ=env, folder=folder))


async def seen(job: Job, client: LLMClient, second: Toxic, log: Log) -> Seen:
    """Make a run, and find what is wrong with it."""
    nonce = f"<{job.name}>"
    began = monotonic()
    streamed, came = await made(client, job.way, job.name, job.name, nonce)
    seconds = monotonic() - began
    answering = await still(job.server, "answering")
    trace = came.request_id if isinstance(came, errors.TurnoutError) else came.trace_id
    run = Run(
        way=job.way,
        came=came,
        streamed=streamed,
        seconds=seconds,
        limit=job.total,
        asked=len(job.server.requests),
        backup_asked=sum(nonce.encode() in request.body for request in second.requests),
        events=[event for event in log.events if event["trace_id"] == trace],
        shown=shown(came, [line for line in log.lines if str(trace) in line]),
    )
    wrong = list(faults(run, expected(job.fault, job.way), quoted=job.fault == "400-echo"))
    if answering:
        wrong.append("a second later the server still answered")
    return Seen(run, wrong)


async def still(server: Toxic, what: Literal["answering", "open_connections"]) -> bool:
    """Whether there is any of it left a second later."""
    with contextlib.suppress(TimeoutError):
        await server.until(lambda: not getattr(server, what), within=1.0)
    return bool(getattr(server, what))


def expected(fault: str, way: Way) -> Outcome:
    """The fault's row."""
    row = AIOHTTP.get(fault) if way.transport == "aiohttp" else None
    return (row or EXPECTED[fault])[way.mode]


async def together(folder: Path, jobs: list[Job], second: Toxic, log: Log) -> list[Seen]:
    """The runs of one client; once it is closed, no connection to any of their servers is left."""
    turns = asyncio.Semaphore(AT_ONCE[jobs[0].total])

    async def in_turn(job: Job) -> Seen:
        async with turns:
            return await seen(job, shared, second, log)

    async with client(folder, jobs, second) as shared:
        runs = await asyncio.gather(*map(in_turn, jobs))
    for (run, wrong), job in zip(runs, jobs, strict=True):
        if await still(job.server, "open_connections"):
            wrong.append(f"of {run.asked} requests some connections outlived the client")
    return runs


async def everything(folder: Path) -> Matrix:
    """All runs, one client after the other; in the end no task and no file is left of them."""
    names = sorted(EXPECTED if PROVE else EXPECTED.keys() - BIG.keys())
    sampled = set(names if PROVE else random.Random(SEED).sample(names, len(names) // 4))  # noqa: S311
    tasks, files = asyncio.all_tasks(), open_files()
    matrix: Matrix = {}
    async with contextlib.AsyncExitStack() as stack:
        log = stack.enter_context(listening())
        second = await stack.enter_async_context(Toxic())
        groups: dict[tuple[str, float], list[Job]] = {}
        for number, (fault, way) in enumerate(planned(names, sampled)):
            server = await stack.enter_async_context(Toxic(fault))
            job = Job(f"f{number}", fault, way, deadline(fault), server)
            groups.setdefault((way.transport, job.total), []).append(job)
        for jobs in groups.values():
            for job, one in zip(jobs, await together(folder, jobs, second, log), strict=True):
                matrix.setdefault(job.fault, []).append(one)
    if left := asyncio.all_tasks() - tasks:
        await asyncio.wait(left, timeout=1.0)
    assert asyncio.all_tasks() == tasks
    assert open_files() <= files
    return matrix


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the clients of the matrix write down what happened."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def matrix(folder: Path) -> Matrix:
    """All runs by fault."""
    many_files()
    return asyncio.run(everything(folder))


def test_every_fault_has_an_expectation() -> None:
    """A fault that is new to the server is not passed over, nor is one expected that it does not know."""
    assert {name for name in EXPECTED if name not in BIG.values()} == FAULTS.keys()


@pytest.mark.parametrize("fault", sorted(EXPECTED if PROVE else EXPECTED.keys() - BIG.keys()))
def test_faults(matrix: Matrix, fault: str) -> None:
    """The whole answer or an error, in time, paid for, told in full and leaving nothing open, on every way."""
    wrong = {str(run.way): wrong for run, wrong in matrix[fault] if wrong}
    assert not wrong
    assert len(matrix[fault]) in {4, 8}


def test_the_books(matrix: Matrix, folder: Path) -> None:
    """Of every attempt of every run there is one row in the tables, with the cost that was told."""
    told = [attempt for runs in matrix.values() for run, _ in runs for attempt in run.attempts]
    settings = load_settings(environ={"TURNOUT_HOME": str(folder)}, folder=folder)
    reader = LLMClient(settings)
    lines = reader.reports.costs("model", since=0)
    reader.sync.close()
    print(f"{sum(map(len, matrix.values()))} runs of {len(matrix)} faults, {len(told)} attempts")
    assert sum(line.attempts for line in lines) == len(told)
    assert sum(line.errors for line in lines) == sum(attempt.outcome != "ok" for attempt in told)
    assert sum(line.cost_nano for line in lines) == sum(attempt.cost_nano or 0 for attempt in told)
