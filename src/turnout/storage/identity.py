"""Is this the database that was written to before? A file beside the spool folder remembers which one it was.

Segments are deleted once they are in the tables, so a database that is deleted takes its rows with it. Another one is
made in its place without any help; that it is another one must be heard of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """A database that was there, and was not any more."""

    at: int
    """When it was noticed, microseconds UTC."""
    identity: str
    """Its own, as in its table `meta`."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The database last written to, and those before it."""

    identity: str
    lost: tuple[Loss, ...] = ()


def file_of(spool: Path) -> Path:
    """Where it is remembered."""
    return spool.with_name(f"{spool.name}.json")


def recall(spool: Path) -> Memory | None:
    """What is remembered; `None` when nothing was written to a database yet, or nobody can tell."""
    try:
        return msgspec.json.decode(file_of(spool).read_bytes(), type=Memory)
    except (OSError, msgspec.MsgspecError):
        return None


def recognise(spool: Path, identity: str, now: int) -> Loss | None:
    """Remember the database that was just written to; the one that it has replaced, if it has. Raises `OSError`."""
    known = recall(spool)
    if known is not None and known.identity == identity:
        return None
    loss = None if known is None else Loss(at=now, identity=known.identity)
    lost = () if known is None or loss is None else (*known.lost, loss)
    file = file_of(spool)
    fresh = file.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(Memory(identity=identity, lost=lost)))
    fresh.replace(file)
    return loss
