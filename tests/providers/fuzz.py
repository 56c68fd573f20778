"""Replies generated, damaged and cut anywhere, through the transport's state machine without a socket.

    python -m tests.providers.fuzz 1000000 [seed]

What must hold for every one of them: the same outcome for every way to cut it into reads, no error but a
`ProviderError`, exactly what was meant if it was left intact, and nothing read into it that h11 reads otherwise.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import re
import sys
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import h11

from turnout.errors import ProviderError
from turnout.providers.base import Timeouts
from turnout.providers.connection import Connection
from turnout.providers.deadlines import Deadlines
from turnout.providers.reply import Caps, Reply
from turnout.providers.request_head import Origin

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from turnout.providers.deadlines import Expiring

_ORIGIN = Origin(secure=False, host="fuzz.test", port=80)
_TIMEOUTS = Timeouts()
_CAPS = Caps(1 << 20, 1 << 20)
_STATUSES = (200, 200, 200, 201, 204, 206, 302, 304, 400, 401, 404, 418, 429, 500, 503)
_NAMES = (
    b"Content-Type",
    b"x-request-id",
    b"Retry-After",
    b"X-RateLimit-Remaining",
    b"vary",
    b"Vary",
    b"!#$%",
)
_VALUES = (b"", b"1", b"a, b", b"application/json", b"\xe9t\xe9", b'"quoted; text"', b"x" * 90, b"a\tb")
_SHARDS = (
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"f\r\n",
        b"-1",
        b"+5",
        b"0x5",
    ),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n", b"Connection: close\r\n", b"\xff" * 9),
)

_TABBED_CODING = re.compile(rb"chunked \t \r\n")  # refused: llhttp does not see the chunks then
_ODD_REASON = re.compile(
    rb"HTTP/1\.[01] [0-9]{3} [^\r\n]*[\0-\x08\x0b-\x1f\x7f]"
)  # h11 refuses, we never look


class Outcome(NamedTuple):
    """What a caller gets to see."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    error: str


class Meant(NamedTuple):
    """A reply on the wire and what it says."""

    wire: bytes
    outcome: Outcome


class _Untimed(Deadlines):
    """There is no loop here, and no time passes."""

    def watch(self, waiting: Expiring) -> None:
        """Nothing is ever late."""


