"""The end of a process that closes nothing, and of coroutines that nobody ends but the collector."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.storage.journals import ROOT, kept

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 30.0


def run(script: str, folder: Path, *words: str) -> list[str]:
    """Run a script to its ordinary end; the lines it wrote."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script, str(folder), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


LEAVES = """
import asyncio, sys
from pathlib import Path
from tests.storage.journals import CLOCK, FaultyDisk, Stall, calls, fill
from turnout.storage.journal import Journal

disk, stall = FaultyDisk(), Stall(0.5)
disk.fault = lambda name, _n: stall() if name == "write" else None
opened = Journal(Path(sys.argv[1]), CLOCK, disk=disk)

async def main():
    return fill(opened, calls(10))

ids = asyncio.run(main()) if sys.argv[2] == "loop" else fill(opened, calls(10))
print(*ids)
"""


@pytest.mark.parametrize("where", ["loop", "thread"])
def test_leaving_without_closing(tmp_path: Path, where: str) -> None:
    """A process that ends without closing its journal, or waiting for it, leaves every line, however slow the disk."""
    ids = run(LEAVES, tmp_path, where)
    assert len(ids) == 20
    assert kept(tmp_path) == ids


STUCK = """
import atexit, sys, time
from pathlib import Path

atexit.register(lambda: print(time.monotonic() - began))  # after whatever is registered later
from tests.storage.journals import CLOCK, FaultyDisk, Stall, note
from turnout.storage.journal import Journal

def opened(folder):
    disk, stall = FaultyDisk(), Stall(60)
    disk.fault = lambda name, _n: stall() if name == "write" else None
    journal = Journal(folder, CLOCK, disk=disk)
    journal.append(note())
    return journal

journals = [opened(Path(sys.argv[1]) / str(number)) for number in range(4)]
began = time.monotonic()
"""


def test_leaving_disks_that_have_stopped(tmp_path: Path) -> None:
    """A process with four journals on disks that have stopped ends after two seconds, not after two for each."""
    (took,) = run(STUCK, tmp_path)
    assert 1.9 < float(took) < 3.9


COLLECTED = """
import asyncio, gc, os, sys, threading
from pathlib import Path
from tests.storage.journals import CLOCK, FaultyDisk, Stall, kept, note
from turnout.storage.journal import Journal

class Collecting(asyncio.SelectorEventLoop):
    # the collector may run wherever something is allocated, as both of these do
    def call_soon(self, *args, **kwargs):
        gc.collect()
        return super().call_soon(*args, **kwargs)

    def call_at(self, *args, **kwargs):
        gc.collect()
        return super().call_at(*args, **kwargs)

async def call():
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        last.append(opened.append(note()))
        stall.over.set()
        if sys.argv[2] == "waits":
            await opened.written()

def leave():
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)

    async def main():
        loop.create_task(call())
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()

def abandon():
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()

folder = Path(sys.argv[1])
disk, stall, last = FaultyDisk(), Stall(10), []
opened = Journal(folder, CLOCK, disk=disk)
gc.disable()
sys.unraisablehook = lambda _: None  # a coroutine that waits when it is ended is told of
if sys.argv[2] == "forks":
    abandon()
    disk.fault = lambda name, _n: (name == "create" and gc.collect(), None)[1]
    if pid := os.fork():
        assert os.waitpid(pid, 0)[1] == 0
    else:
        assert opened.append(note())
        assert last == [False], last
        assert opened.status().dropped == 1
        opened.close()
        os._exit(0)
    assert last == []
    assert len(kept(folder)) == 1
else:
    if sys.argv[2] == "waits":
        disk.fault = lambda name, _n: stall() if name == "write" else None

    async def main():
        if sys.argv[2] == "appends":
            abandon()
        opened.append(note())
        if sys.argv[2] == "waits":
            abandon()
            assert not last
        await opened.written()

    with asyncio.Runner(loop_factory=Collecting) as runner:
        runner.run(main())
    assert last == [True], last
    assert opened.settled()
    assert len(kept(folder)) == 2
opened.close()
"""


REOPENED = """
import gc, sys
from pathlib import Path
from tests.storage.journals import CLOCK, FaultyDisk, note
from turnout.settings import load_settings
from turnout.storage import address
from turnout.storage.record import DiskRecord

class Call:
    # what a forgotten coroutine is to the collector: a circle whose end appends
    def __init__(self):
        self.me = self

    def __del__(self):
        last.append(record.append(note()))

home, last, disk = Path(sys.argv[1]), [], FaultyDisk()
settings = load_settings(environ={"TURNOUT_HOME": str(home)}, folder=home)
record = DiskRecord(settings, address.read(None, home), CLOCK, disk=disk)
disk.fault = lambda name, _n: (name == "create" and gc.collect(), None)[1]
gc.disable()
Call()
assert record.append(note())
assert last == [False], last
record.close()
"""


def test_an_append_while_the_record_opens(tmp_path: Path) -> None:
    """What the collector ends while a record is being opened appends nothing, and keeps nobody from opening it."""
    run(REOPENED, tmp_path)


@pytest.mark.parametrize("what", ["appends", "waits", "forks"])
def test_a_coroutine_that_the_collector_ends(tmp_path: Path, what: str) -> None:
    """One left behind by a closed loop may append, and wait, in the middle of an append, a wait or a fork's first."""
    run(COLLECTED, tmp_path, what)
