"""Anthropic's event streams, in the shape its documentation shows: read, cut anywhere, broken off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.anthropic_cases import CODEC, IDS, OBJECTS, ROW, VISIBLE, body
from turnout import errors
from turnout.providers.sse import Event, EventReader
from turnout.types import Answer, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turnout.providers.base import StreamDecoder
    from turnout.types import Delta


def event(kind: str, **data: Any) -> bytes:
    """One event as it stands on the wire."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def block(index: int, start: dict[str, Any], *pieces: dict[str, Any]) -> list[bytes]:
    """One block's events."""
    return [
        event("content_block_start", index=index, content_block=start),
        *(event("content_block_delta", index=index, delta=piece) for piece in pieces),
        event("content_block_stop", index=index),
    ]


def opening(**usage: Any) -> bytes:
    """The first event."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-5-5"}
    report = {"input_tokens": 25, "cache_read_input_tokens": 10, "output_tokens": 1, **usage}
    return event("message_start", message={**message, "content": [], "stop_reason": None, "usage": report})


def closing(stop_reason: str | None = "end_turn", **usage: Any) -> list[bytes]:
    """The last two events."""
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return [event("message_delta", delta=delta, usage={"output_tokens": 15, **usage}), event("message_stop")]


def read(stream: Iterable[bytes], decoder: StreamDecoder | None = None) -> tuple[StreamDecoder, list[Delta]]:
    """The decoder at the end, and every delta."""
    decoder, reader = decoder or CODEC.decoder(ROW), EventReader()
    deltas = [d for piece in stream for told in reader.feed(piece) for d in decoder.feed(told)]
    return decoder, deltas


def added_up(decoder: StreamDecoder, deltas: list[Delta]) -> Answer:
    """What the deltas say together."""
    calls: list[dict[str, Any]] = []
    for piece in [piece for delta in deltas for piece in delta.tool_calls]:
        if piece["index"] == len(calls):
            calls.append({"id": piece["id"], "type": piece["type"], "function": dict(piece["function"])})
        else:
            assert piece.keys() == {"index", "function"}
            calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    finishes = [delta.finish_reason for delta in deltas if delta.finish_reason]
    return Answer(
        content="".join(delta.text for delta in deltas),
        finish_reason=finishes[-1] if finishes else "",
        upstream_model=decoder.upstream_model,
        usage=decoder.usage or Usage(),
        tool_calls=tuple(calls),
        reasoning="".join(delta.reasoning for delta in deltas) or None,
        thinking_blocks=decoder.thinking_blocks,
    )


EVERYTHING = [
    opening(),
    event("ping"),
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Rain"},
        {"type": "thinking_delta", "thinking": "?"},
        {"type": "signature_delta", "signature": "EqQBCg=="},
    ),
    *block(1, {"type": "redacted_thinking", "data": "EmwKAhgB"}),
    *block(
        2,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "I'll "},
        {"type": "text_delta", "text": "look, Zürich."},
    ),
    *block(
        3,
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"query":"a"}'},
    ),
    *block(
        4,
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"city":'},
        {"type": "input_json_delta", "partial_json": ' "Ulm"}'},
    ),
    *block(5, {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}),
    event("something_new", delta="of no known shape"),
    *closing("tool_use", output_tokens_details={"thinking_tokens": 4}),
]


def test_everything() -> None:
    """Text, thinking with its seals, tool calls, the finish, the name and the usage of both ends come out."""
    decoder, deltas = read(EVERYTHING)
    assert decoder.ended
    calls = (("toolu_1", "weather", '{"city": "Ulm"}'), ("toolu_2", "now", "{}"))
    assert added_up(decoder, deltas) == Answer(
        content="I'll look, Zürich.",
        finish_reason="tool_calls",
        upstream_model="claude-haiku-5-5",
        usage=Usage(input_tokens=35, cached_input_tokens=10, output_tokens=15, reasoning_tokens=4),
        tool_calls=tuple(
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in calls
        ),
        reasoning="Rain?",
        thinking_blocks=(
            {"type": "thinking", "thinking": "Rain?", "signature": "EqQBCg=="},
            {"type": "redacted_thinking", "data": "EmwKAhgB"},
        ),
    )


def test_the_events_go_on_as_they_came() -> None:
    """Every event of the answer is the `raw` of one delta, byte for byte; pings and unknown ones are not among them."""
    known = [raw for raw in EVERYTHING if b"event: ping" not in raw and b"something_new" not in raw]
    assert [delta.raw for delta in read(EVERYTHING)[1]] == [
        raw.split(b"data: ", 1)[1].removesuffix(b"\n\n") for raw in known
    ]


@given(st.lists(st.integers(0, sum(map(len, EVERYTHING))), max_size=12))
def test_cut_anywhere(cuts: list[int]) -> None:
    """However the bytes are cut into reads, the same deltas come out."""
    whole = b"".join(EVERYTHING)
    ends = [*sorted(cuts), len(whole)]
    pieces = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert read(pieces)[1] == read(EVERYTHING)[1]


BLOCKS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": VISIBLE}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": VISIBLE, "signature": IDS}),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": IDS}),
    st.fixed_dictionaries({"type": st.just("tool_use"), "id": IDS, "name": IDS, "input": OBJECTS}),
)


def streamed(index: int, part: dict[str, Any], cut: int) -> list[bytes]:
    """A block as a stream brings it, its text in two pieces."""
    if part["type"] == "redacted_thinking":
        return block(index, part)
    if part["type"] == "tool_use":
        text = json.dumps(part["input"], ensure_ascii=False)
        pieces = [{"type": "input_json_delta", "partial_json": half} for half in (text[:cut], text[cut:])]
        return block(index, part | {"input": {}}, *pieces)
    kind = part["type"]
    pieces = [{"type": f"{kind}_delta", kind: half} for half in (part[kind][:cut], part[kind][cut:])]
    if kind == "thinking":
        pieces.append({"type": "signature_delta", "signature": part["signature"]})
    return block(index, {"type": kind, kind: ""}, *pieces)


@given(
    st.lists(BLOCKS, min_size=1, max_size=6), st.sampled_from(["end_turn", "max_tokens"]), st.integers(0, 9)
)
def test_streamed_or_not(blocks: list[dict[str, Any]], stop_reason: str, cut: int) -> None:
    """A streamed answer adds up to what the same answer is in one piece."""
    blocks = [*blocks, {"type": "text", "text": "."}]
    usage = {"input_tokens": 25, "cache_read_input_tokens": 10, "output_tokens": 15}
    whole = CODEC.decode(body(content=blocks, stop_reason=stop_reason, usage=usage), ROW)
    events = [raw for index, part in enumerate(blocks) for raw in streamed(index, part, cut)]
    together = added_up(*read([opening(), *events, *closing(stop_reason)]))
    for answer in (whole, together):
        for call in answer.tool_calls:
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    assert together == whole


@given(st.integers(0, sum(map(len, EVERYTHING)) - 1))
def test_cut_short(size: int) -> None:
    """A stream that breaks off anywhere before message_stop has not ended, and what came before stands."""
    decoder, deltas = read([b"".join(EVERYTHING)[:size]])
    assert not decoder.ended
    assert deltas == read(EVERYTHING)[1][: len(deltas)]


def test_what_follows_the_end() -> None:
    """After message_stop nothing is read, such as the `[DONE]` of some compatible servers."""
    decoder, _ = read([opening(), *block(0, {"type": "text", "text": "Hi."}), *closing()])
    assert decoder.ended
    assert decoder.feed(Event(b"[DONE]")) == ()
    assert decoder.feed(Event(b"not json", b"message_start")) == ()


def test_input_that_comes_at_once() -> None:
    """A server that sends a tool's whole input with its start is understood; so is one that sends it no event names."""
    start = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    stream = [opening(), *block(0, start), *closing("tool_use")]
    nameless = [raw.split(b"\n", 1)[1] for raw in stream]
    for events in (stream, nameless):
        answer = added_up(*read(events))
        assert answer.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a":1}'}
        assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("details", "said", "content"),
    [
        ({"type": "refusal", "explanation": "It could do harm."}, (), "It could do harm."),
        (None, (), ""),
        ({"type": "refusal", "explanation": "It could do harm."}, ("First,",), "First,"),
    ],
)
def test_a_refusal(details: dict[str, Any] | None, said: tuple[str, ...], content: str) -> None:
    """A refusal says why where it said nothing else, streamed as in one piece."""
    events = [raw for n, text in enumerate(said) for raw in block(n, {"type": "text", "text": text})]
    delta = {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}
    last = [event("message_delta", delta=delta, usage={"output_tokens": 15}), event("message_stop")]
    answer = added_up(*read([opening(), *events, *last]))
    assert (answer.content, answer.finish_reason) == (content, "content_filter")


