"""Decompression in pieces of bounded size, so that a small reply cannot become a large one unnoticed."""

from __future__ import annotations

import zlib

from turnout.errors import MalformedReply

PIECE = 256 * 1024
"""Most bytes one `pull` gives."""


class Inflate:
    """Undoes one `content-encoding`: gzip, or deflate with or without its zlib header."""

    __slots__ = ("_begun", "_decompress", "_input")

    def __init__(self, coding: str) -> None:
        self._decompress: zlib._Decompress | None = None
        if coding == "gzip":
            self._decompress = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._input = b""
        self._begun = False

    def push(self, data: bytes) -> None:
        """Take what came off the wire."""
        self._begun = True
        self._input = self._input + data if self._input else data

    def pull(self) -> bytes:
        """Give the next piece, or nothing if more input is needed."""
        inflater = self._sniff() if self._decompress is None else self._decompress
        if inflater is None:
            return b""
        if inflater.eof:
            return self._nothing_after()
        try:
            piece = inflater.decompress(self._input, PIECE)
        except zlib.error as error:
            raise MalformedReply(f"the compressed body is damaged ({error})") from None
        self._input = inflater.unused_data or inflater.unconsumed_tail
        return piece or self._nothing_after()

    def finish(self) -> None:
        """Raise unless the compressed data came to its own end."""
        whole = self._decompress is not None and self._decompress.eof
        if self._begun and not whole:
            raise MalformedReply("the compressed body is cut short")

    def _sniff(self) -> zlib._Decompress | None:
        # "deflate" means zlib (RFC 9110, 8.4.1.2), yet servers send it raw too; RFC 1950 tells them apart
        if len(self._input) < 2:
            return None
        first, second = self._input[:2]
        zlib_header = first & 0x0F == 8 and (first << 8 | second) % 31 == 0
        self._decompress = zlib.decompressobj(zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS)
        return self._decompress

    def _nothing_after(self) -> bytes:
        if self._decompress is not None and self._decompress.eof and self._input:
            raise MalformedReply("bytes follow the end of the compressed body")
        return b""


def inflate_for(coding: str) -> Inflate | None:
    """What undoes this `content-encoding`; None if there is nothing to undo."""
    coding = coding.strip().lower()
    if coding in {"", "identity"}:
        return None
    if coding in {"gzip", "x-gzip"}:
        return Inflate("gzip")
    if coding == "deflate":
        return Inflate("deflate")
    raise MalformedReply("the body has a content-encoding that was not asked for")
