"""What a trace is made of, once its events are put together: nodes, and what each used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from turnout.types import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

What = Literal["trace", "span", "call", "attempt", "event"]
State = Literal["ok", "failed", "open", "left open", "cut off"]


class Figures(msgspec.Struct, kw_only=True):
    """Tokens and money of a node: its own where nothing below it has any, else the sum of what is below."""

    input_tokens: int = 0
    output_tokens: int = 0
    tokens: int = 0
    cost_nano: int = 0
    unpriced: int = 0
    """Attempts whose price is not known; they are not in the cost."""
    held_nano: int = 0
    """Of the cost, what was held for attempts that a killed process never settled."""
    seconds: float = 0.0
    """Spent in the leaves; what ran at the same time counts each for itself."""

    def add(self, other: Figures) -> None:
        """Take another's into this one."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Node(msgspec.Struct, kw_only=True):
    """One thing of a trace: a span, a call with its attempts, an attempt, or an event within a span."""

    id: str
    what: What
    kind: Kind
    at: int
    """Microseconds UTC."""
    name: str = ""
    agent: str | None = None
    seconds: float | None = None
    """`None` while it has not ended; an event takes no time."""
    state: State = "ok"
    error: str | None = None
    marks: list[str] = []
    """What does not add up, in words."""
    facts: dict[str, Any] = {}
    figures: Figures = msgspec.field(default_factory=Figures)
    children: list[Node] = []
    parent: str | None = None

    @property
    def ended_at(self) -> int | None:
        """Microseconds UTC, or `None` while it has not ended."""
        if self.seconds is None:
            return None
        return self.at + round(self.seconds * 1e6)


def walk(roots: Iterable[Node]) -> Iterator[tuple[int, Node]]:
    """Every node with its depth, each before what is below it."""
    stack = [(0, node) for node in reversed(list(roots))]
    while stack:
        depth, node = stack.pop()
        yield depth, node
        stack += [(depth + 1, child) for child in reversed(node.children)]


def metadata(facts: dict[str, Any]) -> dict[str, Any]:
    """What the application said about a step."""
    said = facts.get("metadata")
    return said if isinstance(said, dict) else {}
