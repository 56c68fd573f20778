"""One line of the journal, and the row of `cost_records` that an attempt's line stands for."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from turnout.types import Closed, Opened, Usage

RANK = {"reserved": 0, "expired_estimated": 1, "settled": 2}
"""A higher state of an attempt replaces a lower one."""
_LARGEST = 2**62
_LAST_MOMENT = 253_402_300_799_000_000
_NOTHING = msgspec.Raw(b"{}")


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An `Event` as its bytes say it: of any kind, also one that this version does not know, facts unread."""

    id: str
    trace: str
    kind: str
    at: int
    span: str | None = None
    parent: str | None = None
    agent: str | None = None
    user: str | None = None
    session: str | None = None
    facts: msgspec.Raw = _NOTHING
    tokens: int | None = None
    cost_nano: int | None = None
    error: str | None = None


class CostRow(NamedTuple):
    """A row of `cost_records`, its columns in their order."""

    id: str
    call_id: str
    trace_id: str
    number: int
    at: int
    state: str
    operation: str
    agent: str
    user_id: str | None
    session_id: str | None
    run_id: str | None
    key_id: str | None
    tags: str
    arm: str | None
    model_asked: str | None
    model: str
    provider: str
    upstream_model: str | None = None
    outcome: str | None = None
    status: int | None = None
    error: str | None = None
    finish_reason: str | None = None
    fallback_reason: str | None = None
    stream: int = 0
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_source: str | None = None
    hold_nano: int | None = None
    cost_nano: int | None = None
    price_id: str | None = None
    duration_us: int | None = None
    first_token_us: int | None = None


read_line = msgspec.json.Decoder(Line).decode
read_opened = msgspec.json.Decoder(Opened).decode
read_closed = msgspec.json.Decoder(Closed).decode


def reserved(span: str, line: Line) -> CostRow:
    """The row of an attempt that has begun. Raises `msgspec.MsgspecError`."""
    opened = read_opened(line.facts)
    return CostRow(
        id=span,
        call_id=opened.call,
        trace_id=line.trace,
        number=opened.number,
        at=when(line.at),
        state="reserved",
        operation=opened.operation,
        agent=line.agent or "",
        user_id=line.user,
        session_id=line.session,
        run_id=opened.run,
        key_id=opened.key,
        tags=_tags(opened),
        arm=opened.arm,
        model_asked=opened.asked,
        model=opened.model,
        provider=opened.provider,
        hold_nano=fits(opened.hold_nano),
        price_id=opened.price_id,
    )


def ended(line: Line) -> CostRow:
    """The row of an attempt that has ended. Raises `msgspec.MsgspecError`."""
    closed = read_closed(line.facts)
    opened, attempt = closed.opened, closed.attempt
    usage, cost, first_token = attempt.usage, attempt.cost_nano, attempt.first_token
    return _row(
        CostRow,
        (
            attempt.id,
            opened.call,
            line.trace,
            opened.number,
            when(attempt.started_at),
            closed.state,
            opened.operation,
            line.agent or "",
            line.user,
            line.session,
            opened.run,
            opened.key,
            _tags(opened) if opened.tags else "{}",
            opened.arm,
            opened.asked,
            attempt.model,
            attempt.provider,
            attempt.upstream_model,
            attempt.outcome,
            attempt.status,
            attempt.error,
            closed.finish_reason,
            closed.fallback_reason,
            1 if closed.stream else 0,
            *(_NOTHING_USED if usage is None else _counts(usage)),
            fits(opened.hold_nano),
            fits(cost),
            attempt.price_id or opened.price_id,
            round(attempt.seconds * 1e6) if closed.state == "settled" else None,
            None if first_token is None else round(first_token * 1e6),
        ),
    )


_row = tuple.__new__
_NOTHING_USED = (None,) * 6


def _counts(usage: Usage) -> tuple[int | str | None, ...]:
    """Five counts and their source."""
    counts = (
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )
    for count in counts:
        if count is not None and not -_LARGEST < count < _LARGEST:
            return (*map(fits, counts), usage.source)
    return (*counts, usage.source)


def _tags(opened: Opened) -> str:
    return msgspec.json.encode(opened.tags).decode() if opened.tags else "{}"


def fits(value: int | None) -> int | None:
    """A number as a column can hold it: a provider may report any number of tokens."""
    if value is None or -_LARGEST < value < _LARGEST:
        return value
    return _LARGEST if value > 0 else -_LARGEST


def when(at: int) -> int:
    """A moment as a calendar can hold it: between 1970 and the end of 9999."""
    return at if 0 <= at <= _LAST_MOMENT else min(max(at, 0), _LAST_MOMENT)
