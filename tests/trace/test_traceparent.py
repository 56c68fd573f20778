"""W3C's header, read and written."""

from __future__ import annotations

from uuid import UUID  # noqa: TC003 - hypothesis reads it

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.trace.traceparent import canonical, parse, render

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def test_reads_the_specifications_example() -> None:
    """The example of the W3C text gives its trace, as a UUID, and its span."""
    assert parse(f"00-{TRACE}-{SPAN}-01") == ("0af76519-16cd-43dd-8448-eb211c80319c", SPAN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\r\nx: y",
    ],
)
def test_anything_else_counts_as_absent(text: str) -> None:
    """What the specification calls invalid is no parent."""
    assert parse(text) is None


def test_a_later_version_may_say_more() -> None:
    """Fields behind those of version 00 are ignored in a later version."""
    assert parse(f"cc-{TRACE}-{SPAN}-01-what-comes") == (canonical(TRACE), SPAN)


@given(st.uuids(), st.uuids(version=4))
def test_there_and_back(trace: UUID, span: UUID) -> None:
    """Whatever is rendered is read back: the trace as it was, the span by its last 16 digits."""
    if trace.int:
        assert parse(render(str(trace), str(span))) == (str(trace), span.hex[16:])
