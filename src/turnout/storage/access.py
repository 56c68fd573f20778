"""A store for one command: found by the settings, opened, caught up with, closed; its failures told to a person."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from turnout.errors import StoreFailed, TurnoutError
from turnout.storage import address
from turnout.storage.intake import FAILURES, Behind, Intake, behind, segment_sizes
from turnout.storage.segments import Spool
from turnout.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout.clock import Clock
    from turnout.settings import Settings
    from turnout.storage.address import Address

PATIENCE = 2.0
"""Seconds a command waits for what this host has journalled, and for a lock."""
LOOK_AGAIN = 0.02


def configured(settings: Settings) -> Address:
    """The address that the settings name. Raises `ConfigError`."""
    named = settings.database_url
    return address.read(named.reveal() if named else None, settings.home)


def spool_of(settings: Settings) -> Spool:
    """The spool folder of the configured store."""
    return Spool(settings.home / "spool" / configured(settings).spool_id)


@contextmanager
def using(settings: Settings) -> Iterator[Store]:
    """The configured store, closed afterwards. Whatever it fails with becomes a `TurnoutError`."""
    where = configured(settings)
    try:
        store = Store(where, lock_timeout=PATIENCE)
        try:
            yield store
        finally:
            store.close()
    except TurnoutError:
        raise
    except FAILURES as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        raise StoreFailed(
            f"{where}: {str(cause).partition(chr(10))[0]}",
            hint="see that it can be reached and written; what was journalled meanwhile is kept",
        ) from error


def catch_up(store: Store, spool: Spool, clock: Clock, within: float = PATIENCE) -> list[Behind]:
    """Wait until what this host had journalled is in the tables; what is not after so many seconds.

    Processes that have died are taken over, living ones waited for. Raises as `Store` does when it cannot be read.
    """
    sizes = segment_sizes(spool)
    until = clock.monotonic() + within
    intake = Intake(store, spool, clock.new_id(), clock)
    while True:
        failure: BaseException | None = None
        try:
            intake.adopt()
        except FAILURES as error:
            failure = error
        missing = behind(store, spool, sizes)
        if not missing or failure is not None or clock.monotonic() > until:
            return missing
        time.sleep(LOOK_AGAIN)
