"""Server-sent events out of bytes, cut anywhere (WHATWG HTML, 9.2). Bytes in, bytes out."""

from __future__ import annotations

import msgspec

from turnout.errors import OversizedReply

LINE_BYTES = 2 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, gc=False):
    """One event; `id` and `retry` concern browsers that reconnect, and are dropped."""

    data: bytes
    """The `data` lines, joined by newlines."""
    name: bytes = b""
    """The `event` field."""


class EventReader:
    """Takes an event stream in pieces of any size."""

    __slots__ = ("_data", "_held", "_limit", "_name", "_skip_lf", "_start", "_tail", "comments")

    def __init__(self, limit: int = LINE_BYTES) -> None:
        """Refuse a line, or the data of an event, beyond `limit` bytes."""
        self.comments = 0
        """How many comment lines have come: a provider's way to say that it is still there."""
        self._limit = limit
        self._tail = bytearray()  # the line that has not ended yet
        self._data: list[bytes] = []
        self._held = 0  # bytes in `_data`
        self._name = b""
        self._start = True
        self._skip_lf = False

    @property
    def pending(self) -> bool:
        """Whether an event has begun and not ended: at the end of the stream, that it was cut."""
        return bool(self._data or (self._tail and not self._tail.startswith(b":")))

    @property
    def unfinished(self) -> bytes:
        """The data of the event that has begun: some providers end on `data: [DONE]` without a blank line."""
        data = [*self._data]
        field, _, value = bytes(self._tail).partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        return b"\n".join(data)

    def feed(self, piece: bytes) -> list[Event]:
        """The events that end in this piece. Raises `OversizedReply`."""
        if self._start or self._skip_lf or b"\r" in piece:
            piece = self._unify(piece)
        end = piece.rfind(b"\n")
        if end < 0:
            self._tail += piece
            if len(self._tail) > self._limit:
                raise self._oversized()
            return []
        lines = piece[:end].split(b"\n")
        if self._tail:
            lines[0] = bytes(self._tail) + lines[0]
        self._tail = bytearray(piece[end + 1 :])
        if len(self._tail) > self._limit:
            raise self._oversized()
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        data, held = self._data, self._held
        for line in lines:
            if not line:
                if data:
                    events.append(Event(data[0] if len(data) == 1 else b"\n".join(data), self._name))
                    data.clear()
                    held = 0
                self._name = b""
                continue
            if line[:6] == b"data: ":
                data.append(line[6:])
            elif not self._field(line):
                continue
            held += len(line)
            if held > self._limit:
                raise self._oversized()
        self._held = held
        return events

    def _field(self, line: bytes) -> bool:
        """Whether the line is one of data."""
        if len(line) > self._limit:
            raise self._oversized()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            return True
        if not field:
            self.comments += 1
        elif field == b"event":
            self._name = value
        return False

    def _unify(self, piece: bytes) -> bytes:
        """Turn every line end into LF, and drop the byte order mark."""
        if self._start:
            piece = bytes(self._tail) + piece
            self._tail.clear()
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                self._tail += piece
                return b""
            piece = piece.removeprefix(_BOM)
            self._start = False
        if not piece:
            return piece
        if self._skip_lf and piece.startswith(b"\n"):
            piece = piece[1:]
        self._skip_lf = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _oversized(self) -> OversizedReply:
        return OversizedReply(f"a line or an event of the stream is longer than {self._limit} bytes")
