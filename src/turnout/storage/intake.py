"""From the spool into the store: pieces of segments, and what dead processes left. Used by ledgers and commands."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from turnout import logs
from turnout.errors import TurnoutError
from turnout.storage.expiry import Unclosed
from turnout.storage.frames import scan
from turnout.storage.identity import recognise
from turnout.storage.store import Mark

if TYPE_CHECKING:
    from turnout.clock import Clock
    from turnout.storage.segments import Dead, Spool
    from turnout.storage.store import Store

FAILURES = (SQLAlchemyError, sqlite3.Error, OSError, TurnoutError)
"""What a store that is slow, locked, full, away or read-only raises."""
PIECE_BYTES = 2 * 2**20
REFUSED = "refused.jsonl"


class Piece(NamedTuple):
    """Some records of a segment, in order."""

    payloads: list[bytes]
    end: int
    """The offset from which the next piece goes on."""
    damaged: int
    """Bytes before `end` that are no record."""
    rest: int
    """Bytes behind `end` that are no whole record: being written, or cut by a crash and never acknowledged."""


def read_piece(path: Path, offset: int) -> Piece:
    """The next records of a segment, about `PIECE_BYTES` of them; none when it ends here. Raises `OSError`."""
    limit = PIECE_BYTES
    with path.open("rb") as file:
        while True:
            file.seek(offset)
            data = file.read(limit)
            found = scan(data)
            if found.end or len(data) < limit:
                rest = len(data) - found.end if len(data) < limit else 0
                return Piece(found.payloads, offset + found.end, found.damaged, rest)
            limit *= 2


class Intake:
    """Posts to one store out of one spool, under one name. Its methods raise `FAILURES`; repeating them is harmless."""

    def __init__(self, store: Store, spool: Spool, owner: str, clock: Clock) -> None:
        self.store = store
        self.spool = spool
        self.owner = owner
        self.posted = 0
        """Events put into the tables."""
        self.refused = 0
        """Events that could not be read or that the database would not take; they are in `refused.jsonl`."""
        self.adopted = 0
        """Dead processes whose segments were taken over."""
        self._identity: str | None = None
        self._clock = clock
        self._host = socket.gethostname()
        self._boot = _boot_id()

    def drain(self, path: Path, offset: int) -> tuple[int, bool]:
        """Post a segment from an offset to its end; where that is, and whether all of it could be read."""
        whole = True
        while True:
            piece = read_piece(path, offset)
            if piece.end > offset:
                self.post(piece.payloads, self._mark(self.owner, path.name, piece.end))
                offset = piece.end
                whole = whole and not piece.damaged
                continue
            return offset, whole and not piece.rest

    def post(self, payloads: list[bytes], mark: Mark) -> None:
        """One transaction; of a batch that the database will not take, all but the culprits."""
        try:
            unreadable = self.store.post(payloads, mark)
        except DBAPIError as error:
            if not _is_refusal(error):
                raise
            if len(payloads) <= 1:
                self.store.open()  # raises where it is the schema, not the event, that does not fit
                self._refuse(payloads, str(error.orig))
                return
            half = len(payloads) // 2
            self.post(payloads[:half], mark)
            self.post(payloads[half:], mark)
            return
        self.posted += len(payloads) - len(unreadable)
        if self._identity != self.store.identity:
            self._recognise()
        if unreadable:
            self._refuse(unreadable, "not an event that this version can read")

    def _recognise(self) -> None:
        """Say so when this is not the database that was written to before."""
        identity = self.store.identity or ""
        if loss := recognise(self.spool.folder, identity, self._clock.now()):
            logs.event(
                logging.ERROR,
                "database_lost",
                "",
                store=str(self.store.address),
                what="it is not there any more, and with it what it held; a new one was made in its place",
                was=loss.identity,
                now=identity,
            )
        self._identity = identity

    def adopt(self) -> int:
        """Take over every dead process's segments: its calls without an end are charged their whole hold."""
        found = 0
        for dead in self.spool.dead():
            with dead:
                self._take_over(dead)
            found += 1
        self.adopted += found
        return found

    def _take_over(self, dead: Dead) -> None:
        calls = Unclosed()
        for path in dead.segments:
            with suppress(FileNotFoundError):  # its owner had this one in the tables
                self._post_all(dead.owner, path, calls)
        if ends := calls.expired():
            self.post(ends, self._mark(dead.owner))
            logs.event(logging.WARNING, "calls_expired", "", owner=dead.owner, calls=len(ends))
        self.store.close_owner(dead.owner)
        dead.close()

    def _post_all(self, owner: str, path: Path, calls: Unclosed) -> None:
        offset = damaged = 0
        while True:
            piece = read_piece(path, offset)
            damaged += piece.damaged
            if piece.end == offset:
                break
            self.post(piece.payloads, self._mark(owner, path.name, piece.end))
            calls.see(piece.payloads)
            offset = piece.end
        if damaged:
            self.set_aside(path)

    def set_aside(self, path: Path) -> None:
        """Keep a segment that could not be read whole, and say so."""
        logs.event(logging.ERROR, "segment_damaged", "", segment=path.name)
        self.spool.set_aside(path)

    def _mark(self, owner: str, segment: str | None = None, position: int = 0) -> Mark:
        return Mark(
            owner=owner,
            host=self._host,
            boot=self._boot,
            spool=self.spool.folder.name,
            at=self._clock.now(),
            segment=segment,
            position=position,
        )

    def _refuse(self, payloads: list[bytes], why: str) -> None:
        """Keep what cannot be posted where a person finds it; the rest must go on."""
        file = os.open(
            self.spool.folder / REFUSED, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(file, "ab") as kept:
            kept.writelines(payload.replace(b"\n", b" ") + b"\n" for payload in payloads)
        self.refused += len(payloads)
        logs.event(logging.ERROR, "event_refused", "", events=len(payloads), why=why, file=REFUSED)


class Behind(msgspec.Struct, frozen=True):
    """What one process of this host has journalled and the tables do not hold."""

    owner: str
    bytes: int


def behind(store: Store, spool: Spool, sizes: dict[Path, int] | None = None) -> list[Behind]:
    """Which owners' journals are not in the tables yet, up to given sizes of their segments (now's when `None`)."""
    positions = store.positions()
    missing: dict[str, int] = {}
    for path, size in (segment_sizes(spool) if sizes is None else sizes).items():
        owner = path.name.partition(".")[0]
        segment, position = positions.get(owner, (None, 0))
        if not path.exists() or (segment is not None and path.name < segment):
            continue
        left = size - (position if path.name == segment else 0)
        if left > 0:
            missing[owner] = missing.get(owner, 0) + left
    return [Behind(owner, count) for owner, count in sorted(missing.items())]


def segment_sizes(spool: Spool) -> dict[Path, int]:
    """Every segment of the spool and its bytes."""
    sizes = {}
    for path in spool.folder.glob("*.jnl"):
        with suppress(FileNotFoundError):
            sizes[path] = path.stat().st_size
    return sizes


def _is_refusal(error: DBAPIError) -> bool:
    """The database will never take this; PostgreSQL's class 54 is a limit of its own, such as a key of 3,000 bytes."""
    return isinstance(error, DataError | IntegrityError) or str(
        getattr(error.orig, "sqlstate", "")
    ).startswith("54")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
