"""How much is kept, and in what form."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.trace.privacy import LONGEST_METADATA, Privacy, without_quotes
from turnout.trace.redaction import STARS
from turnout.types import Secret, Usage

KEY = "sk-canary0123456789abcdef"


def test_levels() -> None:
    """At `metadata` the size of a content is kept, at `full` itself in `body`, at `off` nothing."""
    privacy = Privacy(agents={"open": "full", "shut": "off"})
    given_ = {"inputs": "abc", "outputs": ["x", "y"]}
    assert privacy.contents("anyone", **given_) == {"inputs": {"characters": 3}, "outputs": {"items": 2}}
    assert privacy.contents("open", **given_) == {"body": {"inputs": "abc", "outputs": ["x", "y"]}}
    assert privacy.contents("shut", **given_) == {}
    assert privacy.metadata({"a": 1}, "shut") == {}
    assert Privacy(capture="full").level(None) == "full"


def test_sizes_of_every_shape() -> None:
    """Each shape of content has a size that tells nothing else."""
    sizes = {
        "text": ("hello", {"characters": 5}),
        "bytes": (b"hello", {"bytes": 5}),
        "fields": ({"secret word": 1}, {"fields": 1}),
        "set": ({1, 2}, {"items": 2}),
        "number": (12, {"type": "int"}),
    }
    for name, (value, size) in sizes.items():
        assert Privacy().contents(None, inputs=value) == {"inputs": size}, name


@dataclass
class Thing:
    """Something of the application's."""

    name: str = KEY


def test_any_value_becomes_json_without_keys() -> None:
    """Structs, tuples, sets, bytes, decimals, secrets and foreign objects become JSON values; keys do not."""
    facts: dict[str, Any] = {
        "struct": Usage(input_tokens=1),
        "tuple": (1, KEY),
        "set": {KEY},
        "bytes": b"xyz",
        "decimal": Decimal("0.10"),
        "secret": Secret(KEY),
        "thing": Thing(),
        "nan": math.nan,
        "huge": 2**80,
        "x-api-key": "any",
        KEY: "as a name",
        "deep": [[[[[[[[[[[[[[[["bottom"]]]]]]]]]]]]]]]],
        "surrogate": "\ud800",
    }
    kept = Privacy().metadata(facts, None)
    text = msgspec.json.encode(kept).decode()
    assert KEY not in text
    assert kept["tuple"] == [1, STARS]
    assert (kept["decimal"], kept["secret"], kept["bytes"]) == ("0.10", STARS, "3 bytes")
    assert (kept["x-api-key"], kept["nan"], kept["huge"]) == (STARS, "nan", str(2**80))
    assert "bottom" not in text


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.integers(0, 4_200))
def test_a_key_across_the_cut(before: int, beyond: int) -> None:
    """Wherever a long text is cut, no part of a key is left behind."""
    text = " ".join([KEY] * before) + "x" * (LONGEST_METADATA - 10 + beyond) + " " + KEY * 3 + " tail" * 2_000
    kept = Privacy().text(text)
    assert "canary" not in kept
    assert len(kept) < LONGEST_METADATA + 40


@pytest.mark.parametrize("shift", range(len(KEY) + 1))
def test_half_a_key_at_the_end_of_what_is_read(shift: int) -> None:
    """Keys that become stars make room for the text behind them, also for one that was read only in part."""
    for between in " ,\n":
        assert "canary" not in Privacy().text("x" * shift + f"{between}{KEY}" * 1_000)


def test_a_megabyte_takes_no_time() -> None:
    """The text a provider or a caller sends cannot hold up the event loop, whatever it is made of."""
    for text in (
        "x" * 10**6,
        "x " * 500_000,
        "x" * 6_000 + " tail" * 10**5,
        "%41" * 300_000,
        "=.-_" * 250_000,
    ):
        began = time.process_time()
        Privacy().text(text)
        assert time.process_time() - began < 0.05


def test_a_cut_text_says_so() -> None:
    """What was cut ends with the length it had; what was not does not."""
    assert Privacy().text("word " * 1_000).endswith("… (5,000 characters)")
    assert Privacy().text("word") == "word"


def test_a_thousand_items_are_enough() -> None:
    """A list beyond a thousand items is cut."""
    assert len(Privacy().metadata({"list": list(range(5_000))}, None)["list"]) == 1_000


SAID = msgspec.json.encode(
    [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": [{"type": "text", "text": "Where does Alice keep her spare key?"}]},
        {"role": "user", "content": "plover"},
    ]
)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ("400: in 'Where does Alice keep her spare key?'", "400: in '…'"),
        ("400: in 'ce keep her spare key?'", "400: in '…'"),
        ("what is plover?", "what is …?"),
        ("the role must be system, not user", "the role must be system, not user"),
        ("her key is not valid", "her key is not valid"),
        ("", ""),
    ],
)
def test_errors_without_what_was_said(error: str, kept: str) -> None:
    """Sixteen characters of a conversation in a row, or a whole short text of it, are left out of an error."""
    assert without_quotes(error, SAID) == kept
