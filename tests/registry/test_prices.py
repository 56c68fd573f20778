"""Dated prices: which row and which band hold at a moment, and what a bad row is told."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from turnout import registry
from turnout.errors import ConfigError
from turnout.registry.reading import shipped
from turnout.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from turnout.registry.prices import PriceTable

PEAK, OFF_PEAK = Decimal("0.30"), Decimal("0.15")
HEAD = 'models = ["gpt-4o"]\nfrom = 2026-01-01T00:00:00Z\nsource = "a test"\nchecked = 2026-01-01\n'
ROW = f'[[prices]]\n{HEAD}input = "1"\noutput = "2"\n'
SCHEDULE = "[schedules.night]\nutc_offset = 0\nweekdays = [1]\n"


def table(home: Path, toml: str = "") -> PriceTable:
    """The shipped prices, with a user's TOML over them."""
    return registry.load(Settings(home=home, tables=tomllib.loads(toml))).prices


def utc(text: str) -> datetime:
    """An ISO moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_every_shipped_row_loads(tmp_path: Path) -> None:
    """Each row of prices.toml is found again under each of its models; only OpenRouter's, billed by host, have none."""
    prices, rows = table(tmp_path), shipped("prices.toml")["prices"]
    loaded = [row for name in shipped("models.toml")["models"] for row in prices.rows(name)]
    assert len(loaded) == sum(len(row["models"]) for row in rows)
    unpriced = {
        row["provider"] for name, row in shipped("models.toml")["models"].items() if not prices.rows(name)
    }
    assert unpriced == {"openrouter"}


def test_rows_are_oldest_first(tmp_path: Path) -> None:
    """A model's rows come in the order in which they begin; a model without rows has none."""
    prices = table(tmp_path)
    assert [f"{row.since:%Y-%m-%dT%H}" for row in prices.rows("deepseek-chat")] == [
        "2025-09-29T00",
        "2026-04-24T00",
        "2026-04-26T00",
        "2026-08-16T16",
        "2026-08-22T16",
        "2026-09-10T00",
    ]
    assert prices.rows("nobody") == ()


@pytest.mark.parametrize(
    ("moment", "peak"),
    [
        # a Monday, both windows to the second
        ("2026-11-23T00:59:59", False),
        ("2026-11-23T01:00:00", True),
        ("2026-11-23T03:59:59", True),
        ("2026-11-23T03:59:59.999999", True),
        ("2026-11-23T04:00:00", False),
        ("2026-11-23T05:59:59", False),
        ("2026-11-23T06:00:00", True),
        ("2026-11-23T09:59:59", True),
        ("2026-11-23T10:00:00", False),
        # the other days of the week
        ("2026-11-24T02:00:00", True),
        ("2026-11-25T02:00:00", True),
        ("2026-11-26T02:00:00", True),
        ("2026-11-27T02:00:00", True),
        ("2026-11-21T02:00:00", False),
        ("2026-11-22T02:00:00", False),
        # holidays of China, and the working days after them
        ("2026-10-01T02:00:00", False),
        ("2026-10-07T09:59:59", False),
        ("2026-10-08T02:00:00", True),
        ("2026-09-25T02:00:00", False),
        # weekends worked to make up for a holiday
        ("2026-10-10T02:00:00", False),
        ("2026-09-20T02:00:00", False),
        # New Year's Day of a year the calendar does not cover
        ("2027-01-01T02:00:00", True),
    ],
)
@pytest.mark.parametrize("model", ["deepseek-chat", "deepseek-reasoner"])
def test_peak_hours_of_flash(tmp_path: Path, model: str, moment: str, *, peak: bool) -> None:
    """Peak is Monday to Friday 01-04 and 06-10 UTC, less China's public holidays."""
    price = table(tmp_path).at(model, utc(moment))
    assert price is not None
    assert price.input == (PEAK if peak else OFF_PEAK)
    assert price.id == f"{model}@2026-09-10T00:00Z{'/peak' if peak else ''}"


