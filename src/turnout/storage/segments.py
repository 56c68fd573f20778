"""The spool folder: segments of the journal, and the locks that tell the living from the dead.

`<owner>.<number>.jnl` are an owner's segments in the order in which they were written, `<owner>.lock` is locked
for as long as the owner lives. The owner is one incarnation of one process: a UUIDv7, because pids come back.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import weakref
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from turnout import logs
from turnout.storage.frames import scan
from turnout.types import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

READ_BYTES = 2 << 20
_decode = msgspec.json.Decoder(Event).decode


class Batch(NamedTuple):
    """Some events of one segment, in order."""

    events: list[Event]
    end: int
    """The offset from which the next read goes on."""
    torn: bool
    """The file ends within a record: still being written, or cut by a crash and never acknowledged."""
    damaged: int
    """Bytes of records that could not be read, before `end`; logged as `journal_damaged`."""


def read(path: Path, offset: int = 0, *, limit: int = READ_BYTES) -> Batch:
    """The next events of a segment, about `limit` bytes of them; none and not torn: its end. Raises `OSError`."""
    with path.open("rb") as file:
        while True:
            file.seek(offset)
            data = file.read(limit)
            found = scan(data)
            more = len(data) == limit and bool(file.read(1))
            if found.end or not more:
                break
            limit *= 2
    events, strange = [], 0
    for payload in found.payloads:
        try:
            events.append(_decode(payload))
        except msgspec.MsgspecError:
            strange += len(payload)
    damaged = found.damaged + strange
    if damaged:
        logs.event(
            logging.ERROR,
            "journal_damaged",
            "",
            segment=path.name,
            offset=offset,
            bytes=damaged,
            unknown=strange,
        )
    return Batch(events, offset + found.end, torn=not more and found.end < len(data), damaged=damaged)


def segment_name(owner: str, number: int) -> str:
    """The name of an owner's n-th segment; names sort as they were written."""
    return f"{owner}.{number:08d}.jnl"


def segment_number(path: Path) -> int:
    """The n of `segment_name`."""
    return int(path.name.split(".")[1])


class Lock:
    """A lock file held by this process; the kernel lets go of it when the process dies, however it dies."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        _held.add(self)

    def release(self) -> None:
        """Let go; the file stays."""
        self.forget()

    def remove(self) -> None:
        """Take the file away, then let go."""
        self.path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Close the descriptor. In a forked child that leaves the parent's lock as it is; an unlock would free it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_leave_to_parent)


class Dead:
    """A dead owner's segments, under its lock."""

    def __init__(self, owner: str, segments: list[Path], lock: Lock) -> None:
        self.owner = owner
        self.segments = segments
        """Oldest first, complete."""
        self._lock = lock

    def close(self) -> None:
        """All of it is in the tables: take the segments away, the lock file last. Raises `OSError`."""
        for segment in self.segments:
            segment.unlink(missing_ok=True)
        self._lock.remove()

    def release(self) -> None:
        """Leave it to the next who looks."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Spool:
    """One store's spool folder, made with mode 0700. Raises `OSError` where the disk does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def mine(self, owner: str) -> list[Path]:
        """The owner's segments, oldest first.

        Only those before `Journal.current`, asked for first, are complete; the last may be empty still.
        """
        return sorted(self.folder.glob(f"{owner}.*.jnl"))

    def dead(self) -> Iterator[Dead]:
        """Every owner whose lock can be taken, one at a time; close or release each before the next.

        An owner's lock is there, and locked, before its first segment: segments without a lock file are dead too.
        """
        names = [path.name for path in self.folder.iterdir()]
        for name in sorted({name.partition(".")[0] for name in names if name.endswith((".lock", ".jnl"))}):
            lock = _try_lock(self.folder / f"{name}.lock")
            if lock:
                yield Dead(name, self.mine(name), lock)
        for name in names:
            if name.endswith(".tmp") and (lock := _try_lock(self.folder / name)):
                lock.remove()

    def remove(self, paths: Iterable[Path]) -> None:
        """Take segments away, after the commit that holds them."""
        for path in paths:
            path.unlink(missing_ok=True)

    def set_aside(self, path: Path) -> None:
        """Keep a segment that could not be read whole, as `*.damaged`, for somebody to look at."""
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.with_name(f"{path.name}.damaged"))

    def size(self) -> int:
        """Bytes of all segments, everybody's, those set aside included."""
        total = 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if ".jnl" in entry.name:
                        total += entry.stat().st_size
        return total

    def enter(self, owner: str) -> Lock:
        """Lock a new owner's lock file. It gets its name only when it is locked, so that nobody finds it unlocked."""
        early = self.folder / f"{owner}.tmp"
        while True:
            fd = os.open(early, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            lock = Lock(self.folder / f"{owner}.lock", fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                early.rename(lock.path)
            except FileNotFoundError:  # swept away by `dead` before it was locked
                lock.release()
            except OSError:
                lock.release()
                raise
            else:
                return lock


def _try_lock(path: Path) -> Lock | None:
    """The lock, unless its owner lives or somebody else was faster."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == path.stat().st_ino:
            return Lock(path, fd)
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None
