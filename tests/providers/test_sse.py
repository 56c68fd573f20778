"""Event streams, cut anywhere."""

from __future__ import annotations

import tracemalloc
from collections import deque
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.errors import OversizedReply
from turnout.providers.sse import Event, EventReader


def read(*pieces: bytes) -> list[tuple[bytes, bytes]]:
    """All events of a stream, as name and data."""
    reader = EventReader()
    return [(event.name, event.data) for piece in pieces for event in reader.feed(piece)]


def reference(stream: bytes) -> list[tuple[bytes, bytes]]:
    """The algorithm of WHATWG HTML 9.2.6, word by word, on a whole stream."""
    stream = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, data, name = [], b"", b""
    for line in stream.split(b"\n")[:-1]:  # what follows the last line end is no line
        if line == b"":
            if data:
                events.append((name, data[:-1]))
            data, name = b"", b""
        elif line.startswith(b":"):
            continue
        else:
            field, colon, value = line.partition(b":")
            if colon and value.startswith(b" "):
                value = value[1:]
            if field == b"data":
                data += value + b"\n"
            elif field == b"event":
                name = value
    return events


_LINES = st.sampled_from(
    [
        b"data: x",
        b"data:x",
        b"data:  x",
        b"data",
        b"data:",
        b"data: ",
        b"data:: y",
        b"datax: y",
        b" data: y",
        b"event: ping",
        b"event",
        b"id: 7",
        b"retry: 10",
        b": comment",
        b":",
        b"",
        b"",
        b"",
        b"\xef\xbb\xbfdata: bom",
        "data: é€".encode(),
        b"data: \0",
    ]
)
_STREAMS = st.lists(st.tuples(_LINES, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=20).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@settings(max_examples=400, deadline=None)
@given(
    stream=st.one_of(_STREAMS, st.binary(max_size=60)),
    bom=st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xef\xbb"]),
    rest=st.sampled_from([b"", b"data: cut", b"data: cut\n", b"\xef"]),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    bytewise=st.booleans(),
)
def test_like_the_standard(stream: bytes, bom: bytes, rest: bytes, cuts: list[int], bytewise: bool) -> None:
    """However a stream is cut, it gives the events that the standard's algorithm finds in the whole."""
    whole = bom + stream + rest
    marks = range(len(whole)) if bytewise else sorted(cut for cut in cuts if cut <= len(whole))
    pieces = [whole[start:end] for start, end in zip([0, *marks], [*marks, len(whole)], strict=True)]
    assert read(*pieces) == reference(whole)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: a\ndata: b\ndata\n\n", [(b"", b"a\nb\n")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [(b"x", b"a"), (b"", b"b")]),
        (b"event: x\n\ndata: b\n\n", [(b"", b"b")]),
        (b"data\n\n", [(b"", b"")]),
        (b"\n\n\n", []),
        (b"data: a\r\rdata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: [DONE]\n", []),
    ],
)
def test_events(stream: bytes, events: list[tuple[bytes, bytes]]) -> None:
    """The cases of the standard's own text."""
    assert read(stream) == events


def test_at_once() -> None:
    """An event ended by CR is given without waiting for the LF that may follow, and that LF ends no line."""
    reader = EventReader()
    assert reader.feed(b"data: a\r\n\r") == [Event(b"a")]
    assert reader.feed(b"\ndata: b\n\n") == [Event(b"b")]


def test_comments_are_counted() -> None:
    """A keep-alive comment shows in the count, as soon as its line has ended."""
    reader = EventReader()
    assert reader.feed(b": keep-alive\n\n: keep") == []
    assert reader.comments == 1
    assert reader.feed(b"-alive\n") == []
    assert reader.comments == 2
    assert not reader.pending


@pytest.mark.parametrize(
    ("stream", "pending", "unfinished"),
    [
        (b"", False, b""),
        (b"data: a\n\n", False, b""),
        (b"data: a\n\n: keep", False, b""),
        (b"data: a\n\nda", True, b""),
        (b"data: a\n\ndata: [DONE]", True, b"[DONE]"),
        (b"data: a\ndata: b\n", True, b"a\nb"),
    ],
)
def test_cut_event_shows(stream: bytes, pending: bool, unfinished: bytes) -> None:
    """An event without its blank line is not given, but can be seen."""
    reader = EventReader()
    reader.feed(stream)
    assert (reader.pending, reader.unfinished) == (pending, unfinished)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 100],
        [b"data: " + b"x" * 100 + b"\n"],
        [b"x" * 100 + b"\n"],
        [b"x"] * 101,
        [b"data: x\n"] * 20,
        [b"data: x\n" * 20],
    ],
)
def test_limit(pieces: list[bytes]) -> None:
    """A line, or the lines of one event together, longer than the limit are refused."""
    reader = EventReader(limit=99)
    with pytest.raises(OversizedReply, match="longer than 99 bytes"):
        deque(map(reader.feed, pieces), maxlen=0)


def test_below_the_limit() -> None:
    """Many events each below the limit are no matter."""
    reader = EventReader(limit=99)
    assert len(reader.feed((b"data: " + b"x" * 90 + b"\n\n") * 50)) == 50


def test_a_million_events() -> None:
    """10^6 tiny events, in pieces of all sizes: all are given, and the last tenth of them leaves nothing behind."""
    stream = b"data: x\n\n" * 1000
    reader, count = EventReader(), 0
    for number in range(1000):
        if number == 900:  # watched from here on: it makes every event five times as slow
            tracemalloc.start()
        at = number * 9 % len(stream)
        count += len(reader.feed(stream[:at])) + len(reader.feed(stream[at:]))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1_000_000
    assert kept < 1_000


def test_a_long_line_byte_by_byte() -> None:
    """A line of 1 MB in pieces of one byte takes time in proportion: four times the line, four times as long."""

    def spent(size: int) -> float:
        reader, start = EventReader(), process_time()
        reader.feed(b"data: ")
        for _ in range(size):
            reader.feed(b"x")
        assert reader.feed(b"\n\n") == [Event(b"x" * size)]
        return process_time() - start

    assert spent(1_000_000) < 16 * spent(250_000)