def test_usage_is_cumulative() -> None:
    """Later counts replace smaller ones, a 0 or null that some servers repeat does not, and nonsense is not known."""
    text = block(0, {"type": "text", "text": "Hi."})
    grown = read([opening(), *text, *closing(input_tokens=80, cache_read_input_tokens=None)])[0]
    assert grown.usage == Usage(input_tokens=90, cached_input_tokens=10, output_tokens=15)
    kept = read([opening(), *text, *closing(input_tokens=0, cache_read_input_tokens=0)])[0]
    assert kept.usage == Usage(input_tokens=35, cached_input_tokens=10, output_tokens=15)
    spoilt = read([opening(input_tokens=-1), *text, *closing()])[0]
    assert spoilt.usage == Usage(cached_input_tokens=10, output_tokens=15)
    details = {"thinking_tokens": 4}
    null = read([opening(output_tokens_details=details), *text, *closing(output_tokens_details=None)])[0]
    assert null.usage is not None
    assert null.usage.reasoning_tokens == 4
    begun = read([opening()])[0]
    assert begun.usage == Usage(input_tokens=35, cached_input_tokens=10, output_tokens=1)


@pytest.mark.parametrize(
    ("kind", "expected", "status"),
    [
        ("overloaded_error", errors.ServerFault, 529),
        ("api_error", errors.ServerFault, 500),
        ("timeout_error", errors.ServerFault, 504),
        ("rate_limit_error", errors.RateLimited, 429),
        ("authentication_error", errors.AuthError, 401),
        ("billing_error", errors.PaymentRequired, 402),
        ("invalid_request_error", errors.RequestRejected, 400),
        ("something_new", errors.ServerFault, 500),
    ],
)
def test_an_error_in_the_stream(kind: str, expected: type[errors.ProviderError], status: int) -> None:
    """An error event means what the same error means under a status of its own."""
    stream = [opening(), event("error", error={"type": kind, "message": "Overloaded"})]
    with pytest.raises(errors.ProviderError) as caught:
        read(stream)
    assert type(caught.value) is expected
    assert (caught.value.status, caught.value.provider) == (status, "anthropic")


