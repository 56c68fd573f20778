"""Faults of streams: broken before or after the first content, and odd but lawful shapes."""

import json
import re
from collections.abc import Iterator

from tests.toxic.bodies import FAILED, MALFORMED, rewritten
from tests.toxic.exchange import STREAM, Exchange, Fault, Run
from tests.toxic.wire import DONE, PAGE, Rewrite, chunk, sse


async def reset(talk: Exchange) -> None:
    """End with RST."""
    talk.peer.reset()


async def close(talk: Exchange) -> None:
    """End with FIN, the chunked body unfinished."""
    talk.peer.close()


async def stall(talk: Exchange) -> None:
    """Go silent and stay open."""
    await talk.peer.stall()


async def eof(talk: Exchange) -> None:
    """End the body properly, the answer not."""
    await talk.finish()


async def bad_chunk(talk: Exchange) -> None:
    """Break the transfer encoding."""
    await talk.peer.send(b"zz\r\nnonsense\r\n")
    talk.peer.close()


def then(*pieces: bytes) -> Run:
    """Send these bytes, then end the body properly."""

    async def run(talk: Exchange) -> None:
        await talk.more(pieces)
        await talk.finish()

    return run


async def bare_json(talk: Exchange) -> None:
    """Go on with a JSON body where events belong."""
    await talk.more([talk.reply().whole()])
    await talk.finish()


async def bad_json(talk: Exchange) -> None:
    """Send an event that is not JSON, then end as if nothing had happened."""
    await talk.more([b"data: " + MALFORMED + b"\n\n", *talk.pieces()[-2:]])
    await talk.finish()


ENDINGS: dict[str, tuple[str, Run]] = {
    "reset": ("RST", reset),
    "close": ("FIN with the chunked body unfinished", close),
    "stall": ("silence on an open connection", stall),
    "eof": ("a clean end: no finish reason, no [DONE]", eof),
    "done": ("[DONE] without a finish reason", then(DONE)),
    "error": ("an in-band error, then a clean end", then(sse(FAILED))),
    "error-done": ("an in-band error, then [DONE]", then(sse(FAILED), DONE)),
    "bad-json": ("an event that is not JSON, then a normal end", bad_json),
    "html": ("a web page where events belong", then(PAGE)),
    "type": ("a bare JSON body where events belong", bare_json),
    "bad-chunk": ("a chunk of zz bytes", bad_chunk),
}


def breaking(ending: Run, *, mid: bool) -> Run:
    """Open an answer, after the head and role or after `count` deltas, and end it badly."""

    async def run(talk: Exchange) -> None:
        await talk.open(talk.count if mid else 0)
        await ending(talk)

    return run


def _matrix() -> Iterator[Fault]:
    for name, (about, ending) in ENDINGS.items():
        early, mid = breaking(ending, mid=False), breaking(ending, mid=True)
        yield Fault(f"stream-{name}-early", f"before content: {about}; plain: after the head", early, STREAM)
        yield Fault(f"stream-{name}-mid", f"after `count` deltas: {about}; plain: mid body", mid, STREAM, 2)


def each(change: Rewrite) -> Run:
    """Change the bytes of a stream; a plain answer stays sound."""
    sound = rewritten(list)
    changed = rewritten(change)

    async def run(talk: Exchange) -> None:
        await (changed if talk.streaming else sound)(talk)

    return run


def replaced(old: bytes, new: bytes) -> Rewrite:
    """Replace bytes in every piece."""
    return lambda pieces: [piece.replace(old, new) for piece in pieces]


def multi_line(pieces: list[bytes]) -> list[bytes]:
    """Spread each event's JSON over several data lines."""

    def spread(piece: bytes) -> bytes:
        if piece == DONE:
            return piece
        text = json.dumps(json.loads(piece.removeprefix(b"data: ")), ensure_ascii=False, indent=1)
        return "".join(f"data: {line}\n" for line in text.splitlines()).encode() + b"\n"

    return [spread(piece) for piece in pieces]


def bom(pieces: list[bytes]) -> list[bytes]:
    """Begin with a byte order mark."""
    return [b"\xef\xbb\xbf" + pieces[0], *pieces[1:]]


def fields(pieces: list[bytes]) -> list[bytes]:
    """Give every event a name, an id and a retry field."""
    return [b"event: message\nid: %d\nretry: 1000\n%b" % (at, piece) for at, piece in enumerate(pieces)]


def glued(pieces: list[bytes]) -> list[bytes]:
    """Send every event in one chunk."""
    return [b"".join(pieces)]


def single_bytes(pieces: list[bytes]) -> list[bytes]:
    """Make every byte a chunk of its own."""
    whole = b"".join(pieces)
    return [whole[at : at + 1] for at in range(len(whole))]


