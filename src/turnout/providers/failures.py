"""What a status that is not 200 means, for every vendor whose errors look like OpenAI's."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import TYPE_CHECKING, Any

import msgspec

from turnout.errors import (
    AuthError,
    ContextOverflow,
    EndpointMisconfigured,
    HtmlReply,
    ModelRetired,
    PaymentRequired,
    ProviderError,
    ProviderTimeout,
    RateLimited,
    RequestRejected,
    ServerFault,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.types import Model

_LONGEST = 300
_OVERFLOW = re.compile(
    r"context.?(length|size|window)|maximum context|too many tokens|prompt is too long", re.IGNORECASE
)
_GONE = re.compile(
    r"model.{0,80}(not.?found|does not exist|not.?exist|not supported|unknown|unavailable|retired|deprecated)"
    r"|(unknown|unsupported|invalid|no such) model|supported (api )?models? (name|are|is)",
    re.IGNORECASE | re.DOTALL,
)
_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthError,
    402: PaymentRequired,
    403: AuthError,
    407: EndpointMisconfigured,
    408: ProviderTimeout,
    409: ServerFault,
    429: RateLimited,
    451: AuthError,
}


def classify(status: int, headers: Mapping[str, str], body: bytes, model: Model) -> ProviderError:
    """The error for a reply that is not a 200.

    A refusal of the key says nothing of what the provider wrote: OpenAI quotes part of the key there.
    """
    error, text = _read(body)
    kind = _kind(status, error, text, body, model)
    name = responses.get(status, "")
    detail = f"HTTP {status} {name}".rstrip()
    if not issubclass(kind, AuthError) and text:
        detail += f": {text}"
    return kind(
        detail,
        status=status,
        provider=model.provider,
        retry_after=retry_after(headers),
        request_id=headers.get("x-request-id"),
        hint=_HINTS.get(kind, ""),
    )


_HINTS: dict[type[ProviderError], str] = {
    AuthError: "check the key and what it may do",
    PaymentRequired: "top up the account",
    EndpointMisconfigured: "check the endpoint's base URL",
}


def in_band(error: Any, model: Model) -> ProviderError:
    """An `error` object that came under a 200 (OpenRouter does this after the first token, 2026-10)."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return classify(status, {}, msgspec.json.encode({"error": error}), model)


def _kind(status: int, error: Mapping[str, Any], text: str, body: bytes, model: Model) -> type[ProviderError]:
    code = str(error.get("code") or error.get("type") or "")
    page = is_page(body)
    if status == 429 and "quota" in f"{code} {error.get('type')}":
        return PaymentRequired
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return ServerFault
    if status < 400:
        return EndpointMisconfigured
    if page:
        return EndpointMisconfigured if status == 404 else HtmlReply
    if status in {400, 404}:
        if _names_model(code, text, model):
            return ModelRetired
        if status == 404 and not error:
            return EndpointMisconfigured
    if status in {400, 413, 422} and (
        "context_length" in code or "context_size" in code or _OVERFLOW.search(text)
    ):
        return ContextOverflow
    return RequestRejected


def _names_model(code: str, text: str, model: Model) -> bool:
    if code in {"model_not_found", "model_not_supported"}:
        return True
    # DeepSeek answers an unknown name with 400 and the list of those it serves, not with 404 (2026-09-10).
    return bool(_GONE.search(text)) and (model.upstream in text or "supported" in text)


def _read(body: bytes) -> tuple[Mapping[str, Any], str]:
    """The error object and its text, from whichever of the common shapes this is."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}, "" if is_page(body) else _excerpt(body.decode("utf-8", "replace"))
    error = document.get("error", document) if isinstance(document, dict) else document
    if isinstance(error, dict):
        return error, _excerpt(str(error.get("message") or error.get("detail") or ""))
    return ({"message": error} if error else {}), _excerpt(str(error or ""))


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


def is_page(body: bytes) -> bool:
    """Somebody's web page, where JSON is due."""
    return body[:64].lstrip().startswith(b"<")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms`, or `Retry-After` as seconds or date; `None` for anything else.

    Never negative. A date is read against the reply's own `Date`, so that clocks need not agree.
    """
    milliseconds = _count(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1_000
    text = headers.get("retry-after")
    seconds = _count(text)
    if seconds is not None or not text:
        return seconds
    try:
        until = parsedate_to_datetime(text)
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _count(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
