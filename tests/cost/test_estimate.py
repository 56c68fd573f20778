"""Counting tokens before a provider has."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.cost import estimate_tokens
from turnout.cost.estimate import estimate_encoded, least_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abcd", 2),
        ("a" * 40, 13),
        ("a" * 400, 130),
        ("深度求索", 6),
        ("深" * 100, 130),
        ("deep 深度", 3),
    ],
)
def test_by_hand(text: str, tokens: int) -> None:
    """A quarter of the characters or all non-ASCII ones, whichever is more, times 1.3, rounded up."""
    assert estimate_tokens(text) == tokens


@pytest.mark.parametrize(
    ("text", "tokens_a_character"),
    [
        ("The quick brown fox jumps over the lazy dog. " * 50, 0.25),
        ("for index in range(10):\n    total += index\n" * 50, 0.26),
        ("人工智能是计算机科学的一个分支。" * 50, 0.61),
    ],
)
def test_rather_too_many(text: str, tokens_a_character: float) -> None:
    """English, code and Chinese are estimated at no less than was measured for them."""
    assert estimate_tokens(text) >= len(text) * tokens_a_character


@given(st.text(max_size=200), st.text(max_size=200))
def test_more_text_is_never_fewer_tokens(first: str, second: str) -> None:
    """Adding text does not lower the estimate, and no estimate is negative."""
    assert 0 <= estimate_tokens(first) <= estimate_tokens(first + second)


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (5, 0), (6, 1), (11, 1), (6_000, 1_000)])
def test_the_floor(size: int, tokens: int) -> None:
    """Encoded messages hold at least a token for every six bytes."""
    assert least_tokens(b"x" * size) == tokens


@given(st.lists(st.dictionaries(st.sampled_from(["role", "content"]), st.text(max_size=30)), max_size=5))
def test_encoded_messages_are_counted_as_their_text_is(messages: list[dict[str, str]]) -> None:
    """Bytes or text, in ASCII or not: the same estimate."""
    encoded = json.dumps(messages, ensure_ascii=False).encode()
    assert estimate_encoded(encoded) == estimate_tokens(encoded.decode())
