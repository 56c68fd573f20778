"""Seeded calls as the journal holds them: payloads of LLM_CALL_START and LLM_CALL_END."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from turnout.types import Attempt, Closed, Event, Kind, Opened, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = 1_795_000_000_000_000
"""A moment in November 2026, in microseconds UTC."""
MODELS = (
    ("deepseek-chat", "deepseek"),
    ("deepseek-reasoner", "deepseek"),
    ("gpt-4o", "openai"),
    ("gpt-4o-mini", "openai"),
    ("kimi-k2", "moonshot"),
    ("claude-sonnet", "anthropic"),
)
AGENTS = ("debugger", "librarian", "dojo", "builder", "supervisor", "critic")


USAGE = Usage(input_tokens=100, cached_input_tokens=40, output_tokens=20)


def uuid7(at: int, rng: random.Random) -> str:
    """A UUIDv7 at a moment, from a seeded source."""
    stamp = (at // 1_000) << 80
    return str(UUID(int=stamp | (7 << 76) | (rng.getrandbits(12) << 64) | (2 << 62) | rng.getrandbits(62)))


def attempt(
    *,
    id: str = "a1",  # noqa: A002
    call: str = "c1",
    trace: str | None = None,
    number: int = 1,
    at: int = NOON,
    agent: str = "debugger",
    model: str = "deepseek-chat",
    provider: str = "deepseek",
    user: str | None = "alice",
    session: str | None = "s1",
    outcome: str = "ok",
    cost: int | None = 1_000,
    hold: int | None = 5_000,
    usage: Usage | None = USAGE,
    seconds: float = 1.5,
    fallback: str | None = None,
    **opened: Any,
) -> tuple[bytes, bytes]:
    """The payloads of one attempt's start and end."""
    head = Opened(
        call=call, number=number, model=model, provider=provider, hold_nano=hold, input_tokens=110, **opened
    )
    common: dict[str, Any] = {
        "trace": trace or call,
        "span": id,
        "agent": agent,
        "user": user,
        "session": session,
    }
    start = Event(id=f"{id}s", kind=Kind.LLM_CALL_START, at=at, facts=msgspec.to_builtins(head), **common)
    closed = Closed(
        opened=head,
        attempt=Attempt(
            id=id,
            model=model,
            provider=provider,
            started_at=at,
            seconds=seconds,
            outcome=outcome,
            status=200 if outcome == "ok" else 503,
            error=None if outcome == "ok" else "it was away",
            usage=usage,
            cost_nano=cost,
            price_id=f"{model}@2026-01-01",
        ),
        finish_reason="stop" if outcome == "ok" else None,
        fallback_reason=fallback,
    )
    end = Event(
        id=f"{id}e",
        kind=Kind.LLM_CALL_END,
        at=at + round(seconds * 1e6),
        facts=msgspec.to_builtins(closed),
        tokens=usage.total_tokens if usage else None,
        cost_nano=cost,
        **common,
    )
    return msgspec.json.encode(start), msgspec.json.encode(end)


def many(
    calls: int, *, seed: int, since: int = NOON, spread: int = 3_600_000_000
) -> Iterator[tuple[bytes, bytes]]:
    """The attempts of seeded calls in the order of time: one in twenty fails over to a second model."""
    rng = random.Random(seed)  # noqa: S311
    for number in range(calls):
        at = since + spread * number // max(1, calls)
        model, provider = rng.choice(MODELS)
        session = rng.randrange(2_000)
        shared: dict[str, Any] = {
            "call": uuid7(at, rng),
            "agent": rng.choice(AGENTS),
            "user": f"user-{session % 200}",
            "session": f"session-{session}",
        }
        fails = rng.random() < 0.05
        tokens = rng.randrange(50, 4_000)
        cached = rng.choice((0, 0, tokens // 2))
        written = rng.randrange(10, 900)
        seconds = rng.lognormvariate(0.3, 0.7)
        yield attempt(
            id=uuid7(at, rng),
            at=at,
            model=model,
            provider=provider,
            seconds=seconds,
            outcome="server_error" if fails else "ok",
            cost=0 if fails else tokens * 300 + written * 1_100,
            usage=None
            if fails
            else Usage(input_tokens=tokens, cached_input_tokens=cached, output_tokens=written),
            **shared,
        )
        if fails:
            later = at + round(seconds * 1e6)
            yield attempt(
                id=uuid7(later, rng),
                at=later,
                number=2,
                model="gpt-4o-mini",
                provider="openai",
                seconds=rng.lognormvariate(0.3, 0.7),
                fallback="server_error",
                cost=tokens * 150 + written * 600,
                usage=Usage(input_tokens=tokens, output_tokens=written),
                **shared,
            )