class _Wire(asyncio.Transport):
    """Takes what is written and remembers how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


class _Owner:
    """Counts the connections that could be used again."""

    def __init__(self) -> None:
        self.back = 0

    def give_back(self, connection: Connection) -> None:
        self.back += 1

    def lost(self, connection: Connection) -> None:
        pass


def _run(waiting: Coroutine[Any, Any, Any]) -> Any:
    try:
        waiting.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for a reply that has ended")


def carry(pieces: Iterable[bytes]) -> Outcome:
    """One exchange whose reply comes in these pieces and then ends."""
    connection, wire = Connection(_ORIGIN), _Wire()
    connection.owner = _Owner()
    connection.connection_made(wire)
    reply = Reply(_Untimed(), _TIMEOUTS, _ORIGIN, _CAPS)
    connection.start(reply, b"", b"", alive=True)
    for piece in pieces:
        if wire.aborted:
            break
        connection.data_received(piece)
    if not wire.aborted:
        connection.eof_received()
    connection.connection_lost(None)
    try:
        _run(reply.head())
        body = _run(reply.read())
    except ProviderError as error:
        return Outcome(0, (), b"", type(error).__name__)
    return Outcome(reply.status, tuple(sorted(reply.headers.items())), body, "")


def carry_h11(pieces: Iterable[bytes]) -> Outcome:
    """The same exchange as h11 reads it."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "h"), ("content-length", "0")]))
    client.send(h11.EndOfMessage())
    response, body = None, []
    try:
        for piece in [*[piece for piece in pieces if piece], b""]:
            client.receive_data(piece)
            while (event := client.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
                if isinstance(event, h11.Response):
                    response = event
                elif isinstance(event, h11.Data):
                    body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    return _decoded(response, b"".join(body))
    except (h11.RemoteProtocolError, zlib.error, EOFError) as error:
        return Outcome(0, (), b"", type(error).__name__)
    return Outcome(0, (), b"", "incomplete")


def _decoded(response: h11.Response | None, body: bytes) -> Outcome:
    if response is None:
        return Outcome(0, (), b"", "nothing")
    headers: dict[str, str] = {}
    for name, value in response.headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    coding = headers.get("content-encoding", "").strip().lower()
    if body and coding in {"gzip", "x-gzip"}:
        body = _inflate(body, zlib.MAX_WBITS | 16)
    elif body and coding == "deflate":
        try:
            body = _inflate(body, zlib.MAX_WBITS)
        except zlib.error:
            body = _inflate(body, -zlib.MAX_WBITS)
    elif coding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        return Outcome(0, (), b"", "coding")
    return Outcome(response.status_code, tuple(sorted(headers.items())), body, "")


def _inflate(body: bytes, bits: int) -> bytes:
    inflater = zlib.decompressobj(bits)
    plain = inflater.decompress(body)
    if not inflater.eof or inflater.unused_data:
        raise EOFError
    return plain


# what is sent


def meant(rng: random.Random) -> Meant:
    """A reply in good order."""
    status = rng.choice(_STATUSES)
    version = b"1.0" if rng.random() < 0.1 else b"1.1"
    fields = [(rng.choice(_NAMES), rng.choice(_VALUES)) for _ in range(rng.randrange(6))]
    body = b"" if status in {204, 304} else rng.randbytes(rng.choice((0, 1, 7, 300, 3000)))
    coded = body
    if body and rng.random() < 0.3:
        coding, coded = _coded(rng, body)
        fields.append((b"Content-Encoding", coding))
    framing, payload = _framed(rng, coded, version)
    if status == 304 and rng.random() < 0.5:
        framing = [(b"Content-Length", b"17")]
    if status == 204:
        framing = []
    if rng.random() < 0.2:
        fields.append((b"Connection", b"close"))
    fields += framing
    rng.shuffle(fields)
    interim = b"".join(
        rng.choices((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nlink: x\r\n\r\n"), k=2)
    )
    head = b"HTTP/%b %d %b\r\n" % (version, status, rng.choice((b"OK", b"", b"Not Found")))
    lines = b"".join(b"%b:%b%b%b\r\n" % (name, _space(rng), value, _space(rng)) for name, value in fields)
    lines = _TABBED_CODING.sub(b"chunked\r\n", lines)
    wire = (interim if rng.random() < 0.1 else b"") + head + lines + b"\r\n"
    wire += b"" if status in {204, 304} else payload
    return Meant(wire, Outcome(status, joined(fields), body, ""))


def _space(rng: random.Random) -> bytes:
    return rng.choice((b"", b" ", b" ", b" \t "))


def joined(fields: list[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Headers as a caller sees them."""
    headers: dict[str, str] = {}
    for name, value in fields:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return tuple(sorted(headers.items()))


def _coded(rng: random.Random, body: bytes) -> tuple[bytes, bytes]:
    kind = rng.randrange(3)
    if kind == 0:
        return rng.choice((b"gzip", b"x-gzip", b"GZip")), gzip.compress(body)
    if kind == 1:
        return b"deflate", zlib.compress(body)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return b"deflate", deflater.compress(body) + deflater.flush()


def _framed(rng: random.Random, body: bytes, version: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    kind = rng.randrange(2 if version == b"1.0" else 3)
    if kind == 0:
        return [(b"Content-Length", b"%d" % len(body))], body
    if kind == 1:
        return [], body
    chunks, at = [], 0
    while at < len(body):
        size = rng.choice((1, 2, 15, 16, 17, 500))
        piece = body[at : at + size]
        extension = rng.choice((b"", b"", b";a=b", b';n="v"'))
        chunks.append(b"%b%b\r\n%b\r\n" % (b"%x" % len(piece), extension, piece))
        at += size
    trailer = rng.choice((b"", b"", b"x-trailer: 1\r\n"))
    return [(b"Transfer-Encoding", b"chunked")], b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"


def damaged(rng: random.Random, wire: bytes) -> bytes:
    """The reply after an accident or two."""
    broken = bytearray(wire)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(broken) + 1)
        end = min(len(broken), at + rng.choice((1, 2, 9, 60)))
        match rng.randrange(5):
            case 0:
                broken[at:end] = rng.randbytes(end - at)
            case 1:
                del broken[at:end]
            case 2:
                broken[at:at] = rng.choice(_SHARDS)
            case 3:
                broken[at:at] = broken[at:end]
            case _:
                del broken[at:]
    return bytes(broken)


def cut(rng: random.Random, wire: bytes) -> list[bytes]:
    """The reply in pieces, now and then byte by byte."""
    if len(wire) < 500 and rng.random() < 0.1:
        return [wire[at : at + 1] for at in range(len(wire))]
    marks = sorted(rng.randrange(len(wire) + 1) for _ in range(rng.randrange(8)))
    return [wire[start:end] for start, end in zip([0, *marks], [*marks, len(wire)], strict=True)]


def check(seed: int) -> None:
    """One case; raises `AssertionError` with the seed in it."""
    rng = random.Random(seed)  # noqa: S311
    intact = meant(rng)
    if rng.random() < 0.3:
        wire = intact.wire
        assert carry([wire]) == intact.outcome, f"seed {seed}: not what was meant"
    else:
        wire = damaged(rng, intact.wire)
    pieces = cut(rng, wire)
    ours = carry([wire])
    assert carry(pieces) == ours, f"seed {seed}: the outcome depends on how the reply is cut"
    theirs = carry_h11([wire])
    if not ours.error and ours != theirs and not _ODD_REASON.search(wire):
        raise AssertionError(f"seed {seed}: h11 reads it as {theirs!r}\nours: {ours!r}\n{wire!r}")


def run(cases: int, seed: int = 0) -> int:
    """Check so many cases; give the number of them."""
    for number in range(cases):
        check(seed + number)
    return cases


if __name__ == "__main__":
    print(run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0), "cases hold")
