"""Anthropic's Messages API (platform.claude.com/docs/en/api/messages, read 2026-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from turnout import errors
from turnout.providers import anthropic_answer
from turnout.providers.anthropic_answer import FINISH, Block, in_band, read_usage, refusal
from turnout.providers.anthropic_history import Conversation
from turnout.providers.anthropic_request import fields
from turnout.providers.anthropic_stream import AnthropicDecoder
from turnout.providers.json_body import read
from turnout.types import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.errors import ProviderError
    from turnout.types import Call, Model


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

    def encode(self, call: Call, model: Model, *, stream: bool = False) -> tuple[bytes, tuple[str, ...]]:
        """The request body, and what of the call this wire or this model does not take."""
        history = Conversation(call.messages)
        rest, dropped = fields(call, model, lacks_thinking=history.lacks_thinking)
        body: dict[str, Any] = {"model": model.upstream, "messages": history.turns}
        if history.system:
            body["system"] = history.system
        if stream:
            body["stream"] = True
        return msgspec.json.encode(body | rest), tuple(dict.fromkeys(dropped + history.lost))

    def decode(self, body: bytes, model: Model) -> Answer:
        """A 200's body as an answer."""
        message = read(body, _message)
        if message.error:
            raise in_band(message.error, body.strip(), model)
        if message.content is None:
            raise errors.MalformedReply("it has no content", provider=model.provider)
        if message.stop_reason is None:
            raise errors.MalformedReply("it has no stop_reason", provider=model.provider)
        blocks = message.content
        content = "".join(block.text for block in blocks if block.type == "text")
        tool_calls = tuple(_tool_call(block) for block in blocks if block.type == "tool_use")
        finish = FINISH.get(message.stop_reason, message.stop_reason)
        if finish == "stop" and not content.strip() and not tool_calls:
            raise errors.BlankReply("there is no text in it", provider=model.provider)
        return Answer(
            content=content or refusal(message.stop_reason, message.stop_details),
            finish_reason=finish,
            upstream_model=message.model,
            usage=read_usage(message.usage or {}),
            tool_calls=tool_calls,
            reasoning="".join(block.thinking for block in blocks if block.type == "thinking") or None,
            thinking_blocks=tuple(sealed for block in blocks if (sealed := block.sealed)),
        )

    def decoder(self, model: Model) -> AnthropicDecoder:
        """What reads one streamed answer."""
        return AnthropicDecoder(model)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, model: Model) -> ProviderError:
        """What any other status means."""
        return anthropic_answer.failure(status, headers, body, model)


def _tool_call(block: Block) -> dict[str, Any]:
    return {
        "id": block.id,
        "type": "function",
        "function": {"name": block.name, "arguments": block.arguments},
    }
