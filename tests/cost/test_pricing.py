"""Usage times price row is money: the worked table by hand, and the rules around it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout import current, registry
from turnout.cost import calculate_cost
from turnout.cost.pricing import price_usage
from turnout.errors import ConfigError, InvalidRequest
from turnout.settings import Settings
from turnout.types import Price, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout.registry.prices import PriceTable

SPECIFIED = datetime(2026, 1, 13, tzinfo=UTC)
OFF_PEAK = datetime(2026, 11, 21, 2, tzinfo=UTC)
PEAK = datetime(2026, 11, 23, 2, tzinfo=UTC)

# 2,000 input and 300 output tokens: model, moment, cached input, nano-dollars, dollars.
WORKED = [
    ("deepseek-chat", SPECIFIED, 0, 686_000, "0.000686"),
    ("deepseek-chat", SPECIFIED, 1_400, 333_200, "0.0003332"),
    ("deepseek-chat", SPECIFIED, 1_800, 232_400, "0.0002324"),
    ("deepseek-chat", OFF_PEAK, 0, 480_000, "0.00048"),
    ("deepseek-chat", OFF_PEAK, 1_400, 274_200, "0.0002742"),
    ("deepseek-chat", OFF_PEAK, 1_800, 215_400, "0.0002154"),
    ("deepseek-chat", PEAK, 0, 960_000, "0.00096"),
    ("deepseek-chat", PEAK, 1_400, 548_400, "0.0005484"),
    ("deepseek-chat", PEAK, 1_800, 430_800, "0.0004308"),
    ("gpt-4o-mini", PEAK, 0, 480_000, "0.00048"),
    ("gpt-4o-mini", PEAK, 1_400, 375_000, "0.000375"),
    ("gpt-4o-mini", PEAK, 1_800, 345_000, "0.000345"),
    ("gpt-6-luna", PEAK, 0, 350_000, "0.00035"),
    ("gpt-6-luna", PEAK, 1_400, 224_000, "0.000224"),
    ("gpt-6-luna", PEAK, 1_800, 188_000, "0.000188"),
]

# What the table leaves out: model, moment, usage, nano-dollars.
MORE = [
    # the same tokens at every row of the two names
    (
        "deepseek-chat",
        datetime(2026, 4, 24, tzinfo=UTC),
        Usage(input_tokens=2_000, output_tokens=300),
        364_000,
    ),
    (
        "deepseek-reasoner",
        datetime(2026, 4, 25, 23, 59, 59, tzinfo=UTC),
        Usage(input_tokens=2_000, cached_input_tokens=1_000, output_tokens=300),
        252_000,
    ),
    (
        "deepseek-reasoner",
        datetime(2026, 4, 26, tzinfo=UTC),
        Usage(input_tokens=2_000, cached_input_tokens=1_000, output_tokens=300),
        226_800,
    ),
    (
        "deepseek-chat",
        datetime(2026, 8, 16, 16, tzinfo=UTC),
        Usage(input_tokens=2_000, output_tokens=300),
        638_000,
    ),
    (
        "deepseek-chat",
        datetime(2026, 8, 22, 2, tzinfo=UTC),
        Usage(input_tokens=2_000, output_tokens=300),
        1_276_000,
    ),
    ("deepseek-v4-pro", OFF_PEAK, Usage(input_tokens=2_000, output_tokens=300), 1_914_000),
    ("deepseek-v4-pro", PEAK, Usage(input_tokens=2_000, output_tokens=300), 3_828_000),
    # reasoning is part of the output, cached and written are part of the input
    (
        "deepseek-reasoner",
        OFF_PEAK,
        Usage(input_tokens=2_000, cached_input_tokens=0, output_tokens=300, reasoning_tokens=290),
        480_000,
    ),
    (
        "gpt-6-luna",
        PEAK,
        Usage(input_tokens=2_000, cached_input_tokens=500, cache_write_tokens=1_000, output_tokens=300),
        330_000,
    ),
    # no price of its own for writing the cache, none for reading it
    ("gpt-4o-mini", PEAK, Usage(input_tokens=2_000, cache_write_tokens=1_000, output_tokens=300), 480_000),
    ("gpt-4o", PEAK, Usage(input_tokens=2_000, cached_input_tokens=1_800, output_tokens=300), 8_000_000),
    # the whole request is long, or none of it is
    ("gpt-6-luna", PEAK, Usage(input_tokens=272_000, output_tokens=1_000), 27_700_000),
    ("gpt-6-luna", PEAK, Usage(input_tokens=272_001, output_tokens=1_000), 55_150_200),
    (
        "gpt-6-luna",
        PEAK,
        Usage(
            input_tokens=300_000, cached_input_tokens=100_000, cache_write_tokens=100_000, output_tokens=1_000
        ),
        47_750_000,
    ),
    # half price until the year ends, and no price for the cache from then on
    (
        "gemini-3.8-flash",
        datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC),
        Usage(input_tokens=2_000, cached_input_tokens=1_000, output_tokens=300),
        1_950_000,
    ),
    (
        "gemini-3.8-flash",
        datetime(2027, 1, 1, tzinfo=UTC),
        Usage(input_tokens=2_000, cached_input_tokens=1_000, output_tokens=300),
        5_250_000,
    ),
    # free is a price, and so is nothing used
    ("smollm2-135m", PEAK, Usage(input_tokens=2_000, output_tokens=300), 0),
    ("gpt-4o", PEAK, Usage(input_tokens=0, output_tokens=0), 0),
    ("text-embedding-3-small", PEAK, Usage(input_tokens=1_000, output_tokens=0), 20_000),
    # more cached than there was input: never a negative remainder
    ("gpt-4o-mini", PEAK, Usage(input_tokens=100, cached_input_tokens=500, output_tokens=0), 37_500),
    # not known
    ("deepseek-chat", datetime(2025, 9, 28, tzinfo=UTC), Usage(input_tokens=2_000, output_tokens=300), None),
    ("gpt-6-luna", SPECIFIED, Usage(input_tokens=2_000, output_tokens=300), None),
    ("openrouter-deepseek-flash", PEAK, Usage(input_tokens=2_000, output_tokens=300), None),
    ("deepseek-chat", PEAK, Usage(), None),
    ("deepseek-chat", PEAK, Usage(input_tokens=2_000), None),
    ("deepseek-chat", PEAK, Usage(output_tokens=300), None),
]


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> PriceTable:
    """The shipped prices."""
    return registry.load(Settings(home=tmp_path_factory.mktemp("home"))).prices


@pytest.fixture(scope="module")
def _keyless_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This process's runtime, wired without keys and files."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("TURNOUT_") or name.endswith(("_API_KEY", "_API_KEY_FILE", "_BASE_URL")):
                patch.delenv(name)
        patch.setenv("TURNOUT_HOME", str(home))
        patch.chdir(home)
        current.forget()
        current.runtime()
    yield
    if (left := current.forget()) is not None:
        left.sync.close()


@pytest.mark.parametrize(("model", "at", "cached", "nano", "_dollars"), WORKED)
def test_the_worked_table(
    prices: PriceTable, model: str, at: datetime, cached: int, nano: int, _dollars: str
) -> None:
    """Each cell of the worked table, in nano-dollars."""
    usage = Usage(input_tokens=2_000, cached_input_tokens=cached, output_tokens=300)
    assert price_usage(prices.at(model, at, 2_000), usage) == nano


@pytest.mark.usefixtures("_keyless_process")
@pytest.mark.parametrize(("model", "at", "cached", "_nano", "dollars"), WORKED)
def test_the_worked_table_in_dollars(model: str, at: datetime, cached: int, _nano: int, dollars: str) -> None:
    """Each cell of the worked table through the public function, in exact dollars."""
    usage = Usage(input_tokens=2_000, cached_input_tokens=cached, output_tokens=300)
    assert calculate_cost(model, usage, at=at) == Decimal(dollars)


@pytest.mark.parametrize(("model", "at", "usage", "nano"), MORE)
def test_beyond_the_table(
    prices: PriceTable, model: str, at: datetime, usage: Usage, nano: int | None
) -> None:
    """Dates, caches, tiers and what is not known, in nano-dollars."""
    assert price_usage(prices.at(model, at, usage.input_tokens or 0), usage) == nano


@pytest.mark.usefixtures("_keyless_process")
@pytest.mark.parametrize(("model", "at", "usage", "nano"), MORE)
def test_beyond_the_table_in_dollars(model: str, at: datetime, usage: Usage, nano: int | None) -> None:
    """The public function prices the same usages, and answers None, not 0, where a price is not known."""
    expected = None if nano is None else Decimal(nano).scaleb(-9)
    assert calculate_cost(model, usage, at) == expected


@pytest.mark.parametrize(
    ("tokens", "nano"),
    [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4), (2_001, 1_000), (2_003, 1_002)],
)
def test_halves_go_to_the_even_neighbour(tokens: int, nano: int) -> None:
    """Half a nano-dollar is rounded to the even one, so that rounding favours nobody."""
    price = Price(id="half", input=Decimal("0.0005"), output=Decimal(0))
    assert price_usage(price, Usage(input_tokens=tokens, output_tokens=0)) == nano


def test_rounding_happens_once() -> None:
    """Two halves of one request are one nano-dollar: the sum is rounded, not its parts."""
    price = Price(id="half", input=Decimal("0.0005"), output=Decimal("0.0005"))
    assert price_usage(price, Usage(input_tokens=1, output_tokens=1)) == 1


def test_what_was_charged_is_what_it_cost() -> None:
    """A reported amount, 0 too, stands before any price, and without one."""
    price = Price(id="any", input=Decimal(1), output=Decimal(1))
    for nano in (0, 39_000):
        usage = Usage(input_tokens=10, output_tokens=10, cost_nano=nano)
        assert price_usage(price, usage) == price_usage(None, usage) == nano


def test_a_cache_may_be_free() -> None:
    """A price of 0 for the cache is a price, not one that is missing."""
    price = Price(
        id="free", input=Decimal(1), output=Decimal(1), cached_input=Decimal(0), cache_write=Decimal(0)
    )
    usage = Usage(input_tokens=10, cached_input_tokens=4, cache_write_tokens=3, output_tokens=0)
    assert price_usage(price, usage) == 3_000


def test_large_amounts_are_exact() -> None:
    """A trillion tokens are counted to the nano-dollar."""
    price = Price(id="exact", input=Decimal("0.28"), output=Decimal("0.42"))
    usage = Usage(input_tokens=10**12 + 1, output_tokens=1)
    assert price_usage(price, usage) == 280_000_000_000_700


@pytest.mark.usefixtures("_keyless_process")
def test_now_when_no_moment_is_given() -> None:
    """Without `at` the price is today's."""
    assert calculate_cost("gpt-4o", Usage(input_tokens=1_000, output_tokens=100)) == Decimal("0.0035")


