"""Answers as values: a schema in the request, the reply read into it, one repair, then the next model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from turnout.errors import ConfigError, InvalidRequest, MalformedReply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turnout.grant import Grant, Outcome
    from turnout.types import Answer, Call, Model

    Read = Callable[[Answer], None]
    Attempt = Callable[[Call, Model, Grant, Read], Awaitable[Outcome[Answer]]]

Value = TypeVar("Value")
_FENCED = re.compile(r"\s*```\w*\s*(.*?)\s*```\s*", re.DOTALL)


class Schema(Generic[Value]):
    """What an answer must be: a msgspec Struct, dataclass, TypedDict or other type, or a JSON Schema as a dict.

    Raises `InvalidRequest` for what is neither, and `ConfigError` when a JSON Schema is given and the package
    `jsonschema` is not installed.
    """

    def __init__(self, schema: type[Value] | dict[str, Any]) -> None:
        self._type: Any = Any
        self._validator: Any = None
        if isinstance(schema, dict):
            self._json = schema
            self._validator = _validator(schema)
        else:
            self._type = schema
            try:
                self._json = msgspec.json.schema(schema)
            except (TypeError, NameError) as error:
                raise InvalidRequest(
                    f"schema cannot be used: {error}",
                    hint="pass a msgspec Struct, a dataclass or a JSON Schema",
                ) from None

    @property
    def brief(self) -> str:
        """What the model is told. DeepSeek's JSON mode wants the word json in the prompt (2026-10)."""
        return (
            "Answer with one JSON value and nothing else. It must be valid against this JSON schema:\n"
            + msgspec.json.encode(self._json).decode()
        )

    def read(self, text: str) -> Value:
        """The value in a model's text, fences stripped. Raises `MalformedReply` that says where it is wrong."""
        match = _FENCED.fullmatch(text)
        try:
            value: Value = msgspec.json.decode(match[1] if match else text, type=self._type)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise MalformedReply(f"not the JSON asked for: {error}") from None
        if self._validator is not None:
            wrong = next(iter(self._validator.iter_errors(value)), None)
            if wrong is not None:
                raise MalformedReply(f"not the JSON asked for: {wrong.message} - at `{wrong.json_path}`")
        return value


def _validator(schema: dict[str, Any]) -> Any:
    try:
        import jsonschema  # noqa: PLC0415 - an extra, and only for schemas given as dicts
    except ImportError:
        raise ConfigError(
            "a JSON Schema needs the package jsonschema",
            hint='pip install "turnout[schema]", or pass a msgspec Struct',
        ) from None
    kind = jsonschema.validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidRequest(f"schema is no JSON Schema: {error.message}", hint="correct it") from None
    return kind(schema)


class Reading(Generic[Value]):
    """Wraps `Attempts.make` for one call: an answer that does not fit counts as a failed attempt.

    Each model is shown its mistake once and may correct it; `value` is what was read in the end.
    """

    def __init__(self, attempt: Attempt, schema: Schema[Value]) -> None:
        self._attempt = attempt
        self._schema = schema
        self._repairs: dict[str, Call] = {}
        self.value: Value | None = None

    async def make(self, call: Call, model: Model, grant: Grant) -> Outcome[Answer]:
        """One attempt, read."""
        said = None

        def read(answer: Answer) -> None:
            nonlocal said
            said = answer.content
            self.value = self._schema.read(said)

        outcome = await self._attempt(self._repairs.get(model.name, call), model, grant, read)
        if said is None or outcome.error is None or model.name in self._repairs:
            return outcome
        self._repairs[model.name] = _shown(call, said, outcome.error.detail)
        return msgspec.structs.replace(outcome, again=True)


def _shown(call: Call, text: str, wrong: str) -> Call:
    """The call with the wrong answer and what is wrong with it appended: the prefix stays byte for byte."""
    turns = [
        {"role": "assistant", "content": text},
        {"role": "user", "content": f"That was {wrong}. Answer again with the corrected JSON alone."},
    ]
    tail = msgspec.json.encode(turns)
    return msgspec.structs.replace(call, messages=call.messages.rstrip()[:-1] + b"," + tail[1:])
