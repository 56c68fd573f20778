"""A run of journal lines as rows for the tables: repeated events are left to the tables, states are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from turnout.storage.lines import RANK, CostRow, Line, ended, fits, read_line, read_opened, reserved, when
from turnout.types import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

BODY_TTL_US = 7 * 24 * 3_600_000_000
"""How long a body is kept that does not say so itself."""
_WITH_BODY = frozenset({Kind.USER_INPUT, Kind.AGENT_RESPONSE})


class Seen(NamedTuple):
    """When a trace or a session was heard of first and last, and whose it is; each the least that was said."""

    session_id: str | None
    user_id: str | None
    first_at: int
    last_at: int


UNSEEN = Seen(None, None, 2**62, 0)
"""Changes no bound it is merged with."""


class Batch:
    """What a run of payloads holds: event rows, the highest state of each attempt, the traces and sessions seen."""

    def __init__(self, payloads: Iterable[bytes]) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.bodies: list[tuple[Any, ...]] = []
        self.attempts: dict[str, CostRow] = {}
        self.traces: dict[str, Seen] = {}
        self.sessions: dict[str, Seen] = {}
        self.unreadable: list[bytes] = []
        """Payloads that are no event, or an attempt's event whose facts are none; the latter are kept as events."""
        starts: dict[str, Line] = {}
        for payload in payloads:
            try:
                self._take(read_line(payload), starts)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self.unreadable.append(payload)
        for span, line in starts.items():
            if span not in self.attempts:
                self.attempts[span] = reserved(span, line)

    def _take(self, line: Line, starts: dict[str, Line]) -> None:
        kind, trace, session = line.kind, line.trace, line.session
        at = when(line.at)
        facts = self._without_body(line) if kind in _WITH_BODY else str(line.facts, "utf-8")
        self.events.append(
            (
                trace,
                line.id,
                at,
                kind,
                line.span,
                line.parent,
                line.agent,
                line.user,
                session,
                facts,
                fits(line.tokens),
                fits(line.cost_nano),
                line.error,
            )
        )
        self.traces[trace] = _seen(self.traces.get(trace), line, at)
        if session is not None:
            self.sessions[session] = _seen(self.sessions.get(session), line, at)
        if kind == "LLM_CALL_START":
            if line.span is None:
                raise msgspec.ValidationError("an attempt's start has no span")
            read_opened(line.facts)
            starts[line.span] = line
        elif kind == "LLM_CALL_END":
            row = ended(line)
            self.saw(row)
            standing = self.attempts.get(row.id)
            if standing is None or RANK[row.state] > RANK[standing.state]:
                self.attempts[row.id] = row

    def saw(self, row: CostRow) -> None:
        """A session is at least as long as its attempts are told to be."""
        if row.session_id is None:
            return
        known = self.sessions.get(row.session_id)
        if known is None:
            self.sessions[row.session_id] = Seen(row.session_id, row.user_id, row.at, row.at)
        elif not known.first_at <= row.at <= known.last_at:
            first, last = min(known.first_at, row.at), max(known.last_at, row.at)
            self.sessions[row.session_id] = known._replace(first_at=first, last_at=last)

    def _without_body(self, line: Line) -> str:
        """The facts of what was said, the words themselves set aside: they have a table and a term of their own."""
        if b'"body"' not in bytes(line.facts):
            return str(line.facts, "utf-8")
        facts = msgspec.json.decode(line.facts, type=dict[str, msgspec.Raw])
        body = facts.pop("body", None)
        if body is not None:
            expires = msgspec.json.decode(facts.get("expires_at", b"0"), type=int)
            self.bodies.append(
                (line.trace, line.id, when(expires or line.at + BODY_TTL_US), str(body, "utf-8"))
            )
        return msgspec.json.encode(facts).decode()


def _seen(known: Seen | None, line: Line, at: int) -> Seen:
    if known is None:
        return Seen(line.session, line.user, at, at)
    session, user, first, last = known
    return Seen(
        session if session == line.session else _least(session, line.session),
        user if user == line.user else _least(user, line.user),
        at if at < first else first,  # noqa: FURB136 - each event passes here
        at if at > last else last,  # noqa: FURB136
    )


def _least(one: str | None, other: str | None) -> str | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