async def split_utf8(talk: Exchange) -> None:
    """Cut every multi-byte character in two, 5 ms apart so that they arrive apart."""
    await talk.begin()
    parts = re.findall(rb"[\x80-\xbf]*[^\x80-\xff]*[\xc0-\xff]?", b"".join(talk.pieces()))
    await talk.more([part for part in parts if part], gap=0.005)
    await talk.finish()


def filled(comment: bytes) -> Run:
    """Send `count` comments 20 ms apart before the first event; plain: ok."""

    async def run(talk: Exchange) -> None:
        await talk.begin()
        if talk.streaming:
            await talk.more([comment] * talk.count, gap=0.02)
        await talk.more(talk.pieces())
        await talk.finish()

    return run


async def without_done(talk: Exchange) -> None:
    """End cleanly after the finish reason, without [DONE]."""
    pieces = talk.pieces()
    await talk.deliver(pieces[:-1] if talk.streaming else pieces)


async def after_done(talk: Exchange) -> None:
    """Keep the response open after [DONE]; plain: ok, then open."""
    await talk.begin()
    await talk.more(talk.pieces())
    await talk.peer.stall()


async def late_end(talk: Exchange) -> None:
    """End the body 2 ms after the answer."""
    await talk.begin()
    await talk.more(talk.pieces())
    await talk.peer.pause(0.002)
    await talk.finish()


async def slow(talk: Exchange) -> None:
    """Send the pieces 20 ms apart."""
    await talk.begin()
    await talk.more(talk.pieces(), gap=0.02)
    await talk.finish()


async def together(talk: Exchange) -> None:
    """Send the first content of a stream, then wait for the others."""
    pieces = talk.pieces()
    begun = 2 if talk.streaming else 0
    await talk.begin()
    await talk.more(pieces[:begun])
    await talk.gather()
    await talk.more(pieces[begun:])
    await talk.finish()


async def long_line(talk: Exchange) -> None:
    """Send all content in one event of `count` bytes."""
    await talk.deliver(talk.pieces(talk.reply(text="x" * talk.count)))


async def tiny(talk: Exchange) -> None:
    """Send `count` events of one character, a hundred in each write."""
    if not talk.streaming:
        await talk.deliver(talk.pieces(talk.reply(text="x" * talk.count)))
        return
    role, event, *end = talk.pieces(talk.reply(text="x"))
    await talk.begin()
    await talk.more([role])
    for at in range(0, talk.count, 100):
        await talk.peer.send(chunk(event) * min(100, talk.count - at))
    await talk.more(end)
    await talk.finish()


async def endless(talk: Exchange) -> None:
    """Send content every 10 ms for as long as anybody listens; plain: blanks before the JSON."""
    await talk.begin()
    piece = talk.pieces()[1] if talk.streaming else b" "
    while True:
        await talk.more([piece], gap=0.01)


SHAPES = [
    Fault("stream-no-done", "clean end after the finish reason, no [DONE]", without_done, STREAM),
    Fault("stream-open-after-done", "sound, then the response stays open", after_done, STREAM),
    Fault("stream-late-end", "sound, the last empty chunk 2 ms after [DONE]", late_end),
    Fault("stream-crlf", "CRLF line ends", each(replaced(b"\n", b"\r\n")), STREAM),
    Fault("stream-cr", "CR line ends", each(replaced(b"\n", b"\r")), STREAM),
    Fault("stream-bom", "a byte order mark first", each(bom), STREAM),
    Fault("stream-multi-line", "several data lines in each event", each(multi_line), STREAM),
    Fault("stream-no-space", "data:{...} without the space", each(replaced(b"data: ", b"data:")), STREAM),
    Fault("stream-fields", "event, id and retry fields", each(fields), STREAM),
    Fault("stream-glued", "every event in one chunk", each(glued), STREAM),
    Fault("stream-byte-by-byte", "every byte a chunk of its own", each(single_bytes), STREAM),
    Fault("stream-split-utf8", "every multi-byte character cut across writes", split_utf8),
    Fault(
        "stream-comments", "`count` comments `: keep-alive` first", filled(b": keep-alive\n\n"), STREAM, 10
    ),
    Fault(
        "stream-comments-openrouter",
        "`count` comments `: OPENROUTER PROCESSING` first",
        filled(b": OPENROUTER PROCESSING\n\n"),
        STREAM,
        10,
    ),
    Fault("stream-long-line", "one event of `count` bytes", long_line, STREAM, 2**20),
    Fault("stream-tiny", "`count` events of one character", tiny, STREAM, 100_000),
    Fault("slow-stream", "events 20 ms apart", slow, STREAM),
    Fault("together", "`count` answers wait for each other after the first content", together, count=1),
    Fault("stream-endless", "content without end, until the peer closes", endless, STREAM),
]

STREAMS = [*_matrix(), *SHAPES]
