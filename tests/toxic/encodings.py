"""Faults of encoding and size: compression sound and damaged, bombs, huge answers, queue fillers."""

import zlib

from tests.toxic.bodies import rewritten
from tests.toxic.exchange import Exchange, Fault
from tests.toxic.wire import Rewrite

MEBIBYTE = 2**20
BLOCK = 2**16


def compressed(bits: int) -> Rewrite:
    """Compress piece by piece, so that a stream still flows."""

    def encode(pieces: list[bytes]) -> list[bytes]:
        packer = zlib.compressobj(wbits=bits)
        flushed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
        return [*flushed, packer.flush()]

    return encode


def brotli(pieces: list[bytes]) -> list[bytes]:
    """Write uncompressed brotli meta-blocks (RFC 7932 section 9.2), each at most 64 KiB."""
    sent = []
    for at, piece in enumerate(pieces):
        header = ((len(piece) - 1) << 3 | 1 << 19) << (at == 0)
        sent.append(header.to_bytes(3, "little") + piece)
    return [*sent, b"\x03"]


def zstandard(pieces: list[bytes]) -> list[bytes]:
    """Write raw zstd blocks (RFC 8878 section 3.1.1), each at most 128 KiB."""
    blocks = [(len(piece) << 3).to_bytes(3, "little") + piece for piece in pieces]
    return [b"\x28\xb5\x2f\xfd\x00\x58" + blocks[0], *blocks[1:], b"\x01\x00\x00"]


def spoiled(pieces: list[bytes]) -> list[bytes]:
    """Damage the middle of a gzip body."""
    packed = b"".join(compressed(31)(pieces))
    middle = len(packed) // 2
    return [packed[:middle], b"\xff" * 32, packed[middle + 32 :]]


def cut_off(pieces: list[bytes]) -> list[bytes]:
    """Drop the second half of a gzip body."""
    packed = b"".join(compressed(31)(pieces))
    return [packed[: len(packed) // 2]]


async def bomb(talk: Exchange) -> None:
    """Send spaces that expand a thousandfold, then a sound answer."""
    packer = zlib.compressobj(1, wbits=31)
    await talk.begin(headers=[("Content-Encoding", "gzip")])
    if talk.streaming:
        await talk.more([packer.compress(b": ") + packer.flush(zlib.Z_SYNC_FLUSH)])
    for _ in range(-(-talk.count // MEBIBYTE)):
        packed = packer.compress(b" " * MEBIBYTE) + packer.flush(zlib.Z_SYNC_FLUSH)
        await talk.more([packed])
    tail = b"".join([b"\n\n" if talk.streaming else b"", *talk.pieces()])
    await talk.more([packer.compress(tail) + packer.flush()])
    await talk.finish()


async def huge(talk: Exchange) -> None:
    """Send a sound answer whose content has `count` bytes, never holding it."""
    # A control character cannot occur in sound JSON, so its escape marks the place of the content.
    front, _, back = b"".join(talk.pieces(talk.reply(text="\x1a"))).partition(b"\\u001a")
    filler = b"x" if back else b" "
    start, end = (front.rindex(b"data: "), back.index(b"\n\n") + 2) if talk.streaming else (len(front), 0)
    await talk.begin()
    await talk.more([front[:start]])
    for at in range(0, talk.count, BLOCK):
        content = filler * min(BLOCK, talk.count - at)
        await talk.more([front[start:] + content + back[:end]])
    await talk.more([back[end:]])
    await talk.finish()


async def blank_lines(talk: Exchange) -> None:
    """Send DeepSeek's keep-alive while queued: blank lines, or comments in a stream (2026-10)."""
    await talk.begin()
    filler = b": keep-alive\n\n" if talk.streaming else b"\n"
    await talk.more([filler] * talk.count, gap=0.02)
    await talk.more(talk.pieces())
    await talk.finish()


ENCODINGS = [
    Fault("gzip", "sound gzip", rewritten(compressed(31), (("Content-Encoding", "gzip"),))),
    Fault("deflate", "sound deflate", rewritten(compressed(15), (("Content-Encoding", "deflate"),))),
    Fault("brotli", "sound brotli", rewritten(brotli, (("Content-Encoding", "br"),))),
    Fault("zstd", "sound zstd", rewritten(zstandard, (("Content-Encoding", "zstd"),))),
    Fault("gzip-bad", "damaged in the middle", rewritten(spoiled, (("Content-Encoding", "gzip"),))),
    Fault("gzip-short", "the second half is missing", rewritten(cut_off, (("Content-Encoding", "gzip"),))),
    Fault("gzip-not", "labelled gzip, not compressed", rewritten(list, (("Content-Encoding", "gzip"),))),
    Fault("gzip-bomb", "expands to `count` bytes", bomb, count=80 * MEBIBYTE),
    Fault("huge", "a sound answer of `count` bytes: huge-10m, huge-100m", huge, count=10 * MEBIBYTE),
    Fault("blank-lines", "`count` keep-alive blank lines or comments, then ok", blank_lines, count=5),
]
