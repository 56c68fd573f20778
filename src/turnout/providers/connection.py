"""One connection: bytes in, parsed by llhttp, pushed to the reply that waits for them."""

from __future__ import annotations

import asyncio
import select
import ssl
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from turnout.errors import ConnectionLost, MalformedReply, ProviderError

if TYPE_CHECKING:
    import socket

    from turnout.providers.reply import Reply
    from turnout.providers.request_head import Origin

HEAD_BYTES = 64 * 1024
"""Most bytes without a byte of body among them: head, 1xx heads, chunk extensions, trailers."""
HEAD_FIELDS = 200
HIGH_WATER = 256 * 1024
"""Held for a slow caller before reading pauses; it resumes when the caller has taken them all."""
_BULKY = 64 * 1024
_BLANK = " \t"
_VERSIONS = frozenset({"1.0", "1.1"})


class Owner(Protocol):
    """Who is told when a connection is free again, and when it is gone."""

    def give_back(self, connection: Connection) -> None:
        """The reply is complete and both sides keep the connection open."""
        ...

    def lost(self, connection: Connection) -> None:
        """The connection is closed."""
        ...


class Connection(asyncio.Protocol):
    """A state machine over llhttp: idle, or serving one reply."""

    __slots__ = (
        "_allowed",
        "_complete",
        "_fault",
        "_fields",
        "_framing",
        "_head_done",
        "_keep",
        "_parser",
        "_paused",
        "_poll",
        "_repeats",
        "_silent",
        "_transport",
        "_until_close",
        "_writing",
        "closed",
        "gone",
        "idle_since",
        "origin",
        "owner",
        "reply",
        "used",
    )

    def __init__(self, origin: Origin, sock: socket.socket | None = None) -> None:
        self.reply: Reply | None = None
        self.owner: Owner | None = None
        self.idle_since = 0.0
        self.used = False
        self.closed = self.gone = False
        self.origin = origin
        self._poll = _Readable(sock) if sock is not None else None
        self._parser: httptools.HttpResponseParser | None = None
        self._paused = self._writing = False
        self._allowed = self._silent = self._head_done = self._complete = False
        self._keep = self._until_close = False
        self._framing = self._repeats = 0
        self._fields: dict[str, str] = {}
        self._fault: ProviderError | None = None

    # what the pool and the transport do

    def alive(self) -> bool:
        """Whether an idle connection can still carry a request, as far as this side can know."""
        return not (self.closed or self._transport.is_closing() or (self._poll and self._poll.now()))

    def start(self, reply: Reply, head: bytes, body: bytes, *, alive: bool) -> None:
        """Send a request; what comes back belongs to `reply`."""
        self.reply = reply
        self._allowed = alive
        self._silent = True
        self._head_done = self._complete = False
        self._framing = self._repeats = 0
        self._fields = {}
        reply.begin(self)
        if len(body) < _BULKY:
            self._transport.write(head + body)
        else:
            self._transport.writelines([head, body])

    def stalled(self) -> bool:
        """Whether the peer has yet to take our request, or our caller what came."""
        return self._paused or self._writing

    def resume(self) -> None:
        """Read on after a pause."""
        if self._paused and not self.closed:
            self._paused = False
            self._transport.resume_reading()
            if self.reply is not None:
                self.reply.rearm()

    def abort(self) -> None:
        """Close at once, without TLS farewell and whatever is still unsent."""
        self.reply = None
        if not self.closed:
            self.closed = True
            self._transport.abort()

    # what the loop does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is up; over TLS this comes a second time, with the secured transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the base class
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came and let the reply know once for all of it."""
        reply, parser = self.reply, self._parser
        if reply is None or parser is None:
            self.abort()
            return
        self._silent = False
        self._framing += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._broken(reply, error)
            return
        if self._complete:
            self._finish(reply)
        elif self._framing > HEAD_BYTES:
            reply.fail(MalformedReply(f"more than {HEAD_BYTES} bytes of head came from {self.origin}"))
        elif self._head_done:
            reply.progress()
            if reply.held > HIGH_WATER:
                self._paused = True
                self._transport.pause_reading()

    def eof_received(self) -> None:
        """A body without a length ends here; the loop closes the connection next."""
        reply = self.reply
        if reply is not None and self._head_done and self._until_close and self._bid_farewell():
            self._keep = False
            self._finish(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever was under way is cut short."""
        self.closed = self.gone = True
        reply, self.reply = self.reply, None
        self._parser = None  # it holds our methods: a cycle
        if reply is not None:
            self._cut(reply, exc)
        if self.owner is not None:
            self.owner.lost(self)

    def pause_writing(self) -> None:
        """The peer is slow to take our request: its time to answer has not begun."""
        self._writing = True

    def resume_writing(self) -> None:
        """The peer has all but the last of our request."""
        self._writing = False
        if self.reply is not None and not self._head_done:
            self.reply.rearm()

    # what the parser does

    def on_message_begin(self) -> None:
        """A reply begins, which may be one too many."""
        if self._complete:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or a trailer."""
        if self._head_done:
            return
        key = _lowered(name)
        text = value.decode("latin-1")
        if text[-1:] in _BLANK:
            text = self._trimmed(key, text)
        fields = self._fields
        fields[key] = self._repeated(fields[key], text) if key in fields else text

    def _trimmed(self, key: str, text: str) -> str:
        if key == "transfer-encoding" and "\t" in text:
            self._refuse(
                "a tab in transfer-encoding"
            )  # llhttp then takes no chunks, whatever stands before it
        return text.rstrip(_BLANK)

    def _repeated(self, before: str, text: str) -> str:
        self._repeats += 1
        if self._repeats > HEAD_FIELDS:  # counted here too: each repeat copies what came before
            self._refuse(f"the head has more than {HEAD_FIELDS} fields")
        return f"{before}, {text}"

    def on_headers_complete(self) -> None:
        """A head is whole, which may be an interim one (1xx)."""
        reply, parser = self.reply, self._parser
        if self._complete or reply is None or parser is None:
            return
        status = parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                self._refuse(f"status {status} was not asked for")
            self._fields = {}
            return
        self._head_done = True
        self._check_head(parser)
        self._keep = parser.should_keep_alive()
        coding = self._fields.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            self._refuse("the body has a transfer-encoding that was not asked for")
        self._until_close = coding is None and "content-length" not in self._fields
        try:
            reply.begin_body(status, self._fields)
        except MalformedReply as error:
            self._fault = error
            raise

    def _check_head(self, parser: httptools.HttpResponseParser) -> None:
        version = parser.get_http_version()
        if version not in _VERSIONS:
            self._refuse(f"a reply in HTTP/{version}")
        fields = self._fields
        if len(fields) + self._repeats > HEAD_FIELDS:
            self._refuse(f"the head has more than {HEAD_FIELDS} fields")
        # a head within the limit is the rule: only a read beyond it needs adding up
        if self._framing > HEAD_BYTES and _size(fields) > HEAD_BYTES:
            self._refuse(f"the head is larger than {HEAD_BYTES} bytes")

    def on_body(self, body: bytes) -> None:
        """A piece of the body, freed of its chunk framing."""
        self._framing = 0
        if self.reply is not None and not self._complete:
            self.reply.push(body)

    def on_message_complete(self) -> None:
        """The reply is whole."""
        if self._head_done:
            self._complete = True

    # how an exchange ends

    def _refuse(self, why: str) -> None:
        self._fault = MalformedReply(f"{why} ({self.origin})")
        raise self._fault

    def _finish(self, reply: Reply) -> None:
        self.reply = None
        reply.finish()
        if self._paused:
            self.resume()
        owner = self.owner
        unsent = self._writing or self._transport.get_write_buffer_size()
        if owner is None or unsent or not (self._keep and self._allowed):
            self.abort()
            return
        self.used = True
        self.idle_since = monotonic()
        owner.give_back(self)

    def _bid_farewell(self) -> bool:
        """Whether the peer meant this end: over TLS anybody can make one (RFC 9112, 9.8)."""
        secured: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        if secured is None:
            return True
        try:
            return not secured.read(1)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False

    def _broken(self, reply: Reply, error: Exception) -> None:
        if self._complete:  # a whole reply, and rubbish after it
            self._keep = False
            self._finish(reply)
            return
        reply.fail(self._fault or MalformedReply(f"not HTTP: {error} ({self.origin})"))

    def _cut(self, reply: Reply, cause: Exception | None) -> None:
        if self.used and self._silent:
            reply.go_stale()
            return
        how = "reset" if isinstance(cause, ConnectionError) else "closed"
        when = "in the middle of the body" if self._head_done else "before a whole head had come"
        reply.fail(ConnectionLost(f"{self.origin} {how} the connection {when}"))


@lru_cache(maxsize=1024)
def _lowered(name: bytes) -> str:
    return name.decode("latin-1").lower()


def _size(fields: dict[str, str]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in fields.items())


class _Readable:
    """Tells without waiting whether a socket has something to read: for an idle connection, its end."""

    __slots__ = ("_poll", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(sock, select.POLLIN)

    def now(self) -> bool:
        if self._poll is not None:
            return bool(self._poll.poll(0))
        return bool(select.select([self._sock], [], [], 0)[0])
