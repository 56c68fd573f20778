"""OpenAI's chat wire, which every compatible vendor speaks; a vendor's file holds only its differences."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from turnout.errors import BlankReply, MalformedReply, ServerFault
from turnout.providers import failures
from turnout.providers.json_body import read
from turnout.providers.openai_stream import OpenAIDecoder
from turnout.types import NANO_PER_DOLLAR, Answer, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.errors import ProviderError
    from turnout.types import Call, Model

MOST_TOKENS = 10**9
"""A count above this is a fault of the provider's, not a bill."""
MOST_DOLLARS = 10**5
"""An amount above this is none either."""


class Message(msgspec.Struct):
    """An answer's message; whatever else it holds is not for us."""

    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """vLLM's newer name for reasoning_content, OpenRouter's too."""


class Choice(msgspec.Struct):
    """One choice; we ask for one."""

    message: Message
    finish_reason: str | None = None


class Completion(msgspec.Struct):
    """A chat completion."""

    choices: list[Choice] = []
    model: str = ""
    usage: dict[str, Any] | None = None
    error: Any = None


_completion = msgspec.json.Decoder(Completion)
_SEALS = {"thinking_blocks": b'"thinking_blocks"'}
_REASONING = {"reasoning_content": b'"reasoning_content"', **_SEALS}
_OPTIONS = ("temperature", "max_tokens", "tools", "tool_choice", "response_format", "stop", "seed")


class OpenAICodec:
    """Chat Completions, as api.openai.com speaks them (API reference, 2026-10)."""

    path = "/chat/completions"

    def encode(self, call: Call, model: Model, *, stream: bool = False) -> tuple[bytes, tuple[str, ...]]:
        """The request body, and the options this model does not take."""
        fields, dropped = self.fields(call, model)
        messages = self.messages(call, model)
        body = {"model": model.upstream, "messages": msgspec.Raw(messages), **fields}
        if stream:
            body["stream"] = True
            body["stream_options"] = {**body.get("stream_options", {}), "include_usage": True}
        return msgspec.json.encode(body), dropped

    def decoder(self, model: Model) -> OpenAIDecoder:
        """What reads one streamed answer."""
        return OpenAIDecoder(model, lambda report: self.reported(report, model))

    def fields(self, call: Call, model: Model) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Everything of the body but model and messages: the row's fields, then the caller's."""
        fields, dropped = dict(model.params), []
        options = call.options
        thinking = options.thinking
        if thinking is not None:
            word = (
                {True: "on", False: "off"}.get(thinking, thinking) if isinstance(thinking, bool) else thinking
            )
            if word in model.thinking:
                fields |= model.thinking[word]
            elif word != "off":
                dropped.append("thinking")
        for name in _OPTIONS:
            if (value := getattr(options, name)) is None:
                continue
            if name in model.drops:
                dropped.append(name)
            else:
                fields[model.renames.get(name, name)] = value
        return fields | options.extra, tuple(dropped)

    def messages(self, call: Call, model: Model) -> bytes:
        """The caller's bytes, unless they hold reasoning this model does not want back (OpenAI answers 400)."""
        foreign = _SEALS if model.replays_reasoning else _REASONING
        if not call.has_reasoning or not any(quoted in call.messages for quoted in foreign.values()):
            return call.messages
        history = msgspec.json.decode(call.messages)
        return msgspec.json.encode([{k: v for k, v in turn.items() if k not in foreign} for turn in history])

    def decode(self, body: bytes, model: Model) -> Answer:
        """A 200's body as an answer."""
        completion = read(body, _completion)
        if completion.error:
            raise failures.in_band(completion.error, model)
        if not completion.choices:
            raise MalformedReply("it has no choices", provider=model.provider)
        choice = completion.choices[0]
        if choice.finish_reason is None:
            raise MalformedReply("it has no finish_reason", provider=model.provider)
        if choice.finish_reason == "insufficient_system_resource":
            raise ServerFault("it gave up half-way: insufficient_system_resource", provider=model.provider)
        message = choice.message
        content = message.content or message.refusal or ""
        if choice.finish_reason == "stop" and not content.strip() and not message.tool_calls:
            # DeepSeek replaces JSON-mode output that is not JSON by spaces (guides/json_mode, 2026-10).
            raise BlankReply("there is no text in it", provider=model.provider)
        return Answer(
            content=content,
            finish_reason=finish(choice.finish_reason, bool(message.tool_calls)),
            upstream_model=completion.model,
            usage=self.reported(completion.usage, model),
            tool_calls=tuple(message.tool_calls or ()),
            reasoning=message.reasoning_content or message.reasoning,
        )

    def usage(self, report: Mapping[str, Any] | None) -> Usage:
        """The tokens as reported; a count that cannot be one is `None`, which is not 0."""
        report = report or {}
        prompt = _details(report.get("prompt_tokens_details"))
        output = _details(report.get("completion_tokens_details"))
        return Usage(
            input_tokens=count(report.get("prompt_tokens")),
            cached_input_tokens=count(prompt.get("cached_tokens")),
            cache_write_tokens=count(prompt.get("cache_write_tokens")),
            output_tokens=count(report.get("completion_tokens")),
            reasoning_tokens=count(output.get("reasoning_tokens")),
        )

    def reported(self, report: Mapping[str, Any] | None, model: Model) -> Usage:
        """The tokens, and the money where the model's row says that it is told."""
        usage = self.usage(report)
        return (
            msgspec.structs.replace(usage, cost_nano=charged(report or {})) if model.reports_cost else usage
        )

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, model: Model) -> ProviderError:
        """What any other status means."""
        return failures.classify(status, headers, body, model)


def finish(reason: str, calls: bool) -> str:  # noqa: FBT001
    """The finish reason; Gemini's compatible endpoint says stop beside tool calls (2026-10)."""
    return "tool_calls" if calls and reason == "stop" else reason


def charged(report: Mapping[str, Any]) -> int | None:
    """`usage.cost` in nano-dollars (OpenRouter, docs/use-cases/usage-accounting, 2026-11); `None` for no amount.

    With a key of one's own at the host (`is_byok`) that is OpenRouter's fee alone, and the host's bill comes on top.
    """
    parts = [report.get("cost")]
    if report.get("is_byok") is True:
        parts.append(_details(report.get("cost_details")).get("upstream_inference_cost"))
    total = Decimal(0)
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, int | float) or not 0 <= part <= MOST_DOLLARS:
            return None
        total += Decimal(str(part))
    return int((total * NANO_PER_DOLLAR).to_integral_value(ROUND_HALF_EVEN))


def _details(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def count(value: Any) -> int | None:
    """A token count, or `None` for what cannot be one."""
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None
