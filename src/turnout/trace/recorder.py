"""What the engine tells: attempts, fallbacks, contents. Nothing in it blocks, and nothing raises into a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from turnout.trace.active import here
from turnout.trace.privacy import Privacy, without_quotes
from turnout.trace.scribe import Exporter, Scribe, Sink
from turnout.trace.spans import Spans
from turnout.trace.traceparent import parse
from turnout.types import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from turnout.clock import Clock
    from turnout.types import Answer, Attempt, Call, Closed, Opened, Scope

__all__ = ["Exporter", "Recorder", "Sink"]

OPEN_ATTEMPTS = 10_000
"""How many attempts in flight are remembered; of the oldest beyond it, the trace is found anew when they end."""


class Recorder:
    """Writes what calls do, each in the trace that its task is in, or in one of its own.

    `spans` has the application's verbs, `failures` counts what could not be recorded.
    """

    def __init__(
        self, journal: Sink, clock: Clock, privacy: Privacy | None = None, exporters: Sequence[Exporter] = ()
    ) -> None:
        self.privacy = privacy or Privacy()
        self._scribe = Scribe(journal, clock, self.privacy, exporters)
        self.spans = Spans(self._scribe)
        self._places: dict[str, tuple[str, str | None]] = {}
        self._journal = journal

    @property
    def failures(self) -> int:
        """How many times something could not be recorded."""
        return self._scribe.failures

    @property
    def written(self) -> Callable[[], Coroutine[Any, Any, None]]:
        """Wait until what was written so far would survive this process: before a request leaves."""
        return self._journal.written

    @property
    def durable(self) -> Callable[[], Coroutine[Any, Any, None]]:
        """Wait until what was written so far is as safe as the journal promises: before an answer leaves."""
        return self._journal.durable

    def trace_id(self, call: Call) -> str:
        """The trace a call belongs to: the active one, the one its `parent` names, or one of its own.

        A stream may end in another task than it began in: ask where the call begins.
        """
        return _placed(call)[0]

    def scope(self, scope: Scope) -> Scope:
        """The scope with the active trace's session and user where it has none of its own."""
        place = here()
        if place is None or (scope.session is not None and scope.user is not None):
            return scope
        running = place.running
        return msgspec.structs.replace(
            scope,
            session=running.session if scope.session is None else scope.session,
            user=running.user if scope.user is None else scope.user,
        )

    def opened(self, call: Call, opened: Opened, attempt_id: str) -> None:
        """LLM_CALL_START: an attempt is about to be sent. Raises only what a journal refuses the call with."""
        self._scribe.guarded(self._opened, call, opened, attempt_id, may_refuse=True)

    def closed(self, call: Call, closed: Closed) -> None:
        """LLM_CALL_END: what came of the attempt."""
        self._scribe.guarded(self._closed, call, closed)

    def fallback(self, call: Call, *, from_model: str, to_model: str, reason: str) -> None:
        """MODEL_FALLBACK: another model steps in."""
        facts = {"call": call.id, "from": from_model, "to": to_model, "reason": str(reason)}
        self._scribe.guarded(self._of_call, call, Kind.MODEL_FALLBACK, facts)

    def finished(self, call: Call) -> None:
        """No further attempt of the call will come: exporters wait for it, the journal needs no word of it."""
        if self._scribe.exporters:
            self._scribe.guarded(self._scribe.finished, call.id)

    def asked(self, call: Call) -> str:
        """USER_INPUT: the call's messages, only where its agent's content is captured in full. Returns its trace."""
        if self.privacy.level(call.scope.agent) == "full":
            self._scribe.guarded(self._asked, call)
        return _placed(call)[0]

    def answered(self, call: Call, attempt_id: str, answer: Answer) -> None:
        """AGENT_RESPONSE: the answer, only where its agent's content is captured in full."""
        if self.privacy.level(call.scope.agent) == "full":
            self._scribe.guarded(self._answered, call, attempt_id, answer)

    def _opened(self, call: Call, opened: Opened, attempt_id: str) -> None:
        placed = _placed(call)
        if len(self._places) >= OPEN_ATTEMPTS:
            self._places.pop(next(iter(self._places)), None)
        self._places[attempt_id] = placed
        facts = msgspec.to_builtins(opened)
        self._clean(facts)
        scribe, scope = self._scribe, call.scope
        scribe.write(
            Event(
                id=attempt_id,
                trace=placed[0],
                kind=Kind.LLM_CALL_START,
                at=scribe.clock.now(),
                span=attempt_id,
                parent=placed[1],
                agent=scribe.name(scope.agent),
                user=scribe.name(scope.user),
                session=scribe.name(scope.session),
                facts=facts,
            )
        )

    def _closed(self, call: Call, closed: Closed) -> None:
        attempt = closed.attempt
        facts = msgspec.to_builtins(closed)
        self._clean(facts["opened"])
        error = None
        if attempt.outcome != "ok":
            error = facts["attempt"]["error"] = self._error(call, attempt)
        placed = self._places.pop(attempt.id, None) or _placed(call)
        scribe, scope = self._scribe, call.scope
        scribe.write(
            Event(
                id=scribe.clock.new_id(),
                trace=placed[0],
                kind=Kind.LLM_CALL_END,
                at=scribe.clock.now(),
                span=attempt.id,
                parent=placed[1],
                agent=scribe.name(scope.agent),
                user=scribe.name(scope.user),
                session=scribe.name(scope.session),
                facts=facts,
                tokens=None if attempt.usage is None else attempt.usage.total_tokens,
                cost_nano=attempt.cost_nano,
                error=error,
            )
        )

    def _error(self, call: Call, attempt: Attempt) -> str:
        """Why it failed, without what a provider quotes: contents are bodies, which are kept for a shorter time."""
        if not attempt.error or self.privacy.level(call.scope.agent) == "off":
            return attempt.outcome
        return self.privacy.text(without_quotes(attempt.error, call.messages))

    def _clean(self, opened: dict[str, Any]) -> None:
        """Names that the caller chose."""
        name = self._scribe.name
        for field in ("asked", "run"):
            if field in opened:
                opened[field] = name(opened[field])
        if "tags" in opened:
            opened["tags"] = {name(tag): name(value) for tag, value in opened["tags"].items()}

    def _asked(self, call: Call) -> None:
        messages = self.privacy.body(msgspec.json.decode(call.messages))
        self._of_call(call, Kind.USER_INPUT, {"call": call.id, "body": messages})

    def _answered(self, call: Call, attempt_id: str, answer: Answer) -> None:
        said = {
            "content": answer.content,
            "reasoning": answer.reasoning,
            "tool_calls": list(answer.tool_calls),
        }
        body = self.privacy.body({name: value for name, value in said.items() if value})
        self._of_call(call, Kind.AGENT_RESPONSE, {"call": call.id, "attempt": attempt_id, "body": body})

    def _of_call(self, call: Call, kind: Kind, facts: dict[str, Any]) -> None:
        (trace, parent), scope, name = _placed(call), call.scope, self._scribe.name
        self._scribe.event(
            trace,
            kind,
            facts,
            parent=parent,
            agent=name(scope.agent),
            user=name(scope.user),
            session=name(scope.session),
        )


def _placed(call: Call) -> tuple[str, str | None]:
    """The trace of a call and the span it is made in."""
    place = here()
    if place is not None:
        return place.running.id, place.span
    return (parse(call.scope.parent) if call.scope.parent else None) or (call.id, None)
