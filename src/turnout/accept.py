"""What a caller gave, checked: nothing of it is sent before it could be understood."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import msgspec

from turnout.errors import InvalidRequest
from turnout.registry.reading import did_you_mean
from turnout.types import Operation, Options, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

DEEPEST = 64
"""Levels of lists and dicts in a message."""
SCOPE = ("user_id", "session_id", "parent", "tags", "operation")
"""Keywords that say who pays and where it is counted."""

Messages = list[dict[str, Any]]


class _Turn(msgspec.Struct):
    """What every message must look like; its other fields are the provider's business."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


def scope(agent: Any, model: Any, keywords: dict[str, Any], *, default: str) -> Scope:
    """Who asks; takes its fields out of the keywords. Raises `InvalidRequest` that names the field."""
    if not all(isinstance(name, str | None) for name in (agent, model)):
        raise InvalidRequest(
            "agent and model are names, so text", hint='such as "debugger" or "deepseek-chat"'
        )
    given = {name: keywords.pop(name, None) for name in SCOPE}
    for name in ("user_id", "session_id", "parent"):
        if not isinstance(given[name], str | None):
            raise InvalidRequest(
                f"{name} must be text, not {type(given[name]).__name__}", hint="such as 'alice'"
            )
    tags, operation = given["tags"] or {}, given["operation"] or "agent_execution"
    if not isinstance(tags, dict) or not all(isinstance(word, str) for pair in tags.items() for word in pair):
        raise InvalidRequest("tags must be a dict of texts", hint='such as {"team": "search"}')
    if operation not in get_args(Operation):
        known = ", ".join(get_args(Operation))
        raise InvalidRequest(f"operation must be one of {known}, not {operation!r}", hint="or leave it away")
    return Scope(
        agent=agent or default,
        user=given["user_id"],
        session=given["session_id"],
        parent=given["parent"],
        tags=tags,
        operation=cast("Operation", operation),
    )


def options(options: Options | None, keywords: dict[str, Any]) -> Options:
    """The options with the keywords laid over them. Raises `InvalidRequest` that names the field."""
    known = Options.__struct_fields__
    for name in keywords:
        if name not in known:
            raise InvalidRequest(
                f"there is no option {name!r}",
                hint=did_you_mean(name, [*known, *SCOPE])
                + "; what the provider alone knows goes in extra={...}",
            )
    if options is not None and not isinstance(options, Options):
        raise InvalidRequest(
            f"options must be turnout.Options, not {type(options).__name__}", hint="Options(temperature=0)"
        )
    try:
        chosen = (
            msgspec.structs.replace(options or Options(), **keywords) if keywords else options or Options()
        )
    except (ValueError, TypeError) as error:
        raise InvalidRequest(str(error), hint="see turnout.Options for what each option takes") from None
    for name in ("tools", "tool_choice", "response_format", "extra"):
        if value := getattr(chosen, name):
            _refuse_nan(value, name)
    return chosen


def messages(messages: Messages) -> tuple[bytes, bool]:
    """Encoded, and whether there are images among them. Raises `InvalidRequest`."""
    if not isinstance(messages, list):
        raise InvalidRequest(
            f"messages must be a list, not {type(messages).__name__}",
            hint='pass [{"role": "user", "content": "..."}]',
        )
    if not messages:
        raise InvalidRequest("messages is empty", hint="there must be at least one message")
    try:
        encoded = msgspec.json.encode(messages)
    except RecursionError:
        _refuse_nan(messages, "messages")
        raise
    except (TypeError, ValueError) as error:
        raise _unfit(error) from None
    # NaN is encoded as null, and what is nested deep has many brackets: only then is it worth a look.
    if b"null" in encoded or encoded.count(b"[") + encoded.count(b"{") > DEEPEST:
        _refuse_nan(messages, "messages")
    try:
        turns = msgspec.convert(messages, list[_Turn])
        encoded.decode()
    except (msgspec.ValidationError, ValueError) as error:
        raise _unfit(error) from None
    images = any(
        part.get("type") in {"image_url", "input_image", "image"}
        for turn in turns
        if isinstance(turn.content, list)
        for part in turn.content
    )
    return encoded, images


def _unfit(error: Exception) -> InvalidRequest:
    return InvalidRequest(f"messages: {error}", hint="messages are dicts with `role` and `content`")


def _refuse_nan(value: Any, where: str, depth: int = 0) -> None:
    """NaN and infinity are no JSON; an encoder would send null in their place."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(
            f"{where} holds {value}, which JSON cannot say", hint="send a finite number or text"
        )
    if depth > DEEPEST:
        raise InvalidRequest(f"{where} is nested more than {DEEPEST} deep", hint="send it as text")
    items: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    for name, item in items:
        if not isinstance(item, str):
            _refuse_nan(item, f"{where}[{name!r}]", depth + 1)
