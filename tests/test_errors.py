"""The tree of errors: as it is drawn, with a verdict and a reason on every leaf, and a message for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import pytest

from turnout import errors
from turnout.errors import (
    AllProvidersFailed,
    InvalidRequest,
    MissingKey,
    ProviderError,
    RateLimited,
    TurnoutError,
    Verdict,
)
from turnout.types import Attempt, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator


Kind = TypeVar("Kind", bound=TurnoutError)


def tree(root: type[Kind]) -> Iterator[type[Kind]]:
    """A class of turnout's and every one below it."""
    yield root
    for kind in root.__subclasses__():
        if kind.__module__.startswith("turnout."):
            yield from tree(kind)


ALL = list(tree(TurnoutError))
PROVIDER = list(tree(ProviderError))
LEAVES = [kind for kind in PROVIDER if not any(kind in other.__bases__ for other in PROVIDER)]


def drawn() -> dict[str, tuple[str, str | None]]:
    """The picture in the module's docstring: each name with its parent and the verdict beside it."""
    found: dict[str, tuple[str, str | None]] = {}
    path = ["TurnoutError"]
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│ ]*)[├└]── (\w+)(.*)", line)
        if match:
            depth = len(match[1]) // 4 + 1
            path = [*path[:depth], match[2]]
            word = re.search(r"\b(retry|next|wider|stop)$", match[3])
            found[match[2]] = (path[depth - 1], word[1] if word else None)
    return found


def test_the_tree_is_drawn_as_it_is() -> None:
    """The picture names exactly the classes that exist, each below its parent."""
    assert {name: parent for name, (parent, _) in drawn().items()} == {
        kind.__name__: kind.__bases__[0].__name__ for kind in ALL if kind is not TurnoutError
    }


@pytest.mark.parametrize("kind", PROVIDER[1:])
def test_the_verdict_is_drawn_as_it_is(kind: type[ProviderError]) -> None:
    """The verdict beside a name is the one the class declares."""
    assert drawn()[kind.__name__][1] == kind.verdict.name.lower()


@pytest.mark.parametrize("kind", ALL)
def test_the_docstring_is_the_message(kind: type[TurnoutError]) -> None:
    """Each class's docstring is one sentence, and what an error without detail says."""
    sentence = kind.__doc__ or ""
    assert re.fullmatch(r"[A-Z][^\n]+\.", sentence)
    assert str(kind()) == sentence.removesuffix(".")


@pytest.mark.parametrize("kind", LEAVES)
def test_a_leaf_has_a_verdict_and_a_reason(kind: type[ProviderError]) -> None:
    """A leaf says what the loop does about it, and gives a reason of its own."""
    assert isinstance(kind.verdict, Verdict)
    assert isinstance(kind.reason, Reason)
    assert [other for other in LEAVES if other.reason is kind.reason] == [kind]


def test_no_reason_is_given_twice() -> None:
    """Only a class shares a reason with its own kind: bad replies, and the two ends of `connect_error`."""
    shared = {
        kind.__name__
        for kind in PROVIDER
        for other in PROVIDER
        if kind.reason is other.reason and kind is not other
    }
    assert shared == {"BadReply", "MalformedReply", "Unreachable", "ConnectionLost"}


def test_the_number_of_leaves() -> None:
    """The walk found leaves to look at, and the one verdict that ends a call stands on one of them."""
    assert len(LEAVES) == 16
    assert [kind.__name__ for kind in LEAVES if kind.verdict is Verdict.STOP] == ["RequestRejected"]
    assert [kind.__name__ for kind in LEAVES if kind.verdict is Verdict.WIDER] == ["ContextOverflow"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RateLimited(), "The provider is at its rate limit"),
        (RateLimited("try later."), "The provider is at its rate limit: try later"),
        (RateLimited(provider="openai"), "openai: The provider is at its rate limit"),
        (
            RateLimited("60 requests a minute", provider="openai"),
            "openai: The provider is at its rate limit: 60 requests a minute",
        ),
    ],
)
def test_who_what_and_why(error: TurnoutError, text: str) -> None:
    """An error says who, what and why, as far as it was told; `message` leaves out who."""
    assert str(error) == text
    assert error.message == text.removeprefix("openai: ")


def test_fields_for_programs() -> None:
    """What a program decides by is a field, not a word in a text."""
    error = RateLimited("slow down", hint="wait", provider="p", status=429, retry_after=1.5, request_id="r")
    fields = (error.detail, error.hint, error.provider, error.status, error.retry_after, error.request_id)
    assert fields == ("slow down", "wait", "p", 429, 1.5, "r")
    assert error.attempts == ()
    assert error.args == ("slow down",)


def test_an_invalid_request_is_a_value_error() -> None:
    """Callers who know nothing of turnout catch a bad request as the ValueError it is."""
    with pytest.raises(ValueError, match="cannot be sent: no messages"):
        raise InvalidRequest("no messages")


def test_a_missing_key_is_an_auth_error() -> None:
    """Who handles refused keys handles missing ones too, and can tell them apart by the reason."""
    assert isinstance(MissingKey(), errors.AuthError)
    assert (MissingKey.reason, MissingKey.verdict) == (Reason.NO_API_KEY, Verdict.NEXT)


def test_all_attempts_are_listed() -> None:
    """When every model failed, the text lists each attempt with its error and outcome, in order."""
    attempts = tuple(
        Attempt(
            id=name, model=name, provider="p", started_at=0, seconds=1, outcome=outcome, error=f"{name} broke"
        )
        for name, outcome in [("first", Reason.TIMEOUT), ("second", Reason.SERVER_ERROR)]
    )
    assert str(AllProvidersFailed("2 attempts", attempts=attempts)).splitlines() == [
        "Every model of the plan failed: 2 attempts",
        "  1. first (p): first broke [timeout]",
        "  2. second (p): second broke [server_error]",
    ]
    assert str(AllProvidersFailed()) == "Every model of the plan failed"
