"""Lines of a segment: what is whole is read, what is damaged is counted, and what comes after is found again."""

from __future__ import annotations

from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from turnout.storage.frames import HEAD, Scan, scan

payloads = st.binary(max_size=30).map(lambda payload: payload.replace(b"\n", b" "))


def line(payload: bytes, end: bytes = b"\n") -> bytes:
    """A record by the format's own words."""
    return b"%08x %08x " % (crc32(payload), len(payload)) + payload + end


@given(st.lists(payloads, max_size=6), st.data())
def test_whole_lines_and_a_part(found: list[bytes], data: st.DataObject) -> None:
    """Every record is read, an empty one too; a last line without its end is left for later."""
    whole = b"".join(map(line, found))
    last = line(data.draw(payloads))
    part = last[: data.draw(st.integers(0, len(last) - 1))]
    assert scan(whole + part) == Scan(found, len(whole), 0)


@given(payloads, st.data())
def test_a_changed_byte(payload: bytes, data: st.DataObject) -> None:
    """A record with one byte changed anywhere before its end is none; the next one is read."""
    right = line(payload)
    at = data.draw(st.integers(0, len(right) - 2))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte not in {right[at], ord("\n")}))
    wrong = right[:at] + bytes([other]) + right[at + 1 :]
    assert scan(wrong + line(b"next")) == Scan([b"next"], len(wrong) + HEAD + 5, len(wrong))


def test_another_end() -> None:
    """A record whose last byte is another is read, and that byte is damage; also where nothing follows."""
    wrong = line(b"{}", b"x")
    assert scan(wrong + line(b"next")) == Scan([b"{}", b"next"], len(wrong) + HEAD + 5, 1)
    assert scan(wrong) == Scan([b"{}"], len(wrong), 1)


def test_a_record_that_holds_a_line_end() -> None:
    """No writer of ours makes one; it is a record all the same."""
    assert scan(line(b"a\nb") + line(b"c")) == Scan([b"a\nb", b"c"], 2 * HEAD + 6, 0)


def test_lines_that_are_none() -> None:
    """Text, an empty line, a negative and an endless length: damage up to the end of their line, no further."""
    for wrong in (b"hello\n", b"\n", b"00000000 -0000002 {}\n", b"00000000 ffffffff {}\n"):
        assert scan(wrong + line(b"{}")) == Scan([b"{}"], len(wrong) + HEAD + 3, len(wrong))
    assert scan(b"no end") == Scan([], 0, 0)
    assert scan(b"") == Scan([], 0, 0)
