"""The nouns: secrets that do not print, options that are in range, money that adds up."""

from __future__ import annotations

import copy
import logging
import pickle
from decimal import Decimal
from typing import Any

import pytest

from turnout.types import Attempt, Options, Reply, Secret, Usage, dollars

CANARY = "sk-canary-5f1d"


def attempt(cost_nano: int | None) -> Attempt:
    """One try at this cost."""
    return Attempt(
        id="a", model="m", provider="p", started_at=0, seconds=0.5, outcome="ok", cost_nano=cost_nano
    )


def reply(*costs: int | None, **fields: Any) -> Reply:
    """An answer after attempts at these costs."""
    return Reply(
        content="Yes.",
        finish_reason="stop",
        agent="dojo",
        model="m",
        provider="p",
        usage=Usage(),
        attempts=tuple(attempt(cost) for cost in costs),
        trace_id="t",
        **fields,
    )


def test_a_secret_never_prints(caplog: pytest.LogCaptureFixture) -> None:
    """A key is *** in str, repr, f-strings, % formats, containers and logs; only `reveal` tells it."""
    secret = Secret(CANARY)
    logging.getLogger("test").warning("key %s %r", secret, secret)
    for text in (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r}",
        "{}".format(secret),  # noqa: UP032 - the other spelling is what is tested
        "%s %r" % (secret, secret),  # noqa: UP031 - likewise
        repr({"key": [secret]}),
        caplog.text,
    ):
        assert CANARY not in text
        assert "***" in text
    assert secret.reveal() == CANARY


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    """No protocol writes a key to a file."""
    with pytest.raises(TypeError, match="a Secret is not pickled"):
        pickle.dumps({"key": Secret(CANARY)}, protocol)


def test_a_secret_is_not_copied() -> None:
    """Copying goes the way of pickling, and is refused with it."""
    with pytest.raises(TypeError, match="a Secret is not pickled"):
        copy.copy(Secret(CANARY))


def test_secrets_compare_by_value() -> None:
    """Two secrets are one when their keys are; a secret is not its key."""
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0},
        {"temperature": 2},
        {"temperature": 0.7},
        {"max_tokens": 1},
        {"seed": -1},
        {"timeout": 0.001},
        {"timeout": 86_400},
        {"tools": []},
        {"tool_choice": "auto"},
        {"tool_choice": {"type": "function"}},
        {"response_format": {"type": "json_object"}},
        {"thinking": True},
        {"thinking": False},
        {"thinking": "low"},
        {"thinking": "high"},
        {"thinking": "max"},
        {"stop": "END"},
        {"stop": ["END"]},
        {"extra": {"user": "u"}},
    ],
)
def test_options_in_range(fields: dict[str, Any]) -> None:
    """What is documented is taken as it is given; the rest stays with the model."""
    options = Options(**fields)
    assert {name: getattr(options, name) for name in fields} == fields
    assert {name: getattr(options, name) for name in Options.__struct_fields__ if name not in fields} == {
        name: getattr(Options(), name) for name in Options.__struct_fields__ if name not in fields
    }


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"temperature": float("nan")}, ValueError, "temperature must be between 0 and 2, not nan"),
        ({"temperature": float("inf")}, ValueError, "temperature must be between 0 and 2, not inf"),
        ({"temperature": -0.1}, ValueError, "temperature must be between 0 and 2, not -0.1"),
        ({"temperature": 2.1}, ValueError, "temperature must be between 0 and 2, not 2.1"),
        ({"temperature": "warm"}, TypeError, "temperature must be a number, not str"),
        ({"temperature": True}, TypeError, "temperature must be a number, not bool"),
        ({"timeout": 0}, ValueError, "timeout must be between 0.001 and 86400, not 0"),
        ({"timeout": 86_401}, ValueError, "timeout must be between 0.001 and 86400, not 86401"),
        ({"timeout": float("nan")}, ValueError, "timeout must be between 0.001 and 86400, not nan"),
        ({"max_tokens": 0}, ValueError, "max_tokens must be at least 1, not 0"),
        ({"max_tokens": 1.5}, TypeError, "max_tokens must be a whole number, not float"),
        ({"max_tokens": True}, TypeError, "max_tokens must be a whole number, not bool"),
        ({"seed": "7"}, TypeError, "seed must be a whole number, not str"),
        ({"tools": {}}, TypeError, "tools must be list, not dict"),
        ({"tool_choice": 1}, TypeError, "tool_choice must be str or dict, not int"),
        ({"response_format": "json"}, TypeError, "response_format must be dict, not str"),
        ({"thinking": 1}, TypeError, "thinking must be bool or str, not int"),
        (
            {"thinking": "hard"},
            ValueError,
            "thinking must be true, false, 'low', 'high' or 'max', not 'hard'",
        ),
        ({"stop": 0}, TypeError, "stop must be str or list, not int"),
        ({"extra": []}, TypeError, "extra must be dict, not list"),
    ],
)
def test_options_out_of_range(fields: dict[str, Any], kind: type[Exception], message: str) -> None:
    """A value out of range is a ValueError, one of the wrong kind a TypeError; both name the option."""
    with pytest.raises(kind) as caught:
        Options(**fields)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("usage", "total"),
    [
        (Usage(), None),
        (Usage(input_tokens=5), None),
        (Usage(output_tokens=5), None),
        (Usage(input_tokens=0, output_tokens=0), 0),
        (Usage(input_tokens=2_000, output_tokens=300), 2_300),
        (
            Usage(input_tokens=2_000, cached_input_tokens=1_800, output_tokens=300, reasoning_tokens=290),
            2_300,
        ),
    ],
)
def test_total_tokens(usage: Usage, total: int | None) -> None:
    """Input and output together, cached and reasoning inside them; not known when either is not."""
    assert usage.total_tokens == total


@pytest.mark.parametrize(
    ("costs", "total"),
    [
        ((686_000,), "0.000686"),
        ((0, 686_000), "0.000686"),
        ((232_400, 333_200), "0.0005656"),
        ((0,), "0"),
        ((), "0"),
        ((None,), None),
        ((686_000, None), None),
        ((None, 0), None),
    ],
)
def test_the_cost_of_a_reply(costs: tuple[int | None, ...], total: str | None) -> None:
    """A reply costs what its attempts cost together, which is not known when one of them is not."""
    assert reply(*costs).cost_usd == (None if total is None else Decimal(total))


def test_the_cost_of_an_attempt() -> None:
    """An attempt's nano-dollars are dollars, and what is not known stays so."""
    assert attempt(1).cost_usd == Decimal("0.000000001")
    assert attempt(0).cost_usd == Decimal(0)
    assert attempt(None).cost_usd is None


@pytest.mark.parametrize(
    ("nano", "amount"),
    [(0, "0"), (1, "1e-9"), (10**9, "1"), (123_456_789_012_345_678, "123456789.012345678")],
)
def test_dollars_are_exact(nano: int, amount: str) -> None:
    """No digit is lost between nano-dollars and dollars."""
    assert dollars(nano) == Decimal(amount)


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({}, {}),
        ({"reasoning": ""}, {}),
        ({"reasoning": "Because."}, {"reasoning_content": "Because."}),
        ({"tool_calls": ({"id": "1"}, {"id": "2"})}, {"tool_calls": [{"id": "1"}, {"id": "2"}]}),
    ],
)
def test_the_message_of_a_reply(fields: dict[str, Any], more: dict[str, Any]) -> None:
    """A reply as the assistant's message holds the fields it has and no empty ones."""
    assert reply(0, **fields).message == {"role": "assistant", "content": "Yes."} | more
