"""The words of a setting, wherever they were written, as a value; or a `ConfigError` that says what to write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

YES, NO = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off", ""})


def seconds(value: Any, where: str) -> float:
    """A time, up to a day."""
    try:
        given = float(value)
    except (TypeError, ValueError):
        given = -1.0
    if isinstance(value, bool) or not 0 < given <= 86_400:
        raise ConfigError(f"{where}: {value!r} is not a time", hint="write seconds, above 0 and up to 86400")
    return given


def truth(value: Any, where: str) -> bool:
    """Yes or no, in the usual words."""
    word = str(value).strip().lower()
    if word not in YES | NO:
        raise ConfigError(f"{where}: {value!r} is neither true nor false", hint="write true or false")
    return word in YES


def model_file(value: Any, where: str) -> Path:
    """A file that is there."""
    file = Path(str(value))
    if not file.is_file():
        raise ConfigError(f"{where}: {value} is not a file", hint="name a GGUF model file")
    return file


def one_of(*words: str) -> Callable[[Any, str], str]:
    """What reads one of these words."""

    def parse(value: Any, where: str) -> str:
        if value not in words:
            raise ConfigError(
                f"{where}: {value!r} is none of its values", hint=f"write one of: {', '.join(words)}"
            )
        return str(value)

    return parse


def capture(value: Any, where: str) -> dict[str, str]:
    """One level for everybody, or a table by agent."""
    levels = value if isinstance(value, dict) else {"default": value}
    check = one_of("off", "metadata", "full")
    return {agent: check(level, f"{where}, {agent}") for agent, level in levels.items()}


def patterns(value: Any, where: str) -> tuple[str, ...]:
    """A list of regular expressions."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ConfigError(f"{where} must be a list of texts", hint='write redact = ["acct-[0-9]+"]')
    for pattern in value:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(
                f"{where}: {pattern!r} is no regular expression: {error}", hint="correct it"
            ) from None
    return tuple(value)


def retention(value: Any, where: str) -> dict[str, int]:
    """Days, by what is kept."""
    known = ("bodies", "events", "costs")
    if not isinstance(value, dict) or not all(
        name in known and isinstance(days, int) and not isinstance(days, bool) and days > 0
        for name, days in value.items()
    ):
        raise ConfigError(f"{where}: days by name, of {', '.join(known)}", hint="write bodies = 7")
    return dict(value)


def size(value: Any, where: str) -> int:
    """Bytes, at least a mebibyte."""
    text = str(value)
    if not text.isdigit() or int(text) < 1 << 20:
        raise ConfigError(f"{where}: {value!r} is not a size", hint="write bytes, at least 1048576")
    return int(text)
