"""Dated prices: which row, and which band of it, holds at a moment."""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from turnout.errors import ConfigError
from turnout.registry.reading import check, did_you_mean, overlay, shipped
from turnout.types import Price

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.settings import Settings
    from turnout.types import Model

PLACES = 12
"""Of a price; beyond them it could not be kept as a whole number."""
_HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """Public holidays of the years it covers; in any other year every weekday is a working day."""

    covers: tuple[int, ...]
    holidays: frozenset[date]


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Hours of the week, in a zone without summer time, less the holidays of a calendar."""

    utc_offset: int
    weekdays: frozenset[int]
    """ISO: Monday is 1."""
    hours: tuple[tuple[str, str], ...]
    """From (included) to (not included), as HH:MM."""
    calendar: str | None = None

    def spans(self) -> tuple[tuple[time, time], ...]:
        """`hours` as times of day."""
        return tuple((time.fromisoformat(start), time.fromisoformat(end)) for start, end in self.hours)


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per million tokens; text in TOML, so that no binary fraction gets in."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None


class Band(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates that hold in the hours of a schedule."""

    schedule: str


class LongContext(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates that hold for a whole request with more input than this."""

    above: int


class PriceRow(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from"}):
    """A row of `prices.toml`."""

    models: tuple[str, ...]
    since: datetime
    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    bands: dict[str, Band] = {}
    """The row itself holds at all other times."""
    long_context: LongContext | None = None
    source: str
    checked: date


class PriceTable:
    """Every price row by model, and the schedules its bands refer to."""

    def __init__(
        self, rows: list[PriceRow], schedules: Mapping[str, Schedule], calendars: Mapping[str, Calendar]
    ) -> None:
        self._schedules = {
            name: (row, row.spans(), timezone(timedelta(hours=row.utc_offset)))
            for name, row in schedules.items()
        }
        self._calendars = dict(calendars)
        self._rows: dict[str, list[PriceRow]] = {}
        self._since: dict[str, list[datetime]] = {}
        self._prices: dict[tuple[str, int, str | None], Price] = {}
        self._long: dict[tuple[str, int], Price] = {}
        for row in sorted(rows, key=lambda row: row.since):
            for model in row.models:
                self._rows.setdefault(model, []).append(row)
                self._since.setdefault(model, []).append(row.since)
                self._keep(model, row)

    def rows(self, model: str) -> tuple[PriceRow, ...]:
        """A model's rows, oldest first."""
        return tuple(self._rows.get(model, ()))

    def at(self, model: str, moment: datetime, input_tokens: int = 0) -> Price | None:
        """What the model costs at an aware moment, or `None` when no row covers it."""
        index = bisect_right(self._since.get(model, ()), moment) - 1
        if index < 0:
            return None
        row = self._rows[model][index]
        if row.long_context is not None and input_tokens > row.long_context.above:
            return self._long[model, index]
        for name, band in row.bands.items():
            if self._within(band.schedule, moment):
                return self._prices[model, index, name]
        return self._prices[model, index, None]

    def _keep(self, model: str, row: PriceRow) -> None:
        """Every price a model's newest row may come to, made once."""
        index = len(self._rows[model]) - 1
        label = f"{model}@{row.since.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
        self._prices[model, index, None] = _price(label, row)
        for name, band in row.bands.items():
            self._prices[model, index, name] = _price(f"{label}/{name}", band)
        if row.long_context is not None:
            self._long[model, index] = _price(f"{label}/long", row.long_context)

    def _within(self, name: str, moment: datetime) -> bool:
        schedule, spans, zone = self._schedules[name]
        local = moment.astimezone(zone)
        if local.isoweekday() not in schedule.weekdays:
            return False
        if schedule.calendar is not None and local.date() in self._calendars[schedule.calendar].holidays:
            return False
        clock = local.time()
        return any(start <= clock < end for start, end in spans)


def _price(label: str, rates: Rates | PriceRow) -> Price:
    return Price(
        id=label,
        input=rates.input,
        output=rates.output,
        cached_input=rates.cached_input,
        cache_write=rates.cache_write,
    )


def load(settings: Settings, models: Mapping[str, Model]) -> PriceTable:
    """The shipped rows and the user's, whose rows win where both begin at the same moment. Raises `ConfigError`."""
    ours, file = shipped("prices.toml"), settings.file_name
    calendars = {
        name: check(row, Calendar, where=f"[calendars.{name}]")
        for name, row in overlay(
            ours["calendars"], settings.tables.get("calendars", {}), table="calendars", file=file
        ).items()
    }
    schedules = {
        name: check(row, Schedule, where=f"[schedules.{name}]")
        for name, row in overlay(
            ours["schedules"], settings.tables.get("schedules", {}), table="schedules", file=file
        ).items()
    }
    for name, schedule in schedules.items():
        _check_schedule(name, schedule, calendars)
    theirs = settings.tables.get("prices", [])
    rows = [_row(row, f"prices.toml, row {n}", models, schedules) for n, row in enumerate(ours["prices"], 1)]
    rows += [_row(row, f"{file}, [[prices]] row {n}", models, schedules) for n, row in enumerate(theirs, 1)]
    return PriceTable(rows, schedules, calendars)


def _check_schedule(name: str, schedule: Schedule, calendars: Mapping[str, Calendar]) -> None:
    if schedule.calendar is not None and schedule.calendar not in calendars:
        raise ConfigError(
            f"[schedules.{name}]: no calendar {schedule.calendar!r}",
            hint=did_you_mean(schedule.calendar, calendars),
        )
    if not (-12 <= schedule.utc_offset <= 14 and schedule.weekdays <= set(range(1, 8))):
        raise ConfigError(
            f"[schedules.{name}]: utc_offset is hours from -12 to 14, weekdays are 1 (Monday) to 7",
            hint="write utc_offset = 8 and weekdays = [1, 2, 3, 4, 5]",
        )
    if not all(_HOURS.fullmatch(clock) for pair in schedule.hours for clock in pair) or not all(
        start < end for start, end in schedule.spans()
    ):
        raise ConfigError(
            f"[schedules.{name}]: hours must be pairs of HH:MM, the earlier first",
            hint='write hours = [["09:00", "12:00"]]',
        )


def _is_exact(price: Decimal) -> bool:
    exponent = price.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -PLACES


def _row(
    row: Mapping[str, Any], where: str, models: Mapping[str, Model], schedules: Mapping[str, Schedule]
) -> PriceRow:
    price = check(row, PriceRow, where=where)
    if price.since.tzinfo is None:
        raise ConfigError(f"{where}: `from` needs a zone", hint="write from = 2026-09-10T00:00:00Z")
    for model in price.models:
        if model not in models:
            raise ConfigError(f"{where}: no model {model!r}", hint=did_you_mean(model, models))
    for name, band in price.bands.items():
        if band.schedule not in schedules:
            raise ConfigError(
                f"{where}: band {name!r} has no schedule", hint=did_you_mean(band.schedule, schedules)
            )
    rates: list[PriceRow | Rates] = [
        price,
        *price.bands.values(),
        *([price.long_context] if price.long_context else []),
    ]
    for rate in rates:
        for value in (rate.input, rate.output, rate.cached_input, rate.cache_write):
            if value is not None and not (value.is_finite() and value >= 0 and _is_exact(value)):
                raise ConfigError(
                    f"{where}: {value} is not a price",
                    hint=f"write dollars per million tokens as text, with at most {PLACES} decimal places",
                )
    return price
