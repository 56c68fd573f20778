"""Where in which trace this task stands.

One context variable holds it, so tasks that run at the same time never see each other's; a task inherits the place
of the one that made it. Threads and processes inherit nothing: they are handed a parent.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, Self

from turnout.trace.traceparent import render

if TYPE_CHECKING:
    from types import TracebackType

    from turnout.types import Kind


class Ends(Protocol):
    """What ends a span: the recorder that started it."""

    def end_span(self, span: OpenSpan | str | None = None, outputs: Any = None, **metadata: Any) -> None:
        """End it."""
        ...


class Running:
    """A trace as this process writes it."""

    __slots__ = ("ended", "id", "session", "user")

    def __init__(self, trace: str, session: str | None, user: str | None) -> None:
        self.id = trace
        self.session = session
        self.user = user
        self.ended = False


class Place:
    """A span of a trace, on behalf of an agent, and the place one returns to when it ends.

    Its kind is `None` where the span is another process's: it is not ours to end.
    """

    __slots__ = ("agent", "began", "ended", "kind", "outer", "running", "span")

    def __init__(
        self, running: Running, span: str | None, outer: Place | None, *, agent: str | None = None
    ) -> None:
        self.running = running
        self.span = span
        self.outer = outer
        self.agent = agent
        self.kind: Kind | None = None
        self.began = 0.0
        self.ended = False


_here: ContextVar[Place | None] = ContextVar("turnout_trace", default=None)
here = _here.get
"""The place of the running task, or `None` outside any trace."""
move = _here.set


def find(span: str) -> Place | None:
    """The place of a span that this task is in."""
    place = here()
    while place is not None and place.span != span:
        place = place.outer
    return place


def leave(place: Place) -> None:
    """Return to where one was before the span, and leave whatever is still open inside it.

    A span that this task is not in changes nothing.
    """
    inner = here()
    while inner is not None and inner is not place:
        inner = inner.outer
    if inner is not None:
        move(inner.outer)


class OpenSpan(str):
    """A span that was started: its id as text, and a context manager that ends it.

    An exception that leaves the `with` block is noted on the span and passes through. Pickled, it becomes its
    `traceparent`, which is what another process can use as `parent`.
    """

    __slots__ = ("_recorder", "place")

    place: Place
    _recorder: Ends

    @classmethod
    def at(cls, recorder: Ends, place: Place) -> Self:
        """A handle on the span of a place."""
        handle = cls(cls._text(place))
        handle._recorder, handle.place = recorder, place
        return handle

    @staticmethod
    def _text(place: Place) -> str:
        return place.span or ""

    @property
    def id(self) -> str:
        """The id as plain text."""
        return str(self)

    @property
    def trace_id(self) -> str:
        """The id of the trace it belongs to."""
        return self.place.running.id

    @property
    def span_id(self) -> str:
        """16 hex digits."""
        return self.place.span or ""

    @property
    def traceparent(self) -> str:
        """W3C's header: `parent=` of a span or trace in another task, thread or process."""
        return render(self.trace_id, self.span_id)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (self.traceparent,)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.place.ended:
            self._recorder.end_span(self, **({} if error is None else {"error": error}))


class OpenTrace(OpenSpan):
    """A trace that was started: its id as text, and a context manager that ends it."""

    __slots__ = ()

    @staticmethod
    def _text(place: Place) -> str:
        return place.running.id
