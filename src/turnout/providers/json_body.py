"""A 200's body as a typed value, or the error that says what it is instead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

import msgspec

from turnout.errors import BlankReply, HtmlReply, MalformedReply
from turnout.providers.failures import is_page

if TYPE_CHECKING:
    from msgspec.json import Decoder

Body = TypeVar("Body")


def read(body: bytes, decoder: Decoder[Body]) -> Body:
    """The value. Raises `BlankReply`, `HtmlReply` or `MalformedReply`; blank lines around it do not matter."""
    text = body.strip()
    if not text:
        raise BlankReply("its body is empty")
    if is_page(text):
        raise HtmlReply("a 200 with a page in it", hint="check the endpoint's base URL")
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        wrong = str(error)
    try:
        # NaN is no JSON, yet a usage of NaN (seen from proxies) is no reason to pay twice.
        return msgspec.convert(json.loads(text), decoder.type)
    except (ValueError, RecursionError):
        raise MalformedReply(wrong) from None
