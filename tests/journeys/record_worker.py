"""A process that makes calls until it is killed: `python -m tests.journeys.record_worker`.

Each line of stdin is an `Order`: a child is forked that makes calls through a client of its own and says, a JSON
object a line, `asked` before each call and `told` with the attempts of what came of it. It kills itself at the
order's point, if that has one; else whoever reads does. In the end its parent says `ended` with the status.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

from tests.storage.journals import FaultyDisk
from turnout import errors
from turnout.clock import Clock
from turnout.settings import load_settings
from turnout.storage import address, store  # noqa: F401 - loaded once, before the children are forked
from turnout.storage.record import DiskRecord
from turnout.wiring import LLMClient

if TYPE_CHECKING:
    from turnout.settings import Settings
    from turnout.types import Attempt

POINTS = ("create", "write", "sync", "statement", "commit", "committed", "remove")
"""Where a child can kill itself: before a file operation of the journal's, before a statement or a commit of the
ledger's, after one, before a segment is taken away."""


class Order(msgspec.Struct, kw_only=True):
    """What one child is to do."""

    run: str
    """Begins the session of each of its calls."""
    env: dict[str, str]
    tasks: int = 12
    """Calls in flight."""
    calls: int | None = None
    """In all; `None`: until it is killed."""
    each_second: float | None = None
    rotate_bytes: int = 8 << 20
    point: str | None = None
    nth: int = 0
    slow: bool = False
    """Every write and flush of the journal takes longer than the disk of a machine that is well."""


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a child, or its parent, says."""

    pid: int | None = None
    asked: str | None = None
    told: str | None = None
    attempts: list[tuple[str, str, str, int | None]] = []
    """Id, provider, outcome and cost of each."""
    seconds: float = 0.0
    ended: int | None = None


def say(**line: Any) -> None:
    """One line in one write."""
    os.write(1, msgspec.json.encode(Line(**line)) + b"\n")


class Fuse:
    """Kills this process at the n-th passing of a point."""

    def __init__(self, point: str | None, nth: int) -> None:
        self._point, self._left = point, nth

    def __call__(self, point: str, _number: int = 0) -> None:
        """This point is passed."""
        if point == self._point:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def lay(fuse: Fuse, *, slow: bool) -> FaultyDisk:
    """Put a fuse into the store, the removal of segments and the disk."""

    @event.listens_for(Pool, "connect")
    def connected(driver: Any, _record: object) -> None:
        if isinstance(driver, sqlite3.Connection):
            driver.set_trace_callback(lambda _: fuse("statement"))

    @event.listens_for(Engine, "before_cursor_execute")
    def statement(connection: Any, *_: Any) -> None:
        if connection.dialect.name == "postgresql":
            fuse("statement")

    @event.listens_for(Engine, "commit")
    def commit(connection: Any) -> None:
        fuse("commit")
        connection.connection.driver_connection.commit()
        fuse("committed")

    def audit(name: str, given: tuple[Any, ...]) -> None:
        if name == "os.remove" and str(given[0]).endswith(".jnl"):
            fuse("remove")

    sys.addaudithook(audit)
    disk = FaultyDisk()
    never = threading.Event()

    def fault(name: str, number: int) -> None:
        fuse(name, number)
        if slow and name in {"write", "sync"}:
            never.wait(0.03)

    disk.fault = fault
    return disk


async def one(client: LLMClient, nonce: str, number: int) -> None:
    """One call, plain or streamed, and what came of it."""
    messages = [{"role": "user", "content": f"<{nonce}> what is the point of it all?"}]
    who: dict[str, Any] = {"session_id": nonce, "user_id": f"user-{number % 7}"}
    say(asked=nonce)
    began = asyncio.get_running_loop().time()
    attempts: tuple[Attempt, ...] = ()
    try:
        if number % 2:
            async for delta in client.stream("dojo", messages, **who):
                if delta.reply is not None:
                    attempts = delta.reply.attempts
        else:
            attempts = (await client.call_with_fallback("dojo", messages, **who)).attempts
    except errors.TurnoutError as error:
        attempts = error.attempts
    rows = [(row.id, row.provider, row.outcome, row.cost_nano) for row in attempts]
    say(told=nonce, attempts=rows, seconds=asyncio.get_running_loop().time() - began)


async def work(order: Order, settings: Settings) -> None:
    """Make calls."""
    record = DiskRecord(
        settings,
        address.read(order.env["TURNOUT_DATABASE_URL"], settings.home),
        Clock(),
        disk=lay(Fuse(order.point, order.nth), slow=order.slow),
        rotate_bytes=order.rotate_bytes,
    )
    numbers = iter(range(order.calls)) if order.calls else itertools.count()
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def caller() -> None:
        for number in numbers:
            if order.each_second:
                await asyncio.sleep(max(0.0, began + number / order.each_second - loop.time()))
            await one(client, f"{order.run}-{number}", number)

    async with LLMClient(settings, record=record) as client:
        await asyncio.gather(*(caller() for _ in range(order.tasks)))


def main() -> None:
    """Serve the lines of stdin."""
    for line in sys.stdin:
        order = msgspec.json.decode(line, type=Order)
        pid = os.fork()
        if not pid:
            say(pid=os.getpid())
            home = Path(order.env["TURNOUT_HOME"])
            asyncio.run(work(order, load_settings(environ=order.env, folder=home)))
            os._exit(0)
        say(ended=os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main()