@pytest.mark.parametrize(
    "day",
    [
        "01-01",
        "01-02",
        *[f"02-{day}" for day in (16, 17, 18, 19, 20, 23)],
        "04-06",
        "05-01",
        "05-04",
        "05-05",
        "06-19",
        "09-25",
        *[f"10-{day}" for day in ("01", "02", "05", "06", "07")],
    ],
)
def test_each_holiday_of_2026(tmp_path: Path, day: str) -> None:
    """No hour of a working day that was a public holiday in China in 2026 is a peak hour."""
    toml = (
        '[[prices]]\nmodels = ["gpt-4o"]\nfrom = 2025-01-01T00:00:00Z\ninput = "1"\noutput = "2"\n'
        'source = "a test"\nchecked = 2026-01-01\n'
        '[prices.bands.peak]\nschedule = "deepseek-peak"\ninput = "3"\noutput = "4"\n'
    )
    prices = table(tmp_path, toml)
    morning = utc(f"2026-{day}T02:00:00")
    assert morning.isoweekday() <= 5
    ids = [price.id for hour in range(24) if (price := prices.at("gpt-4o", morning.replace(hour=hour)))]
    # the last eight hours of the day in UTC are the next day's in Beijing, before its peak begins
    assert ids == ["gpt-4o@2025-01-01T00:00Z"] * 24


@pytest.mark.parametrize("offset", [-11, -5, 0, 8, 14])
def test_the_zone_of_the_moment_does_not_matter(tmp_path: Path, offset: int) -> None:
    """One moment written in any zone has one price."""
    prices = table(tmp_path)
    for text in ("2026-11-23T01:00:00", "2026-11-23T00:59:59", "2026-09-10T00:00:00", "2026-09-09T23:59:59"):
        moment = utc(text)
        written = moment.astimezone(timezone(timedelta(hours=offset)))
        assert prices.at("deepseek-chat", written) == prices.at("deepseek-chat", moment)


@pytest.mark.parametrize(
    ("moment", "label", "rate"),
    [
        ("2025-09-29T00:00:00", "2025-09-29T00:00Z", ("0.28", "0.028", "0.42")),
        ("2026-04-23T23:59:59", "2025-09-29T00:00Z", ("0.28", "0.028", "0.42")),
        ("2026-04-24T00:00:00", "2026-04-24T00:00Z", ("0.14", "0.028", "0.28")),
        ("2026-04-25T23:59:59", "2026-04-24T00:00Z", ("0.14", "0.028", "0.28")),
        ("2026-04-26T00:00:00", "2026-04-26T00:00Z", ("0.14", "0.0028", "0.28")),
        ("2026-08-16T15:59:59", "2026-04-26T00:00Z", ("0.14", "0.0028", "0.28")),
        ("2026-08-16T16:00:00", "2026-08-16T16:00Z", ("0.22", "0.007", "0.66")),
        ("2026-08-22T15:59:59", "2026-08-16T16:00Z", ("0.22", "0.007", "0.66")),
        ("2026-08-22T16:00:00", "2026-08-22T16:00Z", ("0.22", "0.007", "0.66")),
        ("2026-09-09T23:59:59", "2026-08-22T16:00Z", ("0.22", "0.007", "0.66")),
        ("2026-09-10T00:00:00", "2026-09-10T00:00Z", ("0.15", "0.003", "0.60")),
        # peak by the day before weekends were let off, and after
        ("2026-08-17T02:00:00", "2026-08-16T16:00Z/peak", ("0.44", "0.014", "1.32")),
        ("2026-08-22T02:00:00", "2026-08-16T16:00Z/peak", ("0.44", "0.014", "1.32")),
        ("2026-08-22T09:59:59", "2026-08-16T16:00Z/peak", ("0.44", "0.014", "1.32")),
        ("2026-08-22T10:00:00", "2026-08-16T16:00Z", ("0.22", "0.007", "0.66")),
        ("2026-08-23T02:00:00", "2026-08-22T16:00Z", ("0.22", "0.007", "0.66")),
        ("2026-08-24T02:00:00", "2026-08-22T16:00Z/peak", ("0.44", "0.014", "1.32")),
        ("2026-08-29T02:00:00", "2026-08-22T16:00Z", ("0.22", "0.007", "0.66")),
    ],
)
def test_a_row_holds_until_the_next_one(
    tmp_path: Path, moment: str, label: str, rate: tuple[str, str, str]
) -> None:
    """Rows change at their first second, and weekends had peak hours until 2026-08-22 16:00 UTC."""
    price = table(tmp_path).at("deepseek-chat", utc(moment))
    assert price is not None
    assert price.id == f"deepseek-chat@{label}"
    assert (price.input, price.cached_input, price.output) == tuple(map(Decimal, rate))


