"""One streamed answer: held until its first token, put together from its pieces, and whole or an error."""

from __future__ import annotations

from typing import Any

import pytest

from tests.streamed import STOP, event, incoming, read, said, whole
from tests.toxic.wire import DONE, sse, usage
from turnout import errors
from turnout.streaming import Incoming
from turnout.types import Answer, Usage

# the first token


@pytest.mark.parametrize(
    "first",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"refusal": "x"},
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]},
    ],
)
async def test_a_token_ends_the_hold(first: dict[str, Any]) -> None:
    """Text, reasoning, a refusal or a tool call is a first token, given away at once and with the blanks before it."""
    stream = incoming(event({"role": "assistant", "content": ""}), said(" ", "\n"), event(first))
    await stream.hold()
    assert stream.begun
    held = [await anext(stream) for _ in range(4)]
    assert [delta.text for delta in held][:3] == ["", " ", "\n"]
    assert held[3].is_token


@pytest.mark.parametrize("finish", [STOP + DONE, STOP, STOP + sse({"choices": [], "usage": None}) + DONE])
async def test_blanks_alone_are_held(finish: bytes) -> None:
    """Nothing but white space is no token: it is never given away, and the answer is blank."""
    stream = incoming(said(" ", "\n", "  "), finish)
    with pytest.raises(errors.BlankReply):
        await stream.hold()
    assert not stream.begun


async def test_reasoning_alone_is_no_answer() -> None:
    """Reasoning is given away, and the error comes where the text should have."""
    deltas, error = await read(incoming(event({"reasoning_content": "Hm."}), STOP, DONE))
    assert deltas[0].reasoning == "Hm."
    assert isinstance(error, errors.BlankReply)


async def test_no_text_because_of_the_limit() -> None:
    """An answer that was cut by its token limit before it began is one, as it is without streaming."""
    deltas, error = await read(incoming(event(finish="length"), DONE))
    assert ([delta.text for delta in deltas], error) == ([""], None)


# how it ends


def test_an_end_without_done() -> None:
    """A finish reason and a clean end are enough; so is [DONE] without a blank line behind it."""
    assert whole(said("a", "b"), STOP).content == "ab"
    assert whole(said("a", "b"), STOP + b"data: [DONE]").content == "ab"


async def test_nothing_is_read_after_the_end() -> None:
    """[DONE] ends the answer although the body goes on; what follows is drained unseen."""
    stream = incoming(said("a"), STOP + DONE + said("NOT YOURS"), said("NOR THIS"))
    deltas, error = await read(stream)
    await stream.drain()
    assert ("".join(delta.text for delta in deltas), error) == ("a", None)


async def test_an_error_is_raised_again() -> None:
    """Whoever goes on after the error gets it again, never an end as if all were well."""
    stream = incoming(said("a"))
    await stream.hold()
    await anext(stream)
    for _ in range(2):
        with pytest.raises(errors.StreamTruncated):
            await anext(stream)


async def test_what_was_spent_until_now() -> None:
    """Half-way the input is the given one and the output what was seen, or more where more was reported."""
    stream = incoming(said("four words of text "), event({"reasoning_content": "and some of thought"}))
    await read(stream)
    spent = stream.spent(50)
    assert (spent.input_tokens, spent.source) == (50, "estimated")
    assert spent.output_tokens is not None
    assert 10 <= spent.output_tokens <= 20
    told = incoming(said("a"), sse({"choices": [], "usage": usage(70, 99, 169, 8)}))
    await read(told)
    spent = told.spent(50)
    assert (spent.input_tokens, spent.output_tokens, spent.cached_input_tokens) == (70, 99, 8)


# tool calls


