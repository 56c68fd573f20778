"""What statuses and error bodies mean."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout import errors
from turnout.providers.failures import classify, retry_after
from turnout.types import Model

MODEL = Model(
    name="m", provider="p", upstream="deepseek-flash", context_window=10, max_output=5, default_output=5
)


def error(message: str = "no", code: str | None = None, kind: str = "invalid_request_error") -> bytes:
    """An error body in OpenAI's shape."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


UNKNOWN = "The supported API model names are deepseek-flash or deepseek-v4-pro, but you passed deepseek-chat."
OVERFLOW = (
    "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens."
)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, error(), errors.RequestRejected),
        (400, error(UNKNOWN), errors.ModelRetired),
        (400, error(OVERFLOW), errors.ContextOverflow),
        (400, error(code="context_length_exceeded"), errors.ContextOverflow),
        (
            400,
            error("request (20031 tokens) exceeds the available context size (4096 tokens)"),
            errors.ContextOverflow,
        ),
        (400, error("The model is busy thinking"), errors.RequestRejected),
        (400, b"<html>bad gateway</html>", errors.HtmlReply),
        (401, error("Incorrect API key provided: sk-abc"), errors.AuthError),
        (402, error("Insufficient Balance"), errors.PaymentRequired),
        (403, b"", errors.AuthError),
        (404, error(code="model_not_found"), errors.ModelRetired),
        (404, error("The model `deepseek-flash` does not exist"), errors.ModelRetired),
        (404, error("no such thread"), errors.RequestRejected),
        (404, b"<html>nginx</html>", errors.EndpointMisconfigured),
        (404, b"404 page not found", errors.EndpointMisconfigured),
        (407, b"", errors.EndpointMisconfigured),
        (408, b"", errors.ProviderTimeout),
        (409, error(), errors.ServerFault),
        (413, error("too large"), errors.RequestRejected),
        (418, b"teapot", errors.RequestRejected),
        (422, b'{"detail":"bad temperature"}', errors.RequestRejected),
        (429, error("slow down", "rate_limit_exceeded"), errors.RateLimited),
        (429, error("You exceeded your current quota", "insufficient_quota"), errors.PaymentRequired),
        (451, b"", errors.AuthError),
        (500, b"<html>", errors.ServerFault),
        (503, error(), errors.ServerFault),
        (529, b"[]", errors.ServerFault),
        (204, b"", errors.EndpointMisconfigured),
        (302, b"", errors.EndpointMisconfigured),
    ],
)
def test_classify(status: int, body: bytes, kind: type[errors.ProviderError]) -> None:
    """Each status and body has one meaning, and with it one verdict."""
    found = classify(status, {"x-request-id": "r1"}, body, MODEL)
    assert type(found) is kind
    assert (found.status, found.request_id, found.provider) == (status, "r1", "p")
    assert f"HTTP {status}" in found.detail


def test_a_refused_key_says_nothing_of_the_body() -> None:
    """OpenAI quotes part of the key in its 401: none of its words are passed on."""
    assert (
        classify(401, {}, error("Incorrect API key provided: sk-canary"), MODEL).detail
        == "HTTP 401 Unauthorized"
    )


def test_long_texts_are_cut() -> None:
    """A provider's essay becomes one line."""
    detail = classify(400, {}, error("word\n" * 500), MODEL).detail
    assert "\n" not in detail
    assert len(detail) < 400


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "abc"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1000000000"}, 1e9),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 25 Nov 2026 10:00:30 GMT", "date": "Wed, 25 Nov 2026 10:00:00 GMT"}, 30),
        ({"retry-after": "Wed, 25 Nov 2020 10:00:30 GMT", "date": "Wed, 25 Nov 2026 10:00:00 GMT"}, 0),
        ({"retry-after": "Wed, 25 Nov 2020 10:00:30 GMT"}, 0),
        ({"retry-after": "Wed, 25 Nov 2026 10:00:30", "date": "Wed, 25 Nov 2026 10:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Every form of Retry-After is read or refused, never negative."""
    assert retry_after(headers) == seconds


@given(st.integers(201, 599), st.binary(max_size=60))
def test_any_body_is_classified(status: int, body: bytes) -> None:
    """No status and no body, however broken, is more than a ProviderError."""
    assert isinstance(classify(status, {}, body, MODEL), errors.ProviderError)