@pytest.mark.parametrize(
    ("model", "moment"),
    [
        ("deepseek-chat", "2025-09-28T23:59:59"),
        ("deepseek-v4-pro", "2026-08-16T15:59:59"),
        ("gpt-6-luna", "2026-09-21T23:59:59"),
        ("gemini-3.8-flash", "2026-09-01T23:59:59"),
        ("openrouter-auto", "2026-11-23T00:00:00"),
        ("nobody", "2026-11-23T00:00:00"),
    ],
)
def test_before_the_first_row_nothing_is_known(tmp_path: Path, model: str, moment: str) -> None:
    """No row covers the moment: the price is None."""
    assert table(tmp_path).at(model, utc(moment)) is None


@pytest.mark.parametrize(
    ("tokens", "label", "rates"),
    [
        (0, "", ("0.10", "0.01", "0.125", "0.50")),
        (272_000, "", ("0.10", "0.01", "0.125", "0.50")),
        (272_001, "/long", ("0.20", "0.02", "0.25", "0.75")),
    ],
)
def test_long_context_holds_above_its_bound(
    tmp_path: Path, tokens: int, label: str, rates: tuple[str, str, str, str]
) -> None:
    """Luna's request of more than 272,000 input tokens has the long price, all four of its rates."""
    price = table(tmp_path).at("gpt-6-luna", utc("2026-11-23T02:00:00"), tokens)
    assert price is not None
    assert price.id == f"gpt-6-luna@2026-09-22T00:00Z{label}"
    found = (price.input, price.cached_input, price.cache_write, price.output)
    assert found == tuple(map(Decimal, rates))


@pytest.mark.parametrize(
    ("moment", "label", "price"),
    [
        ("2026-09-09T23:59:59", "2024-10-02T00:00Z", "2.50"),
        ("2026-09-10T00:00:00", "2026-09-10T00:00Z", "7"),
    ],
)
def test_a_users_row_is_added(tmp_path: Path, moment: str, label: str, price: str) -> None:
    """A row in turnout.toml holds from its own beginning; ours hold before it."""
    toml = f'[[prices]]\n{HEAD.replace("2026-01-01T", "2026-09-10T")}input = "7"\noutput = "2"\n'
    found = table(tmp_path, toml).at("gpt-4o", utc(moment))
    assert found is not None
    assert (found.id, found.input) == (f"gpt-4o@{label}", Decimal(price))


def test_a_users_row_of_the_past(tmp_path: Path) -> None:
    """A user's row that begins before ours holds until ours does: the order in which rows are written is nothing."""
    toml = f'[[prices]]\n{HEAD.replace("2026-01-01T", "2024-01-01T")}input = "7"\noutput = "2"\n'
    prices = table(tmp_path, toml)
    before, after = (prices.at("gpt-4o", utc(f"2024-{month}-01T00:00:00")) for month in ("09", "11"))
    assert before is not None
    assert after is not None
    assert (before.input, after.input) == (Decimal(7), Decimal("2.50"))


