"""One exchange as its caller sees it: waits with deadlines, a bounded buffer, the body in pieces."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from turnout.errors import ConnectionLost, OversizedReply, ProviderError, ProviderTimeout
from turnout.providers.inflate import inflate_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from turnout.providers.base import Timeouts
    from turnout.providers.deadlines import Deadlines
    from turnout.providers.inflate import Inflate
    from turnout.providers.request_head import Origin

_OVERHEAD = 64
"""What a piece costs in memory beside its bytes: a flood of tiny chunks must count too."""


class Caps(NamedTuple):
    """How large a body may get, decompressed."""

    read: int
    stream: int


class Carrier(Protocol):
    """The connection, as far as a reply needs it."""

    def stalled(self) -> bool:
        """Whether bytes wait for us or the peer to take them, so that silence is nobody's fault."""
        ...

    def resume(self) -> None:
        """There is room again."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


# the phases of an exchange, in the words of an error; an Enum's members cost ten times a name's look-up
_QUEUE = "while waiting for a free connection"
_CONNECT = "while connecting"
_HEAD = "while waiting for the head of the reply"
_BODY = "while reading the body"


class Reply:
    """A reply, from the call to its last byte; implements `Response`."""

    __slots__ = (
        "_caps",
        "_carrier",
        "_deadlines",
        "_error",
        "_finished",
        "_given",
        "_inflate",
        "_limit",
        "_origin",
        "_parts",
        "_phase",
        "_queue",
        "_reading",
        "_since",
        "_stale",
        "_waiter",
        "due",
        "headers",
        "held",
        "status",
        "timeouts",
        "total_at",
    )

    status: int
    headers: Mapping[str, str]

    def __init__(self, deadlines: Deadlines, timeouts: Timeouts, origin: Origin, caps: Caps) -> None:
        self.total_at = self.due = monotonic() + timeouts.total
        self.held = 0
        self._deadlines = deadlines
        self.timeouts = timeouts
        self._origin = origin
        self._caps = caps
        self._carrier: Carrier | None = None
        self._phase = _CONNECT
        self._limit = self._since = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._queue: asyncio.Future[Any] | None = None
        self._error: Exception | None = None
        self._parts: list[bytes] = []
        self._given = 0
        self._inflate: Inflate | None = None
        self._finished = self._stale = self._reading = False

    # what the caller does

    async def read(self) -> bytes:
        """The whole body."""
        self._claim()
        if self._inflate is None:
            if not self._finished:
                self._check_length()
            elif self._error is None and self.held <= self._caps.read:
                return self._take()
        pieces: list[bytes] = []
        while piece := await self._piece(self._caps.read):
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, decompressed."""
        self._claim()
        return _Chunks(self, self._caps.stream)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Want no more of it: unless it is complete, the provider's connection closes at once."""
        if not self._finished:
            self.fail(ConnectionLost(f"the reply of {self._origin} was left before its end"))

    # what the transport does

    def queued(self, turn: asyncio.Future[Any]) -> None:
        """The call waits for its turn to have a connection; a deadline ends that wait too."""
        self._phase = _QUEUE
        self._queue = turn
        self.due = self.total_at
        self._deadlines.watch(self)

    def dequeued(self) -> None:
        """The turn has come. Raises if a deadline came first."""
        self._phase = _CONNECT
        self._queue = None
        self._deadlines.forget(self)
        if self._error is not None:
            raise self._error

    async def head(self) -> bool:
        """Wait for the head. False if a used connection closed without a byte: send again on a fresh one."""
        while self._phase is _HEAD:
            if self._stale:
                self._stale = False
                return False
            if self._error is not None:
                raise self._error
            await self._wait()
        return True

    def connect_expired(self, *, total: bool) -> ProviderTimeout:
        """The error for a connection that did not come up in time."""
        if total:
            return self._late("total", self.timeouts.total)
        return self._late("connect", self.timeouts.connect)

    # what the connection does

    def begin(self, carrier: Carrier) -> None:
        """The request is on its way."""
        self._carrier = carrier
        self._phase = _HEAD
        self._limit = self.timeouts.first_byte
        self.rearm()
        self._deadlines.watch(self)

    def rearm(self) -> None:
        """The current wait starts anew."""
        self._since = now = monotonic()
        due = now + self._limit
        self.due = min(self.total_at, due)

    def begin_body(self, status: int, headers: dict[str, str]) -> None:
        """The head has come. Raises `MalformedReply` if the body is coded in a way we cannot undo."""
        if "content-encoding" in headers:
            self._inflate = inflate_for(headers["content-encoding"])
        self.status = status
        self.headers = headers
        self._phase = _BODY
        self._limit = self.timeouts.idle

    def push(self, piece: bytes) -> None:
        """A piece of the body has come."""
        self._parts.append(piece)
        self.held += len(piece) + _OVERHEAD

    def progress(self) -> None:
        """Bytes of the body have come: the idle deadline starts anew and the caller wakes."""
        self._since = now = monotonic()
        self.due = min(self.due, now + self._limit)  # rather too early: `expire` moves it on
        self.wake()

    def wake(self) -> None:
        """Let the caller look."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def finish(self) -> None:
        """The whole reply has come; the connection is no longer ours."""
        self._finished = True
        self._carrier = None
        self._deadlines.forget(self)
        self.wake()

    def fail(self, error: Exception) -> None:
        """The exchange is over. What came before still reaches a caller who reads piece by piece."""
        if self._finished:
            return
        carrier, self._error = self._carrier, error
        if self._queue is not None and not self._queue.done():
            self._queue.set_exception(error)
        self.finish()
        if carrier is not None:
            carrier.abort()

    def go_stale(self) -> None:
        """A used connection closed without a byte of reply."""
        self._stale = True
        self._carrier = None
        self._deadlines.forget(self)
        self.wake()

    # what the deadlines do

    def expire(self, now: float) -> None:
        """Fail if a deadline has passed, or else move `due` to the next one."""
        carrier = self._carrier
        if now >= self.total_at:
            self.fail(self._late("total", self.timeouts.total))
        elif carrier is not None and carrier.stalled():
            self.due = min(self.total_at, now + self._limit)
        elif now >= self._since + self._limit:
            self.fail(self._late("first byte" if self._phase is _HEAD else "idle", self._limit))
        else:
            self.due = min(self.total_at, self._since + self._limit)

    def _late(self, deadline: str, seconds: float) -> ProviderTimeout:
        error = ProviderTimeout(
            f"the {deadline} deadline of {seconds:g} s passed {self._phase} ({self._origin})"
        )
        error.sent = self._carrier is not None
        return error

    # waiting and taking

    def _claim(self) -> None:
        if self._reading:
            raise RuntimeError("the body of a reply can be read only once")
        self._reading = True

    def _check_length(self) -> None:
        if int(self.headers.get("content-length", 0)) > self._caps.read:
            raise self._oversized(self._caps.read)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except BaseException:
            self.abandon()
            raise
        finally:
            self._waiter = None

    async def _piece(self, cap: int) -> bytes:
        """The next piece, empty at the end."""
        while not (piece := self._next()):
            if self._error is not None:
                raise self._error
            if self._finished:
                self._finish_inflating()
                return b""
            await self._wait()
        self._given += len(piece)
        if self._given > cap:
            raise self._oversized(cap)
        return piece

    def _next(self) -> bytes:
        inflate = self._inflate
        if inflate is None:
            return self._take()
        try:
            piece = inflate.pull()
            while not piece and (coded := self._take()):
                inflate.push(coded)
                piece = inflate.pull()
        except ProviderError as error:
            raise self._refused(error) from None
        return piece

    def _take(self) -> bytes:
        parts = self._parts
        if not parts:
            return b""
        self._parts = []
        self.held = 0
        if self._carrier is not None:
            self._carrier.resume()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _finish_inflating(self) -> None:
        if self._inflate is not None:
            self._inflate.finish()

    def _oversized(self, cap: int) -> ProviderError:
        return self._refused(OversizedReply(f"the body from {self._origin} is larger than {cap} bytes"))

    def _refused(self, error: ProviderError) -> ProviderError:
        self.fail(error)
        self._error = error
        self._parts = []
        self._inflate = None
        return error


class _Chunks:
    """Not an async generator: one that is dropped half-way needs the loop to finalise it."""

    __slots__ = ("_cap", "_reply")

    def __init__(self, reply: Reply, cap: int) -> None:
        self._reply = reply
        self._cap = cap

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._reply._piece(self._cap)  # noqa: SLF001
        if not piece:
            raise StopAsyncIteration
        return piece
