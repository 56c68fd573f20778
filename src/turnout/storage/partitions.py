"""PostgreSQL's log by days: a partition of `events` for each day in UTC, made before it is needed, dropped whole.

What has no day of its own lies in `events_default`: a moment no sane clock shows, an event that comes after its day
has gone, one whose day could not be made while a long reader held the table. Making a day moves its rows there.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from turnout import logs
from turnout.clock import as_datetime
from turnout.storage import horizon
from turnout.storage.batch import DAY_US

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

AHEAD = 7
"""Days that are made before they begin."""
SANE = (1_577_836_800_000_000, 4_102_444_800_000_000)
"""2020 and 2100: no day outside is made, whatever a clock says."""
LOCK_TIMEOUT = "500ms"
"""How long a day's making or dropping waits for others; writers that come meanwhile wait behind it.

Less than PostgreSQL's `deadlock_timeout` of a second: of transactions that wait in a circle, this one gives way.
"""
STATEMENT_TIMEOUT = "5s"
"""How long it may take then."""
REFUSED_TO_ALL = frozenset({"55P03", "42501"})
"""`lock_not_available` and `insufficient_privilege`: what would meet the next day too."""
_NAME = re.compile(r"events_(\d{8})")


class Partitions:
    """The days of one database's log, those known here remembered: a batch asks the database for new ones only.

    Making a day waits for the writers that are under way and holds back the next, so that nobody's row is on its way
    to `events_default` when the day begins. Each day is a short transaction of its own that holds nothing before it
    has the whole log. The first that a lock or a right refuses is the last that is tried.
    """

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._begin = begin
        self._settled: set[int] = set()
        self._rolled_at = 0

    def forget(self) -> None:
        """The database may be another one."""
        self._settled.clear()

    def provide(self, moments: Iterable[int], now: int) -> None:
        """Make the days of these moments; whatever the database refuses is left to `roll`."""
        days = {at - at % DAY_US for at in moments} - self._settled
        if days:
            self._make(days, now)
            self._settled |= days

    def roll(self, now: int, until: int) -> int:
        """Make the days ahead and those of strays, drop the whole days before a moment; where the log begins then.

        What a lock refused is tried at the next `now`.
        """
        border = until - until % DAY_US
        if now != self._rolled_at:
            self._rolled_at = now
            with self._begin() as connection:
                standing, strayed = days_of(connection), _days_of_strays(connection)
            ahead = {now - now % DAY_US + day * DAY_US for day in range(AHEAD + 1)}
            self._make(ahead | {day for day in strayed if day >= border}, now)
            self._each(_drop, {day for day in standing if day < border})
        with self._begin() as connection:
            return min([border, *days_of(connection)])

    def _make(self, days: set[int], now: int) -> None:
        with self._begin() as connection:
            standing, gone = days_of(connection), horizon.since(connection, "events")
        first, last = max(SANE[0], gone), min(SANE[1], now + AHEAD * DAY_US)
        self._each(_attach, {day for day in days - standing if first <= day <= last})

    def _each(self, change: Callable[[Connection, int], None], days: set[int]) -> None:
        for day in sorted(days):
            try:
                with self._begin() as connection:
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                    connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
                    change(connection, day)
            except DBAPIError as error:
                sqlstate = getattr(error.orig, "sqlstate", None)
                if sqlstate is None:
                    raise  # it was not the database that spoke
                why = str(error.orig).partition("\n")[0]
                logs.event(logging.WARNING, "partition_refused", "", partition=_name(day), why=why)
                if sqlstate in REFUSED_TO_ALL:
                    return


def days_of(connection: Connection) -> set[int]:
    """The beginnings of the days that have a partition, in microseconds UTC."""
    names = connection.execute(
        text(
            "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = to_regclass('events')"
        )
    )
    found = (_NAME.fullmatch(name) for name in names.scalars())
    return {_day(match[1]) for match in found if match}


def strays(connection: Connection) -> int:
    """How many events lie in no day."""
    count: int = connection.execute(text("SELECT count(*) FROM events_default")).scalar_one()
    return count


def _days_of_strays(connection: Connection) -> list[int]:
    days = connection.execute(text("SELECT DISTINCT at / :day FROM events_default"), {"day": DAY_US})
    return [day * DAY_US for day in days.scalars()]


def _attach(connection: Connection, day: int) -> None:
    connection.exec_driver_sql("LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE")
    if day in days_of(connection):
        return
    name, end = _name(day), day + DAY_US
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE events INCLUDING ALL)")
    connection.exec_driver_sql(
        f"WITH moved AS (DELETE FROM events_default WHERE at >= {day} AND at < {end} RETURNING *) "  # noqa: S608 - ours
        f"INSERT INTO {name} SELECT * FROM moved"
    )
    connection.exec_driver_sql(
        f"ALTER TABLE events ATTACH PARTITION {name} FOR VALUES FROM ({day}) TO ({end})"
    )


def _drop(connection: Connection, day: int) -> None:
    connection.exec_driver_sql("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_name(day)}")
    horizon.advance(connection, "events_since", day + DAY_US)


def _name(day: int) -> str:
    return f"events_{as_datetime(day):%Y%m%d}"


def _day(digits: str) -> int:
    return round(datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC).timestamp()) * 1_000_000