def test_a_users_row_wins_at_the_same_moment(tmp_path: Path) -> None:
    """Where a user's row begins when ours does, the user's is the one that holds."""
    toml = (
        '[[prices]]\nmodels = ["deepseek-chat"]\nfrom = 2026-09-10T08:00:00+08:00\n'
        'input = "9"\noutput = "9"\nsource = "our contract"\nchecked = 2026-11-01\n'
    )
    prices = table(tmp_path, toml)
    mine, theirs = (
        prices.at(name, utc("2026-11-21T02:00:00")) for name in ("deepseek-chat", "deepseek-reasoner")
    )
    assert mine is not None
    assert theirs is not None
    assert (mine.input, mine.cached_input) == (Decimal(9), None)
    assert theirs.input == OFF_PEAK


def test_a_users_schedule_and_calendar(tmp_path: Path) -> None:
    """A schedule and a calendar of the user's own decide when the user's band holds."""
    toml = (
        ROW
        + '[prices.bands.cheap]\nschedule = "night"\ninput = "0.5"\noutput = "1"\n'
        + "[calendars.ours]\ncovers = [2026]\nholidays = [2026-11-24]\n"
        + '[schedules.night]\nutc_offset = -3\nweekdays = [1, 2]\nhours = [["22:00", "23:30"]]\ncalendar = "ours"\n'
    )
    prices = table(tmp_path, toml)
    cheap = []
    for day in (23, 24, 25, 26):
        price = prices.at("gpt-4o", utc(f"2026-11-{day}T01:00:00"))
        assert price is not None
        cheap.append(price.id.endswith("/cheap"))
    # 22:00 of the day before in UTC-3: Sunday, Monday, the holiday, Wednesday
    assert cheap == [False, True, False, False]


def test_a_users_holiday_replaces_ours(tmp_path: Path) -> None:
    """A calendar of turnout.toml is laid over ours: a holiday that was taken away is a peak day."""
    prices = table(tmp_path, "[calendars.china]\nholidays = []\n")
    price = prices.at("deepseek-chat", utc("2026-10-01T02:00:00"))
    assert price is not None
    assert price.input == PEAK


