"""What a caller gave: understood, or refused by the name of the field before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from turnout import accept
from turnout.errors import InvalidRequest
from turnout.types import Options, Scope


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"user_id": 5}, "user_id must be text, not int"),
        ({"session_id": b"s"}, "session_id must be text, not bytes"),
        ({"parent": ["p"]}, "parent must be text, not list"),
        ({"tags": ["a"]}, "tags must be a dict of texts"),
        ({"tags": {"a": 1}}, "tags must be a dict of texts"),
        ({"operation": "thinking"}, "operation must be one of routing, agent_execution"),
    ],
)
def test_a_scope_of_another_kind(keywords: dict[str, Any], message: str) -> None:
    """Who pays is text; anything else is named."""
    with pytest.raises(InvalidRequest, match=message):
        accept.scope("dojo", None, keywords, default="default")


def test_a_scope_takes_its_keywords() -> None:
    """The scope's keywords are taken out, the others are left for the options, and nobody is the default agent."""
    keywords: dict[str, Any] = {"user_id": "alice", "tags": {"team": "a"}, "operation": "critique", "seed": 1}
    assert accept.scope(None, None, keywords, default="dojo") == Scope(
        agent="dojo", user="alice", tags={"team": "a"}, operation="critique"
    )
    assert keywords == {"seed": 1}
    assert accept.options(Options(temperature=1), keywords) == Options(temperature=1, seed=1)


@pytest.mark.parametrize("odd", [float("nan"), float("-inf")])
def test_numbers_that_json_cannot_say(odd: float) -> None:
    """NaN and infinity anywhere in a message are named where they stand; a null is none of them."""
    with pytest.raises(InvalidRequest, match=r"messages\[0\]\['x'\]\[1\] holds"):
        accept.messages([{"role": "user", "content": "a", "x": [None, odd]}])
    assert accept.messages([{"role": "user", "content": "a", "x": None}])[0].endswith(b'"x":null}]')


def test_many_brackets_are_not_deep() -> None:
    """A long history has many brackets and is taken; one that is nested 65 deep is not."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": "a"}] * 200
    assert accept.messages(turns)[0].count(b"{") == 200
    deep: Any = "x"
    for _ in range(accept.DEEPEST + 1):
        deep = [deep]
    with pytest.raises(InvalidRequest, match="nested more than 64 deep"):
        accept.messages([{"role": "user", "content": "a", "x": deep}])


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": ["user"], "content": "hi"}, r"Expected `str`, got `array` - at `\$\[0\].role`"),
        ({"role": "robot", "content": "hi"}, r"Invalid enum value 'robot' - at `\$\[0\].role`"),
        ({"role": "user", "content": b"hi", "x": 1}, r"at `\$\[0\].content`"),
        ({"content": "hi", "name": "n"}, "missing required field `role`"),
        (["user", "hi"], r"Expected `object`, got `array`"),
    ],
)
def test_a_message_of_another_shape(message: Any, says: str) -> None:
    """What is no message is refused by where it is wrong, among plain ones too."""
    with pytest.raises(InvalidRequest, match=says):
        accept.messages([message, {"role": "user", "content": "hi"}])


def test_what_is_among_messages() -> None:
    """Images and reasoning are found wherever they are; a plain conversation has neither."""
    plain = {"role": "user", "content": "hi"}
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
    thought = {"role": "assistant", "content": "a", "reasoning_content": "r"}
    sealed = {"role": "assistant", "content": "a", "thinking_blocks": []}
    found = [
        accept.messages([plain, *more])[1:] for more in ([], [image], [thought], [sealed], [image, thought])
    ]
    assert found == [(False, False), (True, False), (False, True), (False, True), (True, True)]
