"""OpenAI's streamed wire: cut anywhere, framed in every lawful way, and ended in many that are not."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.streamed import STOP, broken, event, said, whole
from tests.toxic import SENTENCE
from tests.toxic.wire import DONE, Reply, sse, usage
from turnout import errors
from turnout.types import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

SOUND = b"".join(Reply("id", "m-1", SENTENCE, reasoning=("Hm, ", "so.")).events(include_usage=True))


def reframed(change: Callable[[bytes], bytes]) -> bytes:
    """The sound stream with its bytes changed."""
    return change(SOUND)


def spread(stream: bytes) -> bytes:
    """Each event's JSON over several data lines."""
    events = [piece for piece in stream.split(b"\n\n") if piece]
    lines = [json.dumps(json.loads(e[6:]), indent=1).split("\n") for e in events[:-1]]
    return b"".join(b"".join(b"data: %b\n" % line.encode() for line in one) + b"\n" for one in lines) + DONE


FRAMINGS = {
    "lf": SOUND,
    "crlf": reframed(lambda stream: stream.replace(b"\n", b"\r\n")),
    "cr": reframed(lambda stream: stream.replace(b"\n", b"\r")),
    "bom": b"\xef\xbb\xbf" + SOUND,
    "multi-line": spread(SOUND),
    "comments": reframed(lambda stream: b": hello\n\n" + stream.replace(b"data: ", b": more\ndata: ")),
    "named": reframed(lambda stream: stream.replace(b"data: ", b"event: message\nid: 1\ndata:")),
    "empty events": reframed(lambda stream: stream.replace(b"data: {", b"data:\n\ndata: {")),
    "no last blank line": SOUND.rstrip(b"\n"),
    "junk after the end": SOUND + b"data: {junk\n\ndata: [DONE]\n\n",
}


@given(st.sampled_from(sorted(FRAMINGS)), st.lists(st.integers(0, 4_000), max_size=12))
def test_cut_anywhere(framing: str, cuts: list[int]) -> None:
    """However the bytes arrive and whatever ends their lines, the answer is the same to the character."""
    stream = FRAMINGS[framing]
    places = sorted({min(cut, len(stream)) for cut in [0, *cuts, len(stream)]})
    answer = whole(*(stream[a:b] for a, b in itertools.pairwise(places)))
    assert (answer.content, answer.reasoning, answer.finish_reason) == (SENTENCE, "Hm, so.", "stop")
    assert answer.upstream_model == "m-1"
    assert (answer.usage.input_tokens, answer.usage.cached_input_tokens) == (100, 40)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_cut_at_every_byte(framing: str) -> None:
    """A byte at a time is no different."""
    stream = FRAMINGS[framing]
    answer = whole(*(stream[at : at + 1] for at in range(len(stream))))
    assert (answer.content, answer.usage.output_tokens) == (SENTENCE, len(SENTENCE.split()) + 2)


@given(st.integers(0, len(SOUND) - 1))
def test_cut_short_anywhere(end: int) -> None:
    """What ends anywhere before its finish reason is an error, and what was given away is a beginning of the answer."""
    if b'"finish_reason":"stop"' in SOUND[:end]:
        return
    text, error = broken(SOUND[:end])
    assert isinstance(error, errors.StreamTruncated | errors.MalformedReply)
    assert SENTENCE.startswith(text)


@given(st.integers(0, len(SOUND) - 1))
def test_broken_anywhere(end: int) -> None:
    """A connection that breaks before [DONE] or the finish reason makes no answer, though it may have held all."""
    lost = errors.ConnectionLost("reset")
    text, error = broken(SOUND[:end], error=lost)
    assert isinstance(error, errors.StreamTruncated)
    assert error.detail == "reset"
    assert SENTENCE.startswith(text)


@pytest.mark.parametrize(
    ("tail", "kind", "words"),
    [
        (b"", errors.StreamTruncated, "without a finish_reason"),
        (DONE, errors.StreamTruncated, "without a finish_reason"),
        (sse({"error": {"message": "boom", "code": 502}}), errors.ServerFault, "boom"),
        (sse({"error": {"message": "slow", "code": 429}}), errors.RateLimited, "slow"),
        (b"event: error\n" + sse({"message": "odd"}), errors.ServerFault, "odd"),
        (event(finish="insufficient_system_resource"), errors.ServerFault, "half-way"),
        (b"data: {junk\n\n" + STOP + DONE, errors.MalformedReply, "malformed"),
        (b"data: [1]\n\n", errors.MalformedReply, "Expected `object`"),
        (b"data: <html>\n\n", errors.HtmlReply, "page"),
        (b"data: " + b"[" * 100_000 + b"\n\n", errors.MalformedReply, ""),
        (b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n', errors.MalformedReply, ""),
        (b"data: " + b"x" * 3_000_000, errors.OversizedReply, "longer than"),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
def test_bad_ends(tail: bytes, kind: type[errors.ProviderError], words: str, begun: bool) -> None:
    """Each is its own error, before the first token and after it, and what came before it is given away."""
    text, error = broken(said("The ", "points ") if begun else b"", tail)
    assert type(error) is kind
    assert begun is False or words in str(error)
    assert text == ("The points " if begun else "")


def test_the_last_usage_counts() -> None:
    """Some send a running total with every event; the last one is the bill."""
    first, last = usage(100, 1, 101, 0), usage(100, 7, 107, 40)
    answer = whole(event({"content": "a"}, usage=first), STOP, sse({"choices": [], "usage": last}), DONE)
    assert (answer.usage.output_tokens, answer.usage.cached_input_tokens) == (7, 40)


@pytest.mark.parametrize("report", [b"", b'data: {"choices": [], "usage": null}\n\n'])
def test_no_usage(report: bytes) -> None:
    """Not reported is None, for whoever settles to count."""
    assert whole(said("a"), STOP, report, DONE).usage == Usage()


def test_a_usage_of_nan() -> None:
    """A count that is no number is no reason to lose a whole answer."""
    nan = b'data: {"choices": [], "usage": {"prompt_tokens": NaN, "completion_tokens": 5}}\n\n'
    answer = whole(said("a"), STOP, nan, DONE)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (None, 5)
