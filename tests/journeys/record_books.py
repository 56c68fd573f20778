"""Three records of the same calls: what the servers saw, what the caller was told, what is in the tables."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import func, select

from tests.journeys.oracle import PROVE
from tests.journeys.record_worker import Line, Order
from tests.toxic import ToxicThread
from turnout.clock import Clock
from turnout.storage import address, tables
from turnout.storage.intake import Intake
from turnout.storage.lines import CostRow
from turnout.storage.segments import Spool
from turnout.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).parents[2]
SEED = 20261128
KILLS = 500 if PROVE else 25
WITHIN = 5.0
"""Seconds that it takes at most until the attempts of a dead process are closed."""
FAULTS = (
    *("ok",) * 30,
    "500",
    "503",
    "truncated-json",
    "reset-mid-body",
    "stream-eof-mid",
    "stream-error-mid",
    "hang",
)
"""Of the first provider. One that makes the transport send twice would make two requests of one attempt."""


class Told(NamedTuple):
    """What a child said."""

    asked: set[str]
    told: dict[str, Line]
    status: int


class Worker:
    """The process that forks the ones that call."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        self._in, self._out = process.stdin, process.stdout

    def run(self, order: Order, *, acks: int = 0, seen: Callable[[Line], None] | None = None) -> Told:
        """Let a child work; kill it once it was told so many answers, if it does not end by itself."""
        self._in.write(msgspec.json.encode(order) + b"\n")
        self._in.flush()
        pid = 0
        asked: set[str] = set()
        told: dict[str, Line] = {}
        for text in self._out:
            line = msgspec.json.decode(text, type=Line)
            if line.ended is not None:
                return Told(asked, told, line.ended)
            pid = line.pid or pid
            if line.asked:
                asked.add(line.asked)
            if line.told:
                told[line.told] = line
                if len(told) == acks:
                    os.kill(pid, signal.SIGKILL)
            if seen:
                seen(line)
        raise RuntimeError("the worker has ended")