def test_an_error_that_says_nothing() -> None:
    """An error event without an error in it is a fault of the server's all the same."""
    with pytest.raises(errors.ServerFault):
        read([opening(), event("error")])


@pytest.mark.parametrize(
    "stream",
    [
        [b"event: message_start\ndata: {\n\n"],
        [b"data: [1]\n\n"],
        [b'data: {"type": 5}\n\n'],
        [b"event: message_start\ndata: " + b'{"a":' * 5_000 + b"\n\n"],
        [event("content_block_start", index=0)],
        [event("content_block_start", index=0, content_block={"type": "text", "text": 5})],
        [event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"})],
        [*block(0, {"type": "text"})[:1], event("content_block_delta", index=0)],
        [event("content_block_stop", index=3)],
        [*block(0, {"type": "text", "text": "a"}), event("content_block_stop", index=0)],
        [opening(), event("message_stop")],
        [opening(), *closing(None)],
    ],
)
def test_a_stream_that_is_none(stream: list[bytes]) -> None:
    """What is not JSON, not an event's shape, out of order, or ends without a reason is malformed, nothing worse."""
    with pytest.raises(errors.MalformedReply) as caught:
        read(stream)
    assert caught.value.provider == "anthropic"


@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"message_start", b"content_block_delta", b"error", b"\xff"]),
)
def test_any_event(data: bytes, name: bytes) -> None:
    """No event whatever lets anything but a ProviderError out."""
    try:
        deltas = CODEC.decoder(ROW).feed(Event(data, name))
    except errors.ProviderError:
        return
    assert deltas == () or name == b"message_start" or b"type" in data
