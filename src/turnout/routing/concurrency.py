"""How many calls one upstream takes at once, learned from its 429s: additive increase, multiplicative decrease."""

from __future__ import annotations


class Concurrency:
    """Unlimited until the first 429.

    A 429 cuts the limit to 7/10 of what is in flight, `limit` successes raise it by one, and it is forgotten when
    so many successes went by without once filling it. DeepSeek limits calls at once, not calls a minute: 2,500
    for flash and 500 for pro (its pricing page, 2026-10), and says neither in a header.
    """

    __slots__ = ("_filled", "_successes", "in_flight", "limit")

    def __init__(self) -> None:
        self.in_flight = 0
        self.limit: int | None = None
        """`None`: unlimited; never below 1."""
        self._successes = 0
        self._filled = False

    @property
    def full(self) -> bool:
        """One more would be over the limit."""
        return self.limit is not None and self.in_flight >= self.limit

    def enter(self) -> None:
        """One more is in flight."""
        self.in_flight += 1
        if self.full:
            self._filled = True

    def leave(self, *, answered: bool, limited: bool) -> None:
        """One less is in flight; it was `answered`, `limited` with a 429, or neither."""
        if limited:
            self._cut()
        self.in_flight -= 1
        if answered and self.limit is not None:
            self._count(self.limit)

    def _cut(self) -> None:
        cut = max(1, self.in_flight * 7 // 10)
        self.limit = cut if self.limit is None else min(cut, self.limit)
        self._successes = 0
        self._filled = True

    def _count(self, limit: int) -> None:
        self._successes += 1
        if self._successes < limit:
            return
        self.limit = limit + 1 if self._filled else None
        self._successes = 0
        self._filled = self.full
