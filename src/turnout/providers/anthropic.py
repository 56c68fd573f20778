"""Anthropic's Messages API (platform.claude.com/docs/en/api/messages, read 2026-10)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from turnout import errors
from turnout.providers import failures
from turnout.providers.anthropic_request import Conversation, fields
from turnout.providers.json_body import read
from turnout.providers.openai import count
from turnout.types import Answer, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.errors import ProviderError
    from turnout.types import Call, Model

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 529,
}
_UNPAID = re.compile(r"credit balance is too low|API usage limits", re.IGNORECASE)


class Block(msgspec.Struct):
    """One piece of an answer; whatever else it holds is not for us."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str | None = None
    id: str = ""
    name: str = ""
    input: Any = None


class Message(msgspec.Struct):
    """An answer."""

    content: list[Block] | None = None
    model: str = ""
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_message = msgspec.json.Decoder(Message)


class AnthropicCodec:
    """Messages, as api.anthropic.com speaks them under `anthropic-version: 2023-06-01`."""

    path = "/v1/messages"

    def encode(self, call: Call, model: Model) -> tuple[bytes, tuple[str, ...]]:
        """The request body, and what of the call this wire or this model does not take."""
        history = Conversation(call.messages)
        rest, dropped = fields(call, model, lacks_thinking=history.lacks_thinking)
        body: dict[str, Any] = {"model": model.upstream, "messages": history.turns}
        if history.system:
            body["system"] = history.system
        return msgspec.json.encode(body | rest), tuple(dict.fromkeys(dropped + history.lost))

    def decode(self, body: bytes, model: Model) -> Answer:
        """A 200's body as an answer."""
        message = read(body, _message)
        if message.error:
            kind = message.error.get("type") if isinstance(message.error, dict) else None
            raise self.failure(_STATUS.get(str(kind), 500), {}, body.strip(), model)
        if message.content is None:
            raise errors.MalformedReply("it has no content", provider=model.provider)
        if message.stop_reason is None:
            raise errors.MalformedReply("it has no stop_reason", provider=model.provider)
        content = "".join(block.text for block in message.content if block.type == "text")
        tool_calls = tuple(_tool_call(block) for block in message.content if block.type == "tool_use")
        thoughts = [block for block in message.content if block.type == "thinking"]
        finish = _FINISH.get(message.stop_reason, message.stop_reason)
        if finish == "stop" and not content.strip() and not tool_calls:
            raise errors.BlankReply("there is no text in it", provider=model.provider)
        why = (message.stop_details or {}).get("explanation") if finish == "content_filter" else None
        return Answer(
            content=content or str(why or ""),
            finish_reason=finish,
            upstream_model=message.model,
            usage=_usage(message.usage or {}),
            tool_calls=tool_calls,
            reasoning="".join(block.thinking for block in thoughts) or None,
            reasoning_signature=thoughts[0].signature if len(thoughts) == 1 else None,
        )

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, model: Model) -> ProviderError:
        """What any other status means."""
        error = failures.classify(status, headers, body, model)
        if isinstance(error, errors.RequestRejected):
            error = _precisely(error, model)
        error.request_id = error.request_id or headers.get("request-id")
        return error


def _precisely(error: ProviderError, model: Model) -> ProviderError:
    """Three things that Anthropic says in words only, and that are no fault of the caller's."""
    facts: dict[str, Any] = {
        "status": error.status,
        "provider": error.provider,
        "retry_after": error.retry_after,
    }
    if error.status == 404 and model.upstream in error.detail:
        return errors.ModelRetired(error.detail, **facts)
    if "exceed context limit" in error.detail:
        return errors.ContextOverflow(error.detail, **facts)
    if _UNPAID.search(error.detail):
        return errors.PaymentRequired(error.detail, hint="top up the account or raise its limit", **facts)
    return error


def _tool_call(block: Block) -> dict[str, Any]:
    arguments = msgspec.json.encode({} if block.input is None else block.input).decode()
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _usage(report: Mapping[str, Any]) -> Usage:
    """The tokens; `input_tokens` there are only those that the cache neither gave nor took."""
    read, written = report.get("cache_read_input_tokens"), report.get("cache_creation_input_tokens")
    parts = [count(report.get("input_tokens")), count(read or 0), count(written or 0)]
    known = [part for part in parts if part is not None]
    details = report.get("output_tokens_details")
    return Usage(
        input_tokens=sum(known) if len(known) == len(parts) else None,
        cached_input_tokens=count(read),
        cache_write_tokens=count(written),
        output_tokens=count(report.get("output_tokens")),
        reasoning_tokens=count(details.get("thinking_tokens")) if isinstance(details, dict) else None,
    )
