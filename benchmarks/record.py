"""CPU time that the record costs: of the calling thread for each call, and of the ledger's thread behind it.

    python -m benchmarks.record [--rounds 7] [--calls 3000] [--loop asyncio] [--in-flight 1]

`disk` is the default (journal and SQLite), `journal` is the same while the ledger waits until the calls are over: on a
machine whose two cores are one core's two threads, each slows the other down. `memory` keeps events until somebody
asks, `dropped` makes the events and throws them away, `none` makes none. The provider runs in a process of its own.
`START + END` is the two events of one attempt alone, from the recorder into the queue. Believe the ratios rather than
the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.measure import IN_FLIGHT
from benchmarks.overhead import MESSAGES
from turnout.clock import Clock
from turnout.settings import load_settings
from turnout.storage import address
from turnout.storage.memory import MemoryRecord
from turnout.storage.record import DiskRecord
from turnout.trace.recorder import Recorder
from turnout.types import Attempt, Call, Closed, Opened, Options, Scope, Usage
from turnout.wiring import LLMClient

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from turnout.settings import Settings
    from turnout.storage.record import Record
    from turnout.types import Event

LEDGERS = {"disk": "ledger thread, beside calls", "journal": "ledger thread, by itself"}
WHO: dict[str, Any] = {"user_id": "alice", "session_id": "s1"}


class Dropped:
    """Keeps nothing."""

    def append(self, _event: Event) -> bool:
        """Throw it away."""
        return True

    async def written(self) -> None:
        """Nothing to wait for."""

    async def durable(self) -> None:
        """Nothing to wait for."""

    @property
    def reports(self) -> Any:
        """None."""
        raise RuntimeError("nothing was kept")

    def close(self) -> None:
        """Nothing to close."""


class Silent(Recorder):
    """Makes no events."""

    def opened(self, *_: Any) -> None:
        """No event."""

    def closed(self, *_: Any) -> None:
        """No event."""


def _settings(home: Path, url: str) -> Settings:
    home.mkdir(exist_ok=True)
    return load_settings(environ={"TURNOUT_HOME": str(home), "OPENAI_BASE_URL": url}, folder=home)


def _client(name: str, home: Path, url: str) -> LLMClient:
    settings = _settings(home / name, url)
    record: Record = Dropped()
    if name in LEDGERS:
        record = DiskRecord(settings, address.read(None, settings.home), Clock())
    elif name == "memory":
        record = MemoryRecord()
    client = LLMClient(settings, record=record)
    if name == "none":
        client._attempts.recorder = Silent(record, Clock())  # noqa: SLF001 - there is no such setting
    return client


def _of(thread: str) -> float:
    """CPU seconds of a thread of this process; of all that have the name."""
    return sum(
        time.clock_gettime(time.pthread_getcpuclockid(one.ident))
        for one in threading.enumerate()
        if one.name == thread and one.ident is not None
    )


async def _calls(
    client: LLMClient, calls: int, in_flight: int, waits: AbstractContextManager[Any]
) -> tuple[float, float]:
    """Microseconds of CPU per call: of this thread, and of the ledger's until everything is in the tables."""

    async def worker() -> None:
        for _ in range(calls // in_flight):
            await client.call("gpt-4o-mini", MESSAGES, **WHO)

    gc.collect()
    gc.freeze()  # what other clients keep is not this one's to look through
    before, ledger = time.thread_time(), _of("turnout-ledger")
    with waits:
        await asyncio.gather(*(worker() for _ in range(in_flight)))
        ours = time.thread_time() - before
    if isinstance(client.record, DiskRecord):
        _settle(client.record)
    unit = 1e6 / (calls // in_flight * in_flight)
    return ours * unit, (_of("turnout-ledger") - ledger) * unit


def _settle(record: DiskRecord) -> None:
    while (status := record.status()) is not None and status[1].behind_bytes:
        if not status[1].alive:
            raise RuntimeError("the ledger's thread has ended")
        time.sleep(0.01)


def _pair() -> tuple[Call, Opened, Closed]:
    clock, price = Clock(), "deepseek-chat@2026-09-01"
    call = Call(
        id=clock.new_id(),
        messages=msgspec.json.encode(MESSAGES),
        options=Options(),
        scope=Scope(agent="debugger", user="alice", session="s1"),
    )
    opened = Opened(
        call=call.id, number=1, model="m", provider="p", hold_nano=1_834_000, input_tokens=903, price_id=price
    )
    attempt = Attempt(
        id=clock.new_id(),
        model="m",
        provider="p",
        started_at=clock.now(),
        seconds=0.8,
        outcome="ok",
        status=200,
        upstream_model="m",
        usage=Usage(input_tokens=903, cached_input_tokens=512, output_tokens=211),
        cost_nano=213_400,
        price_id=price,
    )
    return call, opened, Closed(opened=opened, attempt=attempt, finish_reason="stop")


def _events(client: LLMClient, calls: int) -> float:
    """Microseconds of this thread for the two events of an attempt."""
    call, opened, closed = _pair()
    ids = [client.recorder.trace_id(call) + str(number) for number in range(calls)]
    ended = [
        msgspec.structs.replace(closed, attempt=msgspec.structs.replace(closed.attempt, id=id_))
        for id_ in ids
    ]
    gc.collect()
    before = time.thread_time()
    for id_, end in zip(ids, ended, strict=True):
        client.recorder.opened(call, opened, id_)
        client.recorder.closed(call, end)
    return (time.thread_time() - before) * 1e6 / calls


async def _measure(url: str, chosen: argparse.Namespace, home: Path) -> None:
    clients = {name: _client(name, home, url) for name in (*LEDGERS, "memory", "dropped", "none")}
    caller: dict[str, list[float]] = {name: [] for name in clients}
    ledger: dict[str, list[float]] = {name: [] for name in LEDGERS}
    pairs = []
    for number in range(chosen.rounds + 1):  # the first one warms up and does not count
        for name, client in clients.items():
            waits = _held(client) if number and name == "journal" else contextlib.nullcontext()
            ours, theirs = await _calls(client, chosen.calls, chosen.in_flight, waits)
            if number:
                caller[name].append(ours)
            if number and name in LEDGERS:
                ledger[name].append(theirs)
        pair = _events(clients["disk"], chosen.calls)
        _settle_disk(clients["disk"])
        if number:
            pairs.append(pair)
    for client in clients.values():
        await client.close()
    none = caller["none"]
    print(f"{'us of CPU per call':<28}{'min':>8}{'median':>8}{'max':>8}   beside none")
    for name, values in caller.items():
        ratio = statistics.median(mine / theirs for mine, theirs in zip(values, none, strict=True))
        _line(f"calling thread, {name}", values, f"x {ratio:.2f}")
    for name, values in ledger.items():
        _line(LEDGERS[name], values)
    _line("START + END alone", pairs)


def _held(client: LLMClient) -> AbstractContextManager[Any]:
    """The ledger's thread does nothing meanwhile."""
    if not isinstance(client.record, DiskRecord) or client.record._ledger is None:  # noqa: SLF001 - nobody else wants this
        raise RuntimeError("there is no ledger yet")
    return client.record._ledger.stepping  # noqa: SLF001


def _settle_disk(client: LLMClient) -> None:
    if isinstance(client.record, DiskRecord):
        _settle(client.record)


def _line(title: str, values: list[float], more: str = "") -> None:
    print(
        f"{title:<28}{min(values):>8.1f}{statistics.median(values):>8.1f}{max(values):>8.1f}   {more}".rstrip()
    )


def main() -> None:
    """Start the provider, measure, report."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--calls", type=int, default=3_000)
    options.add_argument("--in-flight", type=int, default=IN_FLIGHT)
    options.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    chosen = options.parse_args()
    factory = asyncio.new_event_loop
    if chosen.loop == "uvloop":
        import uvloop  # noqa: PLC0415

        factory = uvloop.new_event_loop
    command = [sys.executable, "-m", "benchmarks.overhead", "--serve", "--loop", chosen.loop]
    with (
        tempfile.TemporaryDirectory() as home,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,  # noqa: S603
    ):
        try:
            url = f"http://127.0.0.1:{server.stdout.readline().strip() if server.stdout else ''}"
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(_measure(url, chosen, Path(home)))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
