"""The blocking twin: the same verbs without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.toxic import SENTENCE, ToxicThread
from turnout import errors

if TYPE_CHECKING:
    from tests.conftest import MakeClient

HI = [{"role": "user", "content": "hi"}]


def test_a_stream(make_client: MakeClient) -> None:
    """The deltas come one by one, the last with the reply."""
    with ToxicThread() as server:
        with make_client(DEEPSEEK_BASE_URL=server.url).sync as client:
            deltas = list(client.stream("dojo", HI))
    assert "".join(delta.text for delta in deltas) == SENTENCE
    assert deltas[-1].reply is not None
    assert deltas[-1].reply.content == SENTENCE


def test_a_stream_that_is_left(make_client: MakeClient) -> None:
    """Closing the iterator closes the provider's connection."""
    with ToxicThread("stream-endless") as server:
        with make_client(DEEPSEEK_BASE_URL=server.url).sync as client:
            stream = client.stream("dojo", HI)
            assert next(delta.text for delta in stream if delta.text)
            stream.close()
            server.wait(lambda: bool(server.closed_at))


def test_a_bad_request_is_told_at_once(make_client: MakeClient) -> None:
    """What cannot be sent is refused when the stream is asked for, not when it is read."""
    with make_client().sync as client:
        with pytest.raises(errors.InvalidRequest):
            client.stream("dojo", [])
