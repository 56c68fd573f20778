"""Faults that are a status: errors in the providers' shapes, redirects, informational replies."""

import time
from email.utils import formatdate
from typing import Any

from tests.toxic.exchange import Exchange, Fault, Run
from tests.toxic.wire import HTML, JSON, PAGE, Headers, dumps, error, head


def status(code: int, body: Any, headers: Headers = (), kind: str = JSON) -> Run:
    """Answer with a status and a body, JSON unless it is bytes."""

    async def run(talk: Exchange) -> None:
        await talk.plain(code, body if isinstance(body, bytes) else dumps(body), kind, headers)

    return run


BUSY = error("Rate limit reached for requests", "requests", "rate_limit_exceeded")
DOWN = error("The server is overloaded, try again later", "server_error")
BROKEN = error("The server had an error while processing your request", "server_error")
QUOTA = error("You exceeded your current quota, check your plan", "insufficient_quota", "insufficient_quota")
OVERFLOW = error(
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    code="context_length_exceeded",
)
# llama.cpp's server puts the counts beside the message (as its clients quote it, 2026-11).
OVERFLOW_LLAMA = {
    "error": {
        "code": 400,
        "message": "request (9000 tokens) exceeds the available context size (8192 tokens)",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 9000,
        "n_ctx": 8192,
    }
}
REASONING = error("The `reasoning_content` in the thinking mode must be passed back to the API.")
GONE_MODEL = error("The model does not exist or you do not have access to it.", code="model_not_found")


async def unknown_model(talk: Exchange) -> None:
    """Refuse a model as DeepSeek does: a 400, not a 404, that names the models served."""
    served = "The supported API model names are deepseek-flash or deepseek-v4-pro"
    await talk.plain(400, dumps(error(f"{served}, but you passed {talk.asked.get('model')}.")))


async def echo_key(talk: Exchange) -> None:
    """Refuse a key and print it, as some proxies do."""
    key = talk.seen.headers.get("authorization", "")
    await talk.plain(401, dumps(error(f"Incorrect API key provided: {key}", code="invalid_api_key")))


async def echo_key_in_fault(talk: Exchange) -> None:
    """Fail and print the request's key, as careless servers dump what they were sent."""
    key = talk.seen.headers.get("authorization", "")
    await talk.plain(500, dumps(error(f"Unhandled exception in request with {key}", "server_error")))


async def echo_prompt(talk: Exchange) -> None:
    """Refuse a request and quote it, as content filters do."""
    said = (talk.asked.get("messages") or [{}])[-1].get("content")
    await talk.plain(400, dumps(error(f"Invalid prompt: {said}")))


async def retry_later(talk: Exchange) -> None:
    """Name the pause in seconds."""
    await talk.plain(429, dumps(BUSY), headers=[("Retry-After", str(talk.count))])


async def retry_date(talk: Exchange) -> None:
    """Name the end of the pause as an HTTP date."""
    date = formatdate(time.time() + talk.count, usegmt=True)
    await talk.plain(429, dumps(BUSY), headers=[("Retry-After", date)])


async def no_content(talk: Exchange) -> None:
    """Answer 204, which has no body and no length."""
    await talk.peer.send(head(204, []))


def informed(code: int, headers: Headers = ()) -> Run:
    """Send an informational reply, then answer."""

    async def run(talk: Exchange) -> None:
        await talk.peer.send(head(code, headers))
        await talk.deliver(talk.pieces())

    return run


def waiting(value: str, name: str = "Retry-After") -> Run:
    """Answer 429 with a header that may be nonsense."""
    return status(429, BUSY, [(name, value)])


def _simple(code: int, about: str, body: Any) -> Fault:
    return Fault(str(code), about, status(code, body))


def _redirect(code: int) -> Fault:
    about = "redirects to /redirected, which answers anybody with 200"
    location = [("Location", "/redirected/v1/chat/completions")]
    return Fault(str(code), about, status(code, error("moved", "redirect"), location))


# 401, 402 and 422 mean what DeepSeek's table says (quick_start/error_codes, 2026-10); the words are ours.
STATUSES = [
    _simple(400, "a bad request", error("Invalid value for 'messages'")),
    Fault("400-echo", "a bad request, quoted in the message", echo_prompt),
    Fault("400-unknown-model", "DeepSeek's 400 that names the supported models", unknown_model),
    Fault("400-overflow", "the context window is exceeded, OpenAI's words", status(400, OVERFLOW)),
    Fault("400-overflow-llama", "the same in llama.cpp's words", status(400, OVERFLOW_LLAMA)),
    Fault("400-reasoning", "reasoning_content must be passed back", status(400, REASONING)),
    _simple(
        401, "a wrong key", error("Authentication Fails, the api key is invalid", "authentication_error")
    ),
    Fault("401-echo", "a wrong key, printed in the message", echo_key),
    _simple(402, "no money left", error("Insufficient Balance", "unknown_error")),
    _simple(403, "not allowed", error("Your region is not supported", "permission_error")),
    _simple(404, "not found", error("Not found")),
    Fault("404-model", "code model_not_found", status(404, GONE_MODEL)),
    Fault("404-html", "a web server's page", status(404, PAGE, kind=HTML)),
    _simple(408, "request timeout", error("Request timed out", "timeout")),
    _simple(409, "conflict", error("The resource is locked", "conflict_error")),
    _simple(413, "body too large", error("Request too large", "request_too_large")),
    _simple(422, "invalid parameter", error("Invalid parameter: temperature")),
    _simple(429, "too many requests, no hint", BUSY),
    Fault("429-retry-after", "Retry-After in seconds", retry_later, count=1),
    Fault("429-retry-after-date", "Retry-After as an HTTP date", retry_date, count=2),
    Fault("429-retry-after-past", "an HTTP date long gone", waiting("Mon, 06 Jan 2020 10:00:00 GMT")),
    Fault("429-retry-after-zero", "Retry-After: 0", waiting("0")),
    Fault("429-retry-after-float", "Retry-After: 0.5", waiting("0.5")),
    Fault("429-retry-after-negative", "Retry-After: -5", waiting("-5")),
    Fault("429-retry-after-junk", "Retry-After: abc", waiting("abc")),
    Fault("429-retry-after-huge", "Retry-After: 10^9", waiting("1000000000")),
    Fault("429-retry-after-ms", "retry-after-ms: 250", waiting("250", "retry-after-ms")),
    Fault("429-quota", "insufficient_quota: waiting does not help", status(429, QUOTA)),
    _simple(451, "unavailable for legal reasons", error("Blocked", "policy_error")),
    _simple(500, "server error", BROKEN),
    Fault("500-echo", "server error, the key printed in the message", echo_key_in_fault),
    Fault("500-html", "a web server's error page", status(500, PAGE, kind=HTML)),
    Fault("500-empty", "server error without a body", status(500, b"")),
    _simple(502, "bad gateway", error("Bad gateway", "server_error")),
    _simple(503, "overloaded", DOWN),
    Fault("503-retry-after", "overloaded, Retry-After: 1", status(503, DOWN, [("Retry-After", "1")])),
    _simple(504, "gateway timeout", error("Upstream timed out", "server_error")),
    _simple(529, "overloaded, Anthropic's number", error("Overloaded", "overloaded_error")),
    *(_redirect(code) for code in (301, 302, 303, 307, 308)),
    Fault("204", "success without a body", no_content),
    Fault("103", "early hints, then ok", informed(103, [("Link", "</style.css>; rel=preload")])),
    Fault("100", "100 Continue nobody asked for, then ok", informed(100)),
]
