"""Every codec, found by listing the folder, against what no codec may let pass."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import msgspec
import pytest

import turnout.providers
from turnout import errors, wiring
from turnout.providers.base import Codec
from turnout.providers.sse import Event
from turnout.types import Call, Model, Options, Scope

MODEL = Model(name="m", provider="p", upstream="m-1", context_window=1000, max_output=100, default_output=10)
CALL = Call(
    id="c", messages=b'[{"role":"user","content":"hi"}]', options=Options(), scope=Scope(agent="dojo")
)
FOUND: dict[str, type[Any]] = {
    kind.__name__: kind
    for module in pkgutil.iter_modules(turnout.providers.__path__)
    for _, kind in inspect.getmembers(
        importlib.import_module(f"turnout.providers.{module.name}"), inspect.isclass
    )
    if all(hasattr(kind, verb) for verb in ("encode", "decode", "decoder", "failure")) and kind is not Codec
}
DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000


def test_each_codec_has_a_name() -> None:
    """A codec in the folder is a codec that an endpoint row can name."""
    assert set(FOUND.values()) == {type(codec) for codec in wiring.SHIPPED_CODECS.values()}


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", errors.BlankReply),
        (b"\n \r\n", errors.BlankReply),
        (b"<html><body>502</body></html>", errors.HtmlReply),
        (b"\xef\xbb\xbf<!DOCTYPE html>", errors.BadReply),
        (b"not json", errors.MalformedReply),
        (b'{"choices": [', errors.MalformedReply),
        (b"[]", errors.MalformedReply),
        (b"null", errors.MalformedReply),
        (b"{}", errors.MalformedReply),
        (b"\xff\xfe\x00", errors.MalformedReply),
        (DEEP, errors.MalformedReply),
        (b'{"error": {"type": "server_error", "message": "boom"}}', errors.ProviderError),
    ],
)
def test_what_is_no_answer(name: str, body: bytes, kind: type[errors.ProviderError]) -> None:
    """No codec passes a broken 200 off as an answer, nor lets anything but a ProviderError out."""
    with pytest.raises(kind):
        FOUND[name]().decode(body, MODEL)


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("status", [204, 302, 400, 401, 404, 418, 429, 500, 599])
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b'"x"', b'{"error": 5}', b'{"error": [1]}', DEEP]
)
def test_any_failure_is_named(name: str, status: int, body: bytes) -> None:
    """Every status with every odd body is some ProviderError of the status."""
    error = FOUND[name]().failure(status, {}, body, MODEL)
    assert isinstance(error, errors.ProviderError)
    assert error.status == status


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"not json",
        b"\xff\xfe",
        DEEP,
        b'{"error": {"message": "boom"}}',
        b'{"choices": 5, "delta": 5}',
    ],
)
@pytest.mark.parametrize("event", [b"", b"message_start", b"error", b"\xff"])
def test_any_event_of_a_stream(name: str, data: bytes, event: bytes) -> None:
    """No event lets anything but a ProviderError out, is a token, or ends the answer."""
    decoder = FOUND[name]().decoder(MODEL)
    try:
        deltas = decoder.feed(Event(data, event))
    except errors.ProviderError:
        return
    assert not any(delta.is_token for delta in deltas)
    assert not decoder.ended


@pytest.mark.parametrize("name", FOUND)
def test_a_stream_is_asked_for(name: str) -> None:
    """A streamed request says so and is otherwise the plain one, but for what asks for its usage."""
    codec = FOUND[name]()
    plain = msgspec.json.decode(codec.encode(CALL, MODEL)[0])
    streamed = msgspec.json.decode(codec.encode(CALL, MODEL, stream=True)[0])
    assert streamed.pop("stream") is True
    streamed.pop("stream_options", None)
    assert streamed == plain


@pytest.mark.parametrize("name", FOUND)
def test_encoding_is_stable(name: str) -> None:
    """The same call encodes to the same bytes: prompt caches depend on it."""
    codec = FOUND[name]()
    assert codec.encode(CALL, MODEL) == codec.encode(CALL, MODEL)
    assert b'"m-1"' in codec.encode(CALL, MODEL)[0]
