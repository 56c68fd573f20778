"""A clock that stands until it is told to go on, and two models to ask."""

from __future__ import annotations

import pytest

from turnout.clock import Clock
from turnout.types import Model


class SetClock(Clock):
    """Monotonic time is what the test says."""

    def __init__(self) -> None:
        self._now = 1_000.0

    def monotonic(self) -> float:
        """The time that was set."""
        return self._now

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


def row(name: str, provider: str = "deepseek", upstream: str | None = None) -> Model:
    """A model row, called upstream as here unless told otherwise."""
    return Model(
        name=name,
        provider=provider,
        upstream=upstream or name,
        context_window=1_000,
        max_output=100,
        default_output=10,
    )


CHAT = row("deepseek-chat", upstream="deepseek-flash")
REASONER = row("deepseek-reasoner", upstream="deepseek-flash")
MINI = row("gpt-4o-mini", provider="openai")


@pytest.fixture
def clock() -> SetClock:
    """A clock that stands."""
    return SetClock()
