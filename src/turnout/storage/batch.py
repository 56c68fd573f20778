"""A run of journal lines as rows for the tables: repeated events are left to the tables, states are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from turnout.storage.lines import RANK, CostRow, Line, ended, fits, read_line, read_opened, reserved, when
from turnout.types import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

DAY_US = 24 * 3_600_000_000
BODY_TTL_US = 7 * DAY_US
"""How long a body is kept that does not say so itself."""
_BODILESS = frozenset({Kind.LLM_CALL_START, Kind.LLM_CALL_END, Kind.MODEL_FALLBACK})
"""Kinds whose facts are ours alone; the facts of any other may hold a body."""


Seen = tuple[str | None, str | None, int, int]
"""Session and user of a trace, when it was heard of first and last; each the least that was said."""
UsageDay = tuple[int, str, str]
"""What the daily sums are kept by: day, user, session; '' is nobody and no session."""
UNHEARD = (2**62, 0)
"""First and last that change no bound they are merged with."""
UNSEEN: Seen = (None, None, *UNHEARD)


class Batch:
    """What a run of payloads holds: event rows, the highest state of each attempt, the traces and days seen."""

    def __init__(self, payloads: Iterable[bytes]) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.bodies: list[tuple[Any, ...]] = []
        self.attempts: dict[str, CostRow] = {}
        self.traces: dict[str, Seen] = {}
        self.days: dict[UsageDay, tuple[int, int]] = {}
        """When a session's, or a sessionless user's, calls were heard of first and last within a day."""
        self.unreadable: list[bytes] = []
        """Payloads that are no event, or an attempt's event whose facts are none; the latter are kept as events."""
        starts: dict[str, tuple[Line, bytes]] = {}
        for payload in payloads:
            try:
                self._take(payload, starts)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self.unreadable.append(payload)
        for span, (line, payload) in starts.items():
            self._began(span, line, payload)

    def _take(self, payload: bytes, starts: dict[str, tuple[Line, bytes]]) -> None:
        line = read_line(payload)
        kind, trace, session, user = line.kind, line.trace, line.session, line.user
        at, tokens, cost = when(line.at), line.tokens, line.cost_nano
        facts = str(line.facts, "utf-8")
        if kind not in _BODILESS and '"body"' in facts:
            facts = self._without_body(line)
        self.events.append(
            (
                trace,
                line.id,
                at,
                kind,
                line.span,
                line.parent,
                line.agent,
                user,
                session,
                facts,
                tokens if tokens is None else fits(tokens),
                cost if cost is None else fits(cost),
                line.error,
            )
        )
        known = self.traces.get(trace)
        if known is None:
            self.traces[trace] = (session, user, at, at)
        elif known[0] == session and known[1] == user and at > known[3]:
            self.traces[trace] = (session, user, known[2], at)
        else:
            self.traces[trace] = _merged(known, session, user, at)
        if kind == "LLM_CALL_START":  # its day hears of it by its end, which tells when it began
            if line.span is None:
                raise msgspec.ValidationError("an attempt's start has no span")
            starts[line.span] = (line, payload)
            return
        if session is not None:
            self._heard(user, session, at)
        if kind == "LLM_CALL_END":
            row = ended(line)
            self.saw(row)
            standing = self.attempts.get(row.id)
            if standing is None or RANK[row.state] > RANK[standing.state]:
                self.attempts[row.id] = row

    def _began(self, span: str, line: Line, payload: bytes) -> None:
        """An attempt's start: a row of its own as long as its end has not come."""
        try:
            if span in self.attempts:
                read_opened(line.facts)
            else:
                self.attempts[span] = reserved(span, line)
        except msgspec.MsgspecError:
            self.unreadable.append(payload)

    def saw(self, row: CostRow) -> None:
        """The day of its start has heard of an attempt."""
        self._heard(row.user_id, row.session_id, row.at)

    def _heard(self, user: str | None, session: str | None, at: int) -> None:
        key = (at - at % DAY_US, user or "", session or "")
        known = self.days.get(key)
        if known is None:
            self.days[key] = (at, at)
        elif not known[0] <= at <= known[1]:
            self.days[key] = (min(known[0], at), max(known[1], at))

    def _without_body(self, line: Line) -> str:
        """The facts of what was said, the words themselves set aside: they have a table and a term of their own."""
        facts = msgspec.json.decode(line.facts, type=dict[str, msgspec.Raw])
        body = facts.pop("body", None)
        if body is not None:
            expires = msgspec.json.decode(facts.get("expires_at", b"0"), type=int)
            self.bodies.append(
                (line.trace, line.id, when(expires or line.at + BODY_TTL_US), str(body, "utf-8"))
            )
        return msgspec.json.encode(facts).decode()


def _merged(known: Seen, session: str | None, user: str | None, at: int) -> Seen:
    return (_least(known[0], session), _least(known[1], user), min(known[2], at), max(known[3], at))


def _least(one: str | None, other: str | None) -> str | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