def call(index: int | None, id_: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    """One piece of a tool call, as sparse as they come."""
    piece: dict[str, Any] = {"function": {"arguments": arguments}}
    if name is not None:
        piece["function"]["name"] = name
    return piece | {key: value for key, value in (("index", index), ("id", id_)) if value is not None}


TWO = [("a", "f", '{"x": 1}'), ("b", "g", '{"y": 2}')]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(
            [
                [call(0, "a", "f", "")],
                [call(0, None, None, '{"x"')],
                [call(0, None, None, ": 1}")],
                [call(1, "b", "g", "")],
                [call(1, None, None, '{"y": 2}')],
            ],
            id="openai",
        ),
        pytest.param(
            [
                [call(0, "a", "f", ""), call(1, "b", "g", "")],
                [call(1, None, None, '{"y"')],
                [call(0, None, None, '{"x": 1}')],
                [call(1, None, None, ": 2}")],
            ],
            id="interleaved",
        ),
        pytest.param(
            [[call(None, "a", "f", '{"x": 1}')], [call(None, "b", "g", '{"y": 2}')]], id="whole, no index"
        ),
        pytest.param([[call(0, "a", "f", '{"x": 1}')], [call(0, "b", "g", '{"y": 2}')]], id="all index 0"),
        pytest.param(
            [
                [call(0, "a", "f", '{"x"')],
                [call(0, "", None, ": 1}")],
                [call(0, "b", "g", '{"y"')],
                [call(0, "", None, ": 2}")],
            ],
            id="all index 0, in pieces",
        ),
        pytest.param(
            [
                [call(1, "a", "f", '{"x"')],
                [call(1, None, None, ": 1}")],
                [call(2, "b", "g", '{"y"')],
                [call(2, None, None, ": 2}")],
            ],
            id="counted from 1",
        ),
        pytest.param(
            [
                [call(0, "a", "f", '{"x"')],
                [call(0, "a", "f", ": 1}")],
                [call(1, "b", "g", '{"y"')],
                [call(1, "b", "g", ": 2}")],
            ],
            id="id and name repeated",
        ),
        pytest.param(
            [
                [call(0, "a", "f", '{"x"')],
                [call(0, "a2", None, ": 1}")],
                [call(1, "b", "g", '{"y"')],
                [call(1, "b2", None, ": 2}")],
            ],
            id="a new id each time",
        ),
        pytest.param(
            [
                [call(None, "a", "f", '{"x"')],
                [call(None, None, None, ": 1}")],
                [call(None, "b", "g", '{"y": 2}')],
            ],
            id="pieces, no index",
        ),
    ],
)
def test_tool_calls_are_merged(pieces: list[list[dict[str, Any]]]) -> None:
    """Pieces of one call come together and two calls stay apart, however a vendor counts them."""
    events = [event({"tool_calls": some}) for some in pieces]
    answer = whole(*events, event(finish="tool_calls"), DONE)
    merged = [(c["function"]["name"], c["function"]["arguments"]) for c in answer.tool_calls]
    assert merged == [(name, arguments) for _, name, arguments in TWO]
    assert [c["id"][0] for c in answer.tool_calls] == ["a", "b"]
    assert {c["type"] for c in answer.tool_calls} == {"function"}


@pytest.mark.parametrize(
    ("arguments", "merged"), [({"x": [1]}, '{"x":[1]}'), (None, ""), ("", ""), ("{", "{")]
)
def test_odd_arguments(arguments: Any, merged: str) -> None:
    """Arguments that are no text become text; text that is no JSON is passed on as it is."""
    answer = whole(event({"tool_calls": [call(0, "a", "f", arguments)]}), event(finish="tool_calls"), DONE)
    assert answer.tool_calls[0]["function"]["arguments"] == merged


@pytest.mark.parametrize("piece", [{}, {"index": "0"}, {"index": [0], "id": "a"}, {"function": "f"}])
def test_a_piece_without_anything(piece: dict[str, Any]) -> None:
    """A piece that says nothing useful breaks nothing."""
    assert len(whole(event({"tool_calls": [piece]}), event(finish="tool_calls"), DONE).tool_calls) == 1


async def test_whole_answers_stream_too() -> None:
    """An answer that came in one piece is one delta and the same answer."""
    told = Answer(
        content="hi",
        finish_reason="stop",
        upstream_model="m-1",
        usage=Usage(input_tokens=3, output_tokens=1),
        reasoning="Hm.",
        tool_calls=({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},),
    )
    stream = Incoming.whole(told)
    deltas, error = await read(stream)
    assert error is None
    assert [(delta.text, delta.reasoning, delta.finish_reason) for delta in deltas] == [("hi", "Hm.", "stop")]
    assert stream.begun
    assert stream.answer() == told


async def test_stop_behind_tool_calls() -> None:
    """A stop that ends a stream of tool calls is `tool_calls`, in the delta and in the whole."""
    stream = incoming(event({"tool_calls": [call(0, "a", "f", "{}")]}), STOP + DONE)
    deltas, error = await read(stream)
    assert error is None
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["tool_calls"]
    assert stream.answer().finish_reason == "tool_calls"
