"""Keys are found in whatever dress they come."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.errors import ConfigError
from turnout.trace.redaction import STARS, Redactor
from turnout.types import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

KNOWN = "canary-of-no-known-form-81f2"
LOOKS = {
    "openai": "sk-proj-canary0123456789abcdef",
    "anthropic": "sk-ant-api03-canary-0123456789_abc",
    "ours": "to_k7f3_canary0123456789abcdefghij",
    "aws": "AKIACANARY0123456789",
    "google": "AIzaCanary0123456789_abcdefghijklmnopq",
    "github": "ghp_canary0123456789abcdefgh",
    "slack": "xoxb-0123456789-canary",
    "jwt": "eyJjYW5hcnkiOiJ5ZXMifQ.eyJjYW5hcnkiOiJ5ZXMifQ.c2lnbmF0dXJl",
    "bearer": "Bearer canary/0123456789==",
}
DRESSES: dict[str, Callable[[str], str]] = {
    "plain": lambda key: key,
    "url": lambda key: quote(key, safe=""),
    "percent": lambda key: "".join(f"%{ord(sign):02x}" for sign in key),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 without =": lambda key: base64.b64encode(key.encode()).decode().rstrip("="),
    "base64url": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "basic": lambda key: base64.b64encode(b"user:" + key.encode()).decode(),
    "base64 of url": lambda key: base64.b64encode(quote(f"a {key}").encode()).decode(),
    "url of base64": lambda key: quote(base64.b64encode(b"k=" + key.encode()).decode(), safe=""),
}
redact = Redactor([Secret(KNOWN)])


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("name", ["known", *LOOKS])
def test_no_dress_hides_a_key(name: str, dress: str) -> None:
    """A known key, and one of every form we know, in every encoding, within a sentence and as a value."""
    dressed = DRESSES[dress](LOOKS.get(name, KNOWN))
    for text in (
        f"it said {dressed}, then closed",
        f'{{"key":"{dressed}"}}',
        f"https://x.y/?key={dressed}&z=1",
    ):
        clean = redact(text)
        assert dressed not in clean, clean
        assert STARS in clean


def test_base64_glued_to_words() -> None:
    """Letters in front of the base64 that shift its groups do not hide the key."""
    for shift in range(4):
        dressed = base64.b64encode(LOOKS["openai"].encode()).decode()
        assert redact("k" * shift + dressed) == STARS


@pytest.mark.parametrize(
    "text",
    [
        "why does my loop never end?",
        "task-force to_do_list sketch risk-averse",
        "019ab000-0000-7000-8000-00000000002a",
        "deepseek-chat@2026-01-01/peak",
        "internationalization_of_everything/else",
        "The answer is 42.",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """What is no key is left as it is."""
    assert redact(text) == text


@settings(deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_around_it(before: str, after: str) -> None:
    """A known key goes, whatever stands around it, and nothing raises."""
    assert KNOWN not in redact(f"{before} {KNOWN} {after}")


def test_patterns_of_ones_own() -> None:
    """A configured pattern is blotted out, also in base64."""
    own = Redactor(patterns=[r"patient-\d{6}"])
    assert own("of patient-123456.") == f"of {STARS}."
    assert own(base64.b64encode(b"id=patient-123456").decode()) == STARS


@pytest.mark.parametrize(("pattern", "says"), [("(", "missing )"), ("x*", "matches the empty text")])
def test_a_bad_pattern(pattern: str, says: str) -> None:
    """A pattern that is none is a configuration error that names it."""
    with pytest.raises(ConfigError, match="redaction pattern") as caught:
        Redactor(patterns=[pattern])
    assert says in str(caught.value)


def test_short_keys_are_left() -> None:
    """A key of three letters would blot out ordinary words: it is not looked for."""
    assert Redactor([Secret("the")])("the end") == "the end"


@pytest.mark.parametrize(
    "name", ["Authorization", "x-api-key", "OPENAI_API_KEY", "password", "client_secret", "Cookie"]
)
def test_names_that_hold_secrets(name: str) -> None:
    """A field of such a name is a secret, whatever is in it."""
    assert redact.names_a_secret(name)
    assert not redact.names_a_secret("max_tokens")