@pytest.mark.usefixtures("_keyless_process")
def test_a_moment_needs_a_zone() -> None:
    """A naive moment is refused, as it names no point in time."""
    naive = PEAK.replace(tzinfo=None)
    with pytest.raises(InvalidRequest, match="`at` has no time zone") as caught:
        calculate_cost("deepseek-chat", Usage(input_tokens=1, output_tokens=1), at=naive)
    assert "tzinfo" in caught.value.hint


@pytest.mark.usefixtures("_keyless_process")
def test_an_unknown_model_gets_the_nearest_name() -> None:
    """A model nobody registered has no cost but a suggestion."""
    with pytest.raises(ConfigError, match="there is no model 'deepseek-caht'") as caught:
        calculate_cost("deepseek-caht", Usage(input_tokens=1, output_tokens=1), at=PEAK)
    assert caught.value.hint == "did you mean 'deepseek-chat'?"


tokens = st.integers(min_value=0, max_value=10**9)
rates = st.integers(min_value=0, max_value=10**8).map(lambda micro: Decimal(micro).scaleb(-6))
whole_nanos = st.integers(min_value=0, max_value=10**5).map(lambda milli: Decimal(milli).scaleb(-3))
any_prices = st.builds(
    Price,
    id=st.just("any"),
    input=rates,
    output=rates,
    cached_input=st.none() | rates,
    cache_write=st.none() | rates,
)
any_usages = st.builds(
    Usage,
    input_tokens=tokens,
    cached_input_tokens=st.none() | tokens,
    cache_write_tokens=st.none() | tokens,
    output_tokens=tokens,
)


@given(any_usages, whole_nanos, whole_nanos, tokens)
def test_cost_is_additive_in_output(usage: Usage, paid: Decimal, output: Decimal, more: int) -> None:
    """At prices of whole nano-dollars a token, output paid in two parts costs what it costs in one."""
    price = Price(id="any", input=paid, output=output)
    whole = msgspec.structs.replace(usage, output_tokens=(usage.output_tokens or 0) + more)
    cost, first = price_usage(price, whole), price_usage(price, usage)
    rest = price_usage(price, Usage(input_tokens=0, output_tokens=more))
    assert first is not None
    assert rest is not None
    assert cost == first + rest


@given(any_prices, any_usages)
def test_cost_is_never_negative(price: Price, usage: Usage) -> None:
    """Whatever a provider reports, nobody is paid for asking."""
    cost = price_usage(price, usage)
    assert cost is not None
    assert cost >= 0