@contextmanager
def worker() -> Iterator[Worker]:
    """One such process."""
    command = [sys.executable, "-m", "tests.journeys.record_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:  # noqa: S603
        yield Worker(process)
        assert process.stdin
        process.stdin.close()


def hits(servers: Mapping[str, ToxicThread]) -> Counter[tuple[str, str]]:
    """How often each provider was asked for each call, as the servers counted it."""
    return Counter(
        (re.findall(rb"<([\w-]+)>", request.body)[-1].decode(), provider)
        for provider, server in servers.items()
        for request in server.requests
    )


def rows(store: Store, run: str) -> dict[str, list[CostRow]]:
    """The rows of a run's calls."""
    costs = tables.cost_records
    found: defaultdict[str, list[CostRow]] = defaultdict(list)
    with store.read() as connection:
        for row in connection.execute(select(costs).where(costs.c.session_id.startswith(f"{run}-"))):
            found[row.session_id].append(CostRow(*row))
    return found


class Tally(NamedTuple):
    """What was compared."""

    told: int
    settled: int
    expired: int
    requests: int


def compare(store: Store, run: str, said: Told, seen: Counter[tuple[str, str]]) -> Tally:
    """Fails unless the three records agree: told means settled once, begun means there, nothing is invented."""
    found = rows(store, run)
    assert found.keys() <= said.asked, "a call that nobody made"
    for nonce, line in said.told.items():
        kept = {(row.id, row.provider, row.outcome, row.cost_nano) for row in found[nonce]}
        assert kept == set(map(tuple, line.attempts)), f"{nonce}: told {line.attempts}, kept {kept}"
        assert {row.state for row in found[nonce]} == {"settled"}
        providers = Counter(row.provider for row in found[nonce])
        assert all(seen[nonce, name] == count for name, count in providers.items()), nonce
    mine = {key: count for key, count in seen.items() if key[0].startswith(f"{run}-")}
    for (nonce, provider), count in mine.items():
        states = [row.state for row in found.get(nonce, []) if row.provider == provider]
        assert states.count("settled") <= count <= len(states), f"{nonce}: {count} requests, rows {states}"
    every = [row for kept in found.values() for row in kept]
    expired = [row for row in every if row.state == "expired_estimated"]
    assert all(row.state != "reserved" for row in every), "a reservation is left"
    assert all(row.cost_nano == row.hold_nano and row.hold_nano for row in expired)
    assert not {row.session_id for row in expired} & said.told.keys()
    return Tally(len(said.told), len(every) - len(expired), len(expired), sum(mine.values()))


def check_sums(store: Store) -> None:
    """Fails unless every sum is that of the rows it is made of, and every event is there once."""
    costs = tables.cost_records
    every, with_session, with_user = (None, costs.c.session_id.is_not(None), costs.c.user_id.is_not(None))
    sums = {"traces": every, "rollup_hours": every, "sessions": with_session, "user_monthly_usage": with_user}
    with store.read() as connection:
        for name, which in sums.items():
            rows = select(func.count(), func.sum(costs.c.cost_nano)).where(costs.c.state != "reserved")
            table = tables.metadata.tables[name]
            summed = select(func.sum(table.c.attempts), func.sum(table.c.cost_nano))
            expected = connection.execute(rows if which is None else rows.where(which)).one()
            assert [value or 0 for value in connection.execute(summed).one()] == [
                value or 0 for value in expected
            ], name
        twice = select(func.count(tables.events.c.id) - func.count(tables.events.c.id.distinct()))
        assert connection.execute(twice).scalar() == 0


class Stage:
    """Two providers, of which the first often fails, one home folder, and the process whose children are killed."""

    def __init__(self, home: Path, url: str, process: Worker, servers: dict[str, ToxicThread]) -> None:
        home.mkdir(exist_ok=True)
        self.chance = random.Random(SEED)  # noqa: S311
        self.where = address.read(url, home)
        self.store = Store(self.where)
        self.spool = Spool(home / "spool" / self.where.spool_id)
        self.process = process
        self.servers = servers
        self.tallies: list[Tally] = []
        self.said: dict[str, Told] = {}
        self.env = {
            "TURNOUT_HOME": str(home),
            "TURNOUT_DATABASE_URL": url,
            "DEEPSEEK_BASE_URL": servers["deepseek"].url,
            "OPENAI_BASE_URL": servers["openai"].url,
            "ENABLE_DEEPSEEK": "true",
        }

    def kill(self, run: str, *, adopt: bool = True, **order: Any) -> float:
        """Let a child call and die. With `adopt`, close what it left and compare; how many seconds closing took."""
        self.servers["deepseek"].script(*self.chance.choices(FAULTS, k=600))
        acks = self.chance.randrange(1, 120)
        self.said[run] = self.process.run(
            Order(run=run, env=self.env, rotate_bytes=4_000, **order), acks=acks
        )
        assert self.said[run].status == signal.SIGKILL
        if not adopt:
            return 0.0
        began = monotonic()
        Intake(self.store, self.spool, "survivor", Clock()).adopt()
        seconds = monotonic() - began
        self.compare()
        return seconds

    def live(self, run: str) -> float:
        """Let children call and end well, one after the other, until only one's own lock is left in the spool.

        Returns after how many seconds that was.
        """
        began, alone, number = 0.0, 0.0, 0

        def watch(line: Line) -> None:
            nonlocal began, alone
            began = began or monotonic()
            if not alone and line.told and len(list(self.spool.folder.glob("*.lock"))) == 1:
                alone = monotonic()

        self.servers["deepseek"]._script.clear()
        while not alone and (not began or monotonic() - began < WITHIN):
            number += 1
            name = f"{run}-{number}"
            order = Order(run=name, env=self.env, calls=40 + 4 * len(self.said), each_second=40)
            self.said[name] = self.process.run(order, seen=watch)
            assert self.said[name].status == 0
        assert alone, f"{sorted(path.name for path in self.spool.folder.iterdir())} are still there"
        return alone - began

    def compare(self) -> None:
        """Compare the three records of everybody who has died or ended, once nothing is left to be taken over."""
        assert list(self.spool.folder.iterdir()) == []
        assert self.store.positions() == {}, "somebody is still thought to write"
        seen = hits(self.servers)
        self.tallies += [compare(self.store, run, said, seen) for run, said in self.said.items()]
        self.said.clear()
        for server in self.servers.values():
            server.requests.clear()

    def report(self, what: str, slowest: float) -> None:
        """Print what was compared."""
        told, settled, expired, requests = map(sum, zip(*self.tallies, strict=True))
        print(
            f"\n{what}, seed {SEED}: {len(self.tallies)} kills, {told} answers told, {requests} requests seen, "
            f"{settled} attempts settled, {expired} expired, 0 lost, 0 twice, 0 invented; "
            f"closed within {slowest:.2f} s"
        )


@contextmanager
def staged(home: Path, url: str, process: Worker) -> Iterator[Stage]:
    """One, its servers stopped and its store closed afterwards."""
    with ToxicThread() as first, ToxicThread() as second:
        made = Stage(home, url, process, {"deepseek": first, "openai": second})
        try:
            yield made
        finally:
            made.store.close()
