"""Attempts whose process died: what stands in for the end they never had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from turnout.storage.lines import read_line, read_opened
from turnout.types import Attempt, Closed, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

EXPIRED = "expired"
"""The outcome of an attempt whose process ended before it did."""


def expire(payload: bytes) -> bytes | None:
    """The end of an attempt whose process died, from the payload of its start: its whole hold, estimated.

    It is an event like any other, a microsecond after its start, with an id made from the attempt's: whoever makes
    it makes the same. `None` when the payload is no start.
    """
    try:
        line = read_line(payload)
        opened = read_opened(line.facts)
    except msgspec.MsgspecError:
        return None
    if line.kind != "LLM_CALL_START" or line.span is None:
        return None
    closed = Closed(
        opened=opened,
        attempt=Attempt(
            id=line.span,
            model=opened.model,
            provider=opened.provider,
            started_at=line.at,
            seconds=0.0,
            outcome=EXPIRED,
            error="the process ended before the attempt did; its reservation is charged in full",
            usage=Usage(input_tokens=opened.input_tokens, source="estimated"),
            cost_nano=opened.hold_nano,
            price_id=opened.price_id,
        ),
        state="expired_estimated",
    )
    ended = msgspec.structs.replace(
        line,
        id=f"{line.span}:{EXPIRED}",
        at=line.at + 1,
        kind="LLM_CALL_END",
        facts=msgspec.Raw(msgspec.json.encode(closed)),
        cost_nano=opened.hold_nano,
        error=closed.attempt.error,
    )
    return msgspec.json.encode(ended)


class Unclosed:
    """The starts that have no end among all the payloads seen, in whatever order."""

    def __init__(self) -> None:
        self._starts: dict[str, bytes] = {}
        self._ends: set[str] = set()

    def see(self, payloads: Iterable[bytes]) -> None:
        """Some more payloads; those that are no events of attempts say nothing."""
        for payload in payloads:
            if b"LLM_CALL_" not in payload:
                continue
            try:
                line = read_line(payload)
            except msgspec.MsgspecError:
                continue
            if line.span is None:
                continue
            if line.kind == "LLM_CALL_START":
                self._starts[line.span] = payload
            elif line.kind == "LLM_CALL_END":
                self._ends.add(line.span)
                self._starts.pop(line.span, None)

    def expired(self) -> list[bytes]:
        """Their ends, as `expire` makes them."""
        ends = (expire(payload) for span, payload in self._starts.items() if span not in self._ends)
        return [end for end in ends if end is not None]
