"""Keys out of texts: the ones that are known, those that look like one, also URL-encoded or in base64.

This is the second line of defence: keys are `Secret`s and are not put into facts in the first place.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from turnout.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from turnout.types import Secret

STARS = "***"
SHIPPED = (
    r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{12,}",  # OpenAI, DeepSeek, Anthropic, Moonshot
    r"(?<![A-Za-z0-9])to_[A-Za-z0-9]+_[A-Za-z0-9_-]{16,}",  # ours
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}",
    r"(?<![A-Za-z0-9])AIza[0-9A-Za-z_-]{30,}",
    r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{20,}",
    r"(?<![A-Za-z0-9])xox[abprs]-[A-Za-z0-9-]{10,}",
    r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    r"(?i:\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
)
_NAMES = re.compile(
    r"(?i)(?:proxy-)?authorization|(?:set-)?cookie|(?:.*[-_])?api[-_]?key|(?:.*[-_])?(?:password|passwd|secret)"
    r"|(?:access|refresh|id|auth)[-_]?token"
)
_RUN = re.compile(r"[A-Za-z0-9+/_%=.-]{16,}")
_NOT_BASE64 = re.compile(r"[=.]+")
_TEXT = re.compile(r"[\s\x20-\x7e]{6,}")
"""Most base64 is of pictures: only what may be text in it is looked at."""
_NOT_TO_STANDARD = str.maketrans("-_", "+/")
SHORTEST_KEY = 6
"""A shorter one would blot out ordinary words."""
_SHORTEST_RUN = 16
_LAYERS = 3
"""How many encodings on top of one another are looked through."""


class Redactor:
    """Blots keys out of text. Raises `ConfigError` for a pattern that is no regular expression.

    `keys` are known ones; `patterns` are further regular expressions, whose whole match is blotted out.
    """

    def __init__(self, keys: Iterable[Secret] = (), patterns: Iterable[str] = ()) -> None:
        known = sorted((key.reveal() for key in keys), key=len, reverse=True)
        for pattern in patterns:
            _check(pattern)
        self._secret = re.compile(
            "|".join([*(re.escape(key) for key in known if len(key) >= SHORTEST_KEY), *SHIPPED, *patterns])
        )

    def __call__(self, text: str) -> str:
        """The text with `***` in place of every key."""
        return _RUN.sub(self._undisguised, self._secret.sub(STARS, text))

    def names_a_secret(self, name: str) -> bool:
        """A field of this name holds a key, whatever it looks like."""
        return _NAMES.fullmatch(name) is not None

    def _undisguised(self, match: re.Match[str]) -> str:
        return STARS if self._hides(match[0], _LAYERS) else match[0]

    def _hides(self, run: str, layers: int) -> bool:
        if layers == 0:
            return False
        return any(
            self._secret.search(text) or any(self._hides(inner, layers - 1) for inner in _RUN.findall(text))
            for text in _readings(run)
        )


def _readings(run: str) -> list[str]:
    """What a run of characters may stand for."""
    if "%" in run:
        return [unquote(run)]
    return [text for part in _NOT_BASE64.split(run) for text in _decodings(part.translate(_NOT_TO_STANDARD))]


def _decodings(digits: str) -> Iterator[str]:
    """A key's base64 may begin anywhere in a run: letters before it shift the groups of four."""
    for start in range(4 if len(digits) >= _SHORTEST_RUN else 0):
        part = digits[start:]
        part = part[: len(part) - 1] if len(part) % 4 == 1 else part
        decoded = binascii.a2b_base64(part + "=" * (-len(part) % 4)).decode("latin-1")
        if stretches := _TEXT.findall(decoded):
            yield "\0".join(stretches)


def _check(pattern: str) -> None:
    try:
        empty = re.compile(pattern).match("") is not None
    except re.error as error:
        raise ConfigError(
            f"redaction pattern {pattern!r}: {error}", hint="write a regular expression in Python's syntax"
        ) from None
    if empty:
        raise ConfigError(
            f"redaction pattern {pattern!r} matches the empty text", hint="make it match at least a character"
        )
