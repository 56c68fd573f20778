r"""One event as bytes and back: `crc32 length json\n`, the two numbers as eight hex digits.

A line is never broken by what it holds (JSON escapes control characters), so the next line after a damaged
one is found again, and a segment can be read with `less` in an emergency.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from turnout.types import Event

HEAD = 18
"""Bytes before the JSON."""
_encode = msgspec.json.Encoder(enc_hook=str).encode
_UNFIT = (TypeError, ValueError, OverflowError, RecursionError)


class Scan(NamedTuple):
    """What some bytes of a segment hold."""

    payloads: list[bytes]
    end: int
    """Where the next look begins: behind the last line that is whole."""
    damaged: int
    """Bytes in whole lines that are no record."""


def framed(event: Event) -> bytes:
    """The event's line. Never raises for an application's facts: what is no JSON becomes text, or goes."""
    try:
        payload = _encode(event)
    except _UNFIT as error:
        payload = _mended(event, error)
    return b"%08x %08x %b\n" % (crc32(payload), len(payload), payload)


def _mended(event: Event, error: Exception) -> bytes:
    """An event with lone surrogates, or numbers or nesting beyond JSON, as near to itself as JSON comes."""
    try:
        text = json.dumps(msgspec.to_builtins(event, enc_hook=str), ensure_ascii=False, allow_nan=False)
    except _UNFIT:
        bare = msgspec.structs.replace(event, facts={"unrecorded": f"{type(error).__name__}: {error}"})
        text = json.dumps(msgspec.to_builtins(bare, enc_hook=str), ensure_ascii=False)
    return text.encode("utf-8", "replace")


def scan(data: bytes) -> Scan:
    """Every whole record in the bytes of a segment; a line without its end is left for later."""
    payloads: list[bytes] = []
    at = damaged = 0
    while at < len(data):
        line_end = data.find(b"\n", at)
        payload = data[at + HEAD : line_end]
        if line_end >= 0 and data.startswith(_head(payload), at):
            payloads.append(payload)
            at = line_end + 1
            continue
        unended = _record(data, at)
        if unended is not None:
            payloads.append(unended)
            at += HEAD + len(unended) + 1
            damaged += data[at - 1] != ord("\n")
            continue
        if line_end < 0:
            break
        damaged += line_end + 1 - at
        at = line_end + 1
    return Scan(payloads, at, damaged)


def _head(payload: bytes) -> bytes:
    return b"%08x %08x " % (crc32(payload), len(payload))


def _record(data: bytes, at: int) -> bytes | None:
    """The record that begins here, if it is whole and every bit of it is right, whatever byte comes after it."""
    head = data[at : at + HEAD]
    try:
        length = int(head[9:17], 16)
    except ValueError:
        return None
    end = at + HEAD + length
    if length < 0 or end >= len(data):
        return None
    payload = data[at + HEAD : end]
    return payload if head == _head(payload) else None
