"""Usage x price row -> money; pure, in integer nano-dollars."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from turnout import current
from turnout.errors import InvalidRequest
from turnout.types import dollars

if TYPE_CHECKING:
    from decimal import Decimal

    from turnout.types import Price, Usage

_ATTO_PER_NANO = 10**9


def price_usage(price: Price | None, usage: Usage) -> int | None:
    """Nano-dollars, rounded half to even once; `None` when the price or the tokens are not known.

    What the provider says it charged is what it cost, whatever a price says.
    """
    if usage.cost_nano is not None:
        return usage.cost_nano
    if price is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached = usage.cached_input_tokens or 0
    written = usage.cache_write_tokens or 0
    fresh = max(0, usage.input_tokens - cached - written)
    fresh_rate, cached_rate, written_rate, output_rate = price.atto
    atto = fresh * fresh_rate + cached * cached_rate + written * written_rate
    nano, rest = divmod(atto + usage.output_tokens * output_rate, _ATTO_PER_NANO)
    half = _ATTO_PER_NANO // 2
    return nano + (rest > half or (rest == half and nano % 2 == 1))


def calculate_cost(model: str, usage: Usage, at: datetime | None = None) -> Decimal | None:
    """What a usage costs in dollars, exact to the nano-dollar; `None` when the price is not known.

    `at` is when the request was sent (an aware datetime; now when `None`): prices depend on date, hour,
    weekday and holidays. Raises `ConfigError` for a model that is not registered and `InvalidRequest` for a
    moment without a zone.
    """
    moment = datetime.now(UTC) if at is None else at
    if moment.tzinfo is None:
        raise InvalidRequest("`at` has no time zone", hint="pass datetime(..., tzinfo=timezone.utc)")
    registry = current.runtime().registry
    name = registry.model(model).name
    nano = price_usage(registry.prices.at(name, moment, usage.input_tokens or 0), usage)
    return None if nano is None else dollars(nano)
