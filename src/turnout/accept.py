"""What a caller gave, checked: nothing of it is sent before it could be understood."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

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

IMAGES = frozenset({"image_url", "input_image", "image"})
"""Types of a message's parts."""

Messages = list[dict[str, Any]]


_Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
_ROLES = get_args(_Role)


class _Turn(msgspec.Struct):
    """What every message must look like; its other fields are the provider's business."""

    role: _Role
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Conversation(NamedTuple):
    """Messages, and what must be known of them without reading them again."""

    encoded: bytes
    has_images: bool
    has_reasoning: bool


_OPERATIONS = get_args(Operation)
_UNTUNED = Options()


def scope(agent: Any, model: Any, keywords: dict[str, Any], *, default: str) -> Scope:
    """Who asks; takes its fields out of the keywords. Raises `InvalidRequest` that names the field."""
    for name in (agent, model):
        if name is not None and not isinstance(name, str):
            raise InvalidRequest(
                "agent and model are names, so text", hint='such as "debugger" or "deepseek-chat"'
            )
    if not keywords:
        return Scope(agent=agent or default)
    take = keywords.pop
    return Scope(
        agent=agent or default,
        user=_text("user_id", take("user_id", None)),
        session=_text("session_id", take("session_id", None)),
        parent=_text("parent", take("parent", None)),
        tags=_tags(tags) if (tags := take("tags", None)) else {},
        operation=_operation(named) if (named := take("operation", None)) else "agent_execution",
    )


def _text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InvalidRequest(f"{name} must be text, not {type(value).__name__}", hint="such as 'alice'")


def _tags(tags: Any) -> dict[str, str]:
    if isinstance(tags, dict) and all(isinstance(word, str) for pair in tags.items() for word in pair):
        return tags
    raise InvalidRequest("tags must be a dict of texts", hint='such as {"team": "search"}')


def _operation(operation: Any) -> Operation:
    if operation in _OPERATIONS:
        return operation  # type: ignore[no-any-return]  # one of them
    known = ", ".join(_OPERATIONS)
    raise InvalidRequest(f"operation must be one of {known}, not {operation!r}", hint="or leave it away")


def options(options: Options | None, keywords: dict[str, Any]) -> Options:
    """The options with the keywords laid over them. Raises `InvalidRequest` that names the field."""
    if options is None and not keywords:
        return _UNTUNED
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
        chosen = msgspec.structs.replace(options or _UNTUNED, **keywords) if keywords else options or _UNTUNED
    except (ValueError, TypeError) as error:
        raise InvalidRequest(str(error), hint="see turnout.Options for what each option takes") from None
    for name in ("tools", "tool_choice", "response_format", "extra"):
        if value := getattr(chosen, name):
            _refuse_nan(value, name)
    return chosen


def messages(messages: Messages) -> Conversation:
    """Encoded, and what is among them. Raises `InvalidRequest`."""
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
    try:
        if not encoded.isascii():
            encoded.decode()
        if all(map(_is_plain, messages)):
            return Conversation(encoded, has_images=False, has_reasoning=False)
        turns = msgspec.convert(messages, list[_Turn])
    except (msgspec.ValidationError, ValueError) as error:
        raise _unfit(error) from None
    return _looked_at(encoded, messages, turns)


def _is_plain(message: Any) -> bool:
    """A role and a text and nothing else, as most are: there is nothing to look for in it."""
    return (
        type(message) is dict
        and len(message) == 2
        and type(message.get("content")) is str
        and message.get("role") in _ROLES
    )


def _looked_at(encoded: bytes, messages: Messages, turns: list[_Turn]) -> Conversation:
    images = reasoning = False
    for at, (message, turn) in enumerate(zip(messages, turns, strict=True)):
        for name, value in message.items():
            if not isinstance(value, str):
                _refuse_nan(value, f"messages[{at}][{name!r}]", 2)
        if isinstance(turn.content, list):
            images = images or any(part.get("type") in IMAGES for part in turn.content)
        reasoning = reasoning or "reasoning_content" in message or "thinking_blocks" in message
    return Conversation(encoded, images, reasoning)


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
