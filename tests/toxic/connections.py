"""Faults of the connection and of HTTP's framing."""

from tests.toxic.exchange import Exchange, Fault, Run
from tests.toxic.wire import JSON, Headers, chunk, head


async def reset(talk: Exchange) -> None:
    """Send RST instead of a reply."""
    talk.peer.reset()


async def close(talk: Exchange) -> None:
    """Send FIN instead of a reply."""
    talk.peer.close()


async def hang(talk: Exchange) -> None:
    """Send nothing and keep the connection."""
    await talk.peer.stall()


async def reset_on_reuse(talk: Exchange) -> None:
    """Reset a connection that is used again; answer on a fresh one."""
    if talk.fresh:
        await talk.deliver(talk.pieces())
    else:
        talk.peer.reset()


async def close_on_reuse(talk: Exchange) -> None:
    """Close a connection that is used again; answer on a fresh one."""
    if talk.fresh:
        await talk.deliver(talk.pieces())
    else:
        talk.peer.close()


def stale(seconds: float) -> Run:
    """Answer, promise to keep the connection, and close it while it is idle."""

    async def run(talk: Exchange) -> None:
        await talk.deliver(talk.pieces(), headers=[("Connection", "keep-alive")])
        if seconds:
            await talk.peer.pause(seconds)
        talk.peer.close()

    return run


async def trickle(talk: Exchange, data: bytes, gap: float) -> None:
    """Send one byte at a time."""
    for at in range(len(data)):
        await talk.peer.send(data[at : at + 1])
        await talk.peer.pause(gap)


async def trickle_headers(talk: Exchange) -> None:
    """Send the head one byte each 0.2 s."""
    top, body = talk.rendered()
    await trickle(talk, top, 0.2)
    await talk.peer.send(body)


def trickle_body(gap: float) -> Run:
    """Send the head at once and the body one byte at a time."""

    async def run(talk: Exchange) -> None:
        top, body = talk.rendered()
        await talk.peer.send(top)
        await trickle(talk, body, gap)

    return run


