"""Anthropic's answers, in one piece or streamed (platform.claude.com/docs/en/api/messages, read 2026-10)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from turnout import errors
from turnout.providers import failures
from turnout.providers.openai import count
from turnout.types import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.errors import ProviderError
    from turnout.types import Model

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Their `stop_reason` to our `finish_reason`; one that is not here keeps its name."""

_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_UNPAID = re.compile(r"credit balance is too low|API usage limits", re.IGNORECASE)


class Block(msgspec.Struct):
    """One piece of an answer; whatever else it holds is not for us."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str | None = None
    data: str | None = None
    id: str = ""
    name: str = ""
    input: Any = None

    @property
    def sealed(self) -> dict[str, Any] | None:
        """The block as its history takes it back; `None` for what is no thinking, or bears no seal."""
        if self.type == "redacted_thinking" and self.data:
            return {"type": self.type, "data": self.data}
        if self.type == "thinking" and self.signature:
            return {"type": self.type, "thinking": self.thinking, "signature": self.signature}
        return None

    @property
    def arguments(self) -> str:
        """A tool call's input as JSON text."""
        return msgspec.json.encode({} if self.input is None else self.input).decode()


def read_usage(report: Mapping[str, Any]) -> Usage:
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


def refusal(stop_reason: str | None, details: Mapping[str, Any] | None) -> str:
    """Why it refused; it gives no text, only this."""
    return str((details or {}).get("explanation") or "") if stop_reason == "refusal" else ""


def failure(status: int, headers: Mapping[str, str], body: bytes, model: Model) -> ProviderError:
    """What a status that is not 200 means."""
    error = failures.classify(status, headers, body, model)
    if isinstance(error, errors.RequestRejected):
        error = _precisely(error, model)
    error.request_id = error.request_id or headers.get("request-id")
    return error


def in_band(error: Any, body: bytes, model: Model) -> ProviderError:
    """What an `error` under a 200 means: the same as under a status of its own."""
    kind = error.get("type") if isinstance(error, dict) else None
    return failure(_STATUS.get(str(kind), 500), {}, body, model)


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
