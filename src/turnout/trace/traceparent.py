"""W3C `traceparent` (Trace Context, level 1): how a trace goes from one process into another.

A trace's id is a UUID in its canonical form, a span's id 16 hex digits; an attempt, whose id is a UUID, is known
to the wire by the last 16 digits of it.
"""

from __future__ import annotations

import re

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_HEX = re.compile(r"[0-9a-fA-F]{32}")


def parse(text: str) -> tuple[str, str] | None:
    """The trace's id and its parent span's; `None` for anything else, which W3C wants treated as absent."""
    match = _FORM.fullmatch(text.strip().lower())
    if match is None or not match[1].strip("0") or not match[2].strip("0"):
        return None
    if text.strip().startswith("00") and match[3]:
        return None
    return canonical(match[1]), match[2]


def render(trace: str, span: str) -> str:
    """The header for a span within a trace, marked as sampled."""
    return f"00-{hex_trace(trace)}-{hex_span(span)}-01"


def canonical(trace: str) -> str:
    """A trace id as turnout keeps it: 32 hex digits get their dashes, anything else stays as it is."""
    if _HEX.fullmatch(trace) is None:
        return trace
    digits = trace.lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def hex_trace(trace: str) -> str:
    """32 hex digits."""
    return trace.replace("-", "")


def hex_span(span: str) -> str:
    """16 hex digits."""
    return span.replace("-", "")[-16:]