async def stall_headers(talk: Exchange) -> None:
    """Send half of the head and no more."""
    top, _ = talk.rendered()
    await talk.peer.send(top[: len(top) // 2])
    await talk.peer.stall()


async def stall_first_byte(talk: Exchange) -> None:
    """Send the whole head and no byte of the body."""
    top, _ = talk.rendered()
    await talk.peer.send(top)
    await talk.peer.stall()


async def stall_body(talk: Exchange) -> None:
    """Send half of the body and no more."""
    top, body = talk.rendered()
    await talk.peer.send(top + body[: len(body) // 2])
    await talk.peer.stall()


async def short_body(talk: Exchange) -> None:
    """Send half of what the framing announces, then FIN."""
    top, body = talk.rendered()
    await talk.peer.send(top + body[: len(body) // 2])
    talk.peer.close()


async def reset_body(talk: Exchange) -> None:
    """Send half of what the framing announces, then RST."""
    top, body = talk.rendered()
    await talk.peer.send(top + body[: len(body) // 2])
    talk.peer.reset()


def with_headers(extra: Headers) -> Run:
    """Answer with more headers."""

    async def run(talk: Exchange) -> None:
        await talk.peer.send(b"".join(talk.rendered(extra)))

    return run


def top_line(line: bytes) -> Run:
    """Answer under another status line, then close."""

    async def run(talk: Exchange) -> None:
        top, body = talk.rendered()
        await talk.peer.send(line + top[top.index(b"\r\n") :] + body)
        talk.peer.close()

    return run


def framed(*fields: tuple[str, str]) -> Run:
    """Send a JSON answer as one chunk under these framing headers, then close."""

    async def run(talk: Exchange) -> None:
        body = b"".join(talk.pieces())
        chunked = any(name == "Transfer-Encoding" for name, _ in fields)
        await talk.peer.send(head(200, [("Content-Type", JSON), *fields]))
        await talk.peer.send(chunk(body) + b"0\r\n\r\n" if chunked else body)
        talk.peer.close()

    return run


async def bad_header(talk: Exchange) -> None:
    """Put a line without a colon among the headers, then close."""
    top, body = talk.rendered()
    await talk.peer.send(top[:-2] + b"this is no header\r\n\r\n" + body)
    talk.peer.close()


async def bad_chunk_size(talk: Exchange) -> None:
    """Announce a chunk of zz bytes, then close."""
    await talk.begin()
    await talk.peer.send(b"zz\r\n" + b"".join(talk.pieces()) + b"\r\n0\r\n\r\n")
    talk.peer.close()


async def chunks_unended(talk: Exchange) -> None:
    """Send every chunk but the last, empty one, then FIN."""
    await talk.begin()
    await talk.more(talk.pieces())
    talk.peer.close()


async def close_delimited(talk: Exchange) -> None:
    """Answer as HTTP/1.0 does: no length, the end of the connection ends the body."""
    kind = b"text/event-stream" if talk.streaming else b"application/json"
    await talk.peer.send(b"HTTP/1.0 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n")
    await talk.peer.send(b"".join(talk.pieces()))
    talk.peer.close()


async def extra_response(talk: Exchange) -> None:
    """Answer, and leave a second answer nobody asked for on the connection."""
    await talk.deliver(talk.pieces())
    await talk.plain(200, talk.reply(text="NOT YOURS").whole())


FLOOD = [(f"X-Flood-{number}", "a" * 16) for number in range(1000)]
CONNECTIONS = [
    Fault("reset", "RST before any byte", reset),
    Fault("close", "FIN before any byte", close),
    Fault("reset-once-on-reuse", "RST exactly when a connection is reused; fresh ones: ok", reset_on_reuse),
    Fault("close-on-reuse", "the same with FIN", close_on_reuse),
    Fault("stale", "ok, then closes the idle connection at once", stale(0)),
    Fault("stale-2ms", "ok, then closes the idle connection after 2 ms", stale(0.002)),
    Fault("hang", "never answers", hang),
    Fault("stall-headers", "half of the head, then silence", stall_headers),
    Fault("stall-first-byte", "the head, then silence", stall_first_byte),
    Fault("stall-body", "half of the body, then silence", stall_body),
    Fault("trickle-headers", "the head one byte each 0.2 s", trickle_headers),
    Fault("trickle-body", "the body one byte each 0.2 s", trickle_body(0.2)),
    Fault("slow-loris", "the body one byte each 5 s: only a total deadline helps", trickle_body(5)),
    Fault("short-body", "half of the announced body, then FIN", short_body),
    Fault("reset-mid-body", "half of the announced body, then RST", reset_body),
    Fault("close-delimited", "HTTP/1.0: sound, ended by FIN", close_delimited),
    Fault("chunks-unended", "sound, but the last empty chunk is missing", chunks_unended),
    Fault("header-bomb", "one header of 70 KB", with_headers([("X-Bomb", "a" * 70_000)])),
    Fault("header-flood", "1000 headers", with_headers(FLOOD)),
    Fault("bad-status-line", "not HTTP at all", top_line(b"220 mail.example ESMTP ready")),
    Fault("bad-status-code", "HTTP/1.1 2OO", top_line(b"HTTP/1.1 2OO OK")),
    Fault("bad-header", "a header line without a colon", bad_header),
    Fault(
        "cl-te-conflict", "both lengths", framed(("Content-Length", "5"), ("Transfer-Encoding", "chunked"))
    ),
    Fault("cl-twice", "two lengths that differ", framed(("Content-Length", "5"), ("Content-Length", "9"))),
    Fault("cl-negative", "Content-Length: -1", framed(("Content-Length", "-1"))),
    Fault("cl-junk", "Content-Length: abc", framed(("Content-Length", "abc"))),
    Fault("bad-chunk-size", "a chunk of zz bytes", bad_chunk_size),
    Fault("extra-response", "ok, then a second answer nobody asked for", extra_response),
]