@pytest.mark.parametrize(
    ("toml", "message", "hint"),
    [
        (ROW + 'cached_imput = "1"', "row 1: unknown field 'cached_imput'", "did you mean 'cached_input'?"),
        (ROW.replace('input = "1"\n', ""), "row 1: Object missing required field `input`", "that field"),
        (ROW.replace('"1"', '"cheap"'), "row 1: Invalid decimal string", "correct that field"),
        (ROW.replace('"1"', '"-1"'), "row 1: -1 is not a price", "dollars per million tokens as text"),
        (ROW.replace('"2"', '"NaN"'), "row 1: NaN is not a price", "dollars per million tokens as text"),
        (ROW.replace('"2"', '"Infinity"'), "row 1: Infinity is not a price", "per million tokens as text"),
        (ROW + 'cache_write = "-0.1"', "row 1: -0.1 is not a price", "dollars per million tokens as text"),
        (ROW.replace("00:00Z", "00:00"), "row 1: `from` needs a zone", "write from = 2026-09-10T00:00:00Z"),
        (ROW.replace("T00:00:00Z", ""), "row 1: Expected `datetime`, got `date`", "correct that field"),
        (ROW + ROW.replace("gpt-4o", "gpt-4p"), "row 2: no model 'gpt-4p'", "did you mean 'gpt-4o'?"),
        (
            ROW + '[prices.bands.peak]\nschedule = "deepseek-peek"\ninput = "1"\noutput = "1"',
            "row 1: band 'peak' has no schedule",
            "did you mean 'deepseek-peak'?",
        ),
        (
            ROW + '[prices.bands.peak]\ninput = "1"\noutput = "1"',
            "missing required field `schedule`",
            "correct that field",
        ),
        (
            ROW
            + '[prices.bands.peak]\nschedule = "deepseek-peak"\ninput = "1"\noutput = "1"\ncached_imput = "1"',
            "unknown field `cached_imput`",
            "correct that field",
        ),
        (
            ROW + '[prices.long_context]\ninput = "1"\noutput = "1"',
            "missing required field `above`",
            "correct",
        ),
        ("prices = [5]", "row 1 must be a table, not int", "write fields below"),
        (
            SCHEDULE.replace("= 0", "= 30") + 'hours = [["09:00", "12:00"]]',
            "utc_offset is hours",
            "write utc_offset",
        ),
        (
            SCHEDULE.replace("[1]", "[9]") + 'hours = [["09:00", "12:00"]]',
            "weekdays are 1",
            "write utc_offset",
        ),
        (SCHEDULE + 'hours = [["09:00Z", "12:00"]]', "hours must be pairs of HH:MM", "write hours"),
        (
            ROW + '[prices.bands.peak]\nschedule = "deepseek-peak"\ninput = "-2"\noutput = "1"',
            "row 1: -2 is not a price",
            "dollars per million tokens as text",
        ),
        (
            ROW + '[prices.long_context]\nabove = 5\ninput = "1"\noutput = "-3"',
            "row 1: -3 is not a price",
            "dollars per million tokens as text",
        ),
        (
            SCHEDULE + 'hours = [["12:00", "09:00"]]',
            "[schedules.night]: hours must be pairs of HH:MM, the earlier first",
            'write hours = [["09:00", "12:00"]]',
        ),
        (
            SCHEDULE + 'hours = [["9 o\'clock", "12:00"]]',
            "[schedules.night]: hours must be pairs of HH:MM",
            'write hours = [["09:00", "12:00"]]',
        ),
        (
            SCHEDULE + 'hours = [["09:00"]]',
            "[schedules.night]: Expected `array` of length 2",
            "correct that field",
        ),
        (
            SCHEDULE + 'hours = []\ncalendar = "chine"',
            "[schedules.night]: no calendar 'chine'",
            "did you mean 'china'?",
        ),
        (
            "[schedules]\ndeepseek-peak = 5",
            "turnout.toml: [schedules.deepseek-peak] must be a table, not int",
            "write [schedules.deepseek-peak] on a line of its own",
        ),
        (
            "[calendars.china]\nholliday = []",
            "[calendars.china]: unknown field 'holliday'",
            "did you mean 'holidays'?",
        ),
        (
            '[calendars.france]\ncovers = [2026]\nholidays = ["Bastille"]',
            "[calendars.france]: Invalid RFC3339",
            "correct that field",
        ),
    ],
)
def test_a_bad_row_is_told(tmp_path: Path, toml: str, message: str, hint: str) -> None:
    """What is wrong with a price, a schedule or a calendar is one line with the row, and a hint with the fix."""
    with pytest.raises(ConfigError) as caught:
        table(tmp_path, toml)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hint in caught.value.hint
    if "[[prices]]" in toml:
        assert "turnout.toml, [[prices]] row" in str(caught.value)


def test_the_file_is_named(tmp_path: Path) -> None:
    """The error says in which file the row stands, when there is one."""
    file = tmp_path / "turnout.toml"
    tables = tomllib.loads(ROW.replace('"1"', '"-1"'))
    with pytest.raises(ConfigError) as caught:
        registry.load(Settings(home=tmp_path, file=file, tables=tables))
    assert f"{file}, [[prices]] row 1: -1 is not a price" in str(caught.value)


def test_a_label_is_in_utc(tmp_path: Path) -> None:
    """A row dated in another zone is labelled with its moment in UTC."""
    prices = table(tmp_path, ROW.replace("T00:00:00Z", "T00:00:00+08:00").replace("from = ", "from = "))
    assert (prices.rows("gpt-4o")[-1].since.utcoffset() or timedelta()).total_seconds() == 8 * 3600
    found = prices.at("gpt-4o", datetime(2026, 11, 25, tzinfo=UTC))
    assert found is not None
    assert found.id.endswith("T16:00Z")
