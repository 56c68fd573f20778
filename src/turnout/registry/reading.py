"""Rows from TOML: read, laid over one another, and checked with errors that name file, row and fix."""

from __future__ import annotations

import difflib
import tomllib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from turnout.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Row = TypeVar("Row", bound=msgspec.Struct)
Table = dict[str, dict[str, Any]]


@cache
def shipped(file: str) -> dict[str, Any]:
    """One of the TOML files beside this module. Callers must not change what they get."""
    return tomllib.loads(resources.files(__package__).joinpath(file).read_text(encoding="utf-8"))


def overlay(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, table: str, file: str) -> Table:
    """The user's rows over the shipped ones: a known row is changed field by field, a new one is added."""
    merged: Table = {name: dict(row) for name, row in ours.items()}
    for name, row in theirs.items():
        if not isinstance(row, dict):
            raise ConfigError(
                f"{file}: [{table}.{name}] must be a table, not {type(row).__name__}",
                hint=f'write [{table}.{name}] on a line of its own and its fields below, such as: field = "value"',
            )
        merged[name] = merged.get(name, {}) | row
    return merged


def check(row: Mapping[str, Any], kind: type[Row], *, where: str) -> Row:
    """One row as its type. Raises `ConfigError` that names the row and, for a misspelt field, the right one."""
    if not isinstance(row, dict):
        raise ConfigError(
            f"{where} must be a table, not {type(row).__name__}", hint="write fields below its name"
        )
    known = kind.__struct_encode_fields__
    for field in row:
        if field not in known:
            raise ConfigError(f"{where}: unknown field {field!r}", hint=did_you_mean(field, known))
    try:
        return msgspec.convert(row, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{where}: {error}", hint="correct that field; `turnout models --json` shows rows that work"
        ) from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint: the nearest known word, else all of them."""
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(words)}"
