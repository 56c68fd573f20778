"""The misbehaving server does what its table says."""

import asyncio
import http.client
import json
import re
import sys
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.toxic import (
    CACHED_TOKENS,
    FAULTS,
    PROMPT_TOKENS,
    SENTENCE,
    Toxic,
    ToxicThread,
    UnknownFaultError,
    refused_url,
)
from tests.toxic.statuses import STATUSES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHAT = "/v1/chat/completions"
SOUND_SHAPES = [
    *("ok", "close-delimited", "header-bomb", "header-flood", "blank-lines", "wrong-type", "duplicate-id"),
    *("stream-crlf", "stream-cr", "stream-bom", "stream-multi-line", "stream-no-space", "stream-fields"),
    *("stream-glued", "stream-byte-by-byte", "stream-split-utf8", "stream-comments", "slow-stream"),
    *("stream-comments-openrouter", "reasoning", "usage-twice", "stale", "103", "100"),
]
STALLING = [
    *("hang", "stall-headers", "stall-first-byte", "stall-body", "trickle-headers", "trickle-body"),
    *("slow-loris", "stream-stall-early", "stream-stall-mid", "stream-endless", "stream-open-after-done"),
]
TOOLS = [{"type": "function", "function": {"name": "clock", "parameters": {}}}]


@dataclass
class Answer:
    """A response read to the end of its connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of the events that are JSON, read by the rules of the SSE standard."""
        text = self.body.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        blocks = [
            "\n".join(re.findall(r"^data: ?(.*)$", block, re.MULTILINE)) for block in text.split("\n\n")
        ]
        assert "[DONE]" in blocks
        return [json.loads(block) for block in blocks if block not in {"", "[DONE]"}]

    @property
    def content(self) -> str:
        """The text of a stream."""
        deltas = [event["choices"][0]["delta"] for event in self.events if event["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)


def request(
    body: Any = None, path: str = CHAT, *, method: str = "POST", headers: str = "Connection: close"
) -> bytes:
    """Build a request."""
    sent = b"" if body is None else json.dumps(body).encode()
    extra = f"{headers}\r\n" if headers else ""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: t\r\n{extra}Content-Length: {len(sent)}\r\n\r\n".encode() + sent
    )


def unchunk(data: bytes) -> bytes:
    """Undo chunked transfer encoding."""
    return b"".join(chunks(data))


def chunks(data: bytes) -> list[bytes]:
    """Give the chunks of a body."""
    found: list[bytes] = []
    while True:
        size, _, data = data.partition(b"\r\n")
        if int(size, 16) == 0:
            return found
        found.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]


def parse(raw: bytes) -> Answer:
    """Read a response, informational ones skipped."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    status = int(first.split(" ")[1])
    if status < 200:
        return parse(body)
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(status, headers, unchunk(body) if headers.get("transfer-encoding") == "chunked" else body)


@asynccontextmanager
async def connected(toxic: Toxic) -> "AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]":
    """Open a connection to the server."""
    host, _, port = toxic.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**24)
    try:
        yield reader, writer
    finally:
        writer.close()


async def raw(toxic: Toxic, sent: bytes) -> bytes:
    """Send a request and read to the end, however it comes."""
    async with connected(toxic) as (reader, writer):
        writer.write(sent)
        got = b""
        while True:
            try:
                part = await reader.read(2**16)
            except ConnectionError:
                return got
            if not part:
                return got
            got += part


async def ask(toxic: Toxic, fault: str = "ok", **fields: Any) -> Answer:
    """Ask for a fault by model name."""
    return parse(await raw(toxic, request({"model": f"toxic-{fault}", "messages": [], **fields})))


async def keep_asking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Send a plain request on an open connection and read its body."""
    writer.write(request({"model": "m"}, headers=""))
    head = await reader.readuntil(b"\r\n\r\n")
    return await reader.readexactly(int(re.findall(rb"Content-Length: (\d+)", head)[0]))


def test_table() -> None:
    """Every fault is named after its row, described in one line, and apt for some kind."""
    for name, fault in FAULTS.items():
        assert fault.name == name
        assert fault.about
        assert "\n" not in fault.about
        assert fault.kinds
        assert fault.kinds <= {"plain", "stream"}


@pytest.mark.parametrize("name", FAULTS)
async def test_every_fault(name: str) -> None:
    """Every fault answers plain and stream requests without an error of its own and ends in bounded time."""
    async with Toxic(longest=0.05) as toxic:
        body = {"model": "m", "stream_options": {"include_usage": True}}
        path = f"/toxic/{name}{CHAT}"
        await raw(toxic, request(body, path))
        await raw(toxic, request(body | {"stream": True}, path))
        await raw(toxic, request({"input": "x"}, f"/toxic/{name}/embeddings"))
        await toxic.until(lambda: not toxic.open_connections)
        assert [seen.fault for seen in toxic.requests] == [name] * 3


async def test_plain() -> None:
    """A plain answer echoes the model and carries text, finish reason and usage."""
    async with Toxic() as toxic:
        answer = await ask(toxic)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json == {
            "id": "toxic-1",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": "toxic-ok",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": SENTENCE},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": PROMPT_TOKENS,
                "completion_tokens": 15,
                "total_tokens": PROMPT_TOKENS + 15,
                "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
            },
        }


async def test_stream() -> None:
    """A stream is a role, content deltas, a finish reason and [DONE], and has no usage unasked."""
    async with Toxic(replies=lambda asked: f"Hello {asked['user']}.") as toxic:
        answer = await ask(toxic, stream=True, user="Ada")
        deltas = [(e["choices"][0]["delta"], e["choices"][0]["finish_reason"]) for e in answer.events]
        role = {"role": "assistant", "content": ""}
        assert deltas == [
            (role, None),
            ({"content": "Hello "}, None),
            ({"content": "Ada."}, None),
            ({}, "stop"),
        ]
        assert not any("usage" in event for event in answer.events)
        assert answer.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize(
    ("fault", "counts"),
    [("ok", [0, 1]), ("usage-on-finish", [1]), ("usage-twice", [0, 1, 1]), ("usage-missing", [0])],
)
async def test_usage_chunks(fault: str, counts: list[int]) -> None:
    """Usage comes in a chunk without choices, on the finish chunk, twice or never."""
    async with Toxic() as toxic:
        answer = await ask(toxic, fault, stream=True, stream_options={"include_usage": True})
        tail = answer.events[-len(counts) :]
        assert [1 if event["usage"] else 0 for event in tail] == counts
        assert [bool(event["choices"]) for event in tail] == [True, *[False] * (len(counts) - 1)]


@pytest.mark.parametrize("fault", SOUND_SHAPES)
async def test_sound_shapes(fault: str) -> None:
    """Odd but lawful shapes carry the exact text, plain and streamed."""
    async with Toxic() as toxic:
        assert (await ask(toxic, fault)).json["choices"][0]["message"]["content"] == SENTENCE
        assert (await ask(toxic, fault, stream=True)).content == SENTENCE


@pytest.mark.parametrize("fault", STATUSES, ids=lambda fault: fault.name)
async def test_statuses(fault: Any) -> None:
    """A status fault answers its number, with a provider's error object unless it is named otherwise."""
    async with Toxic() as toxic:
        answer = await ask(toxic, fault.name, stream=True)
        expected = int(fault.name.split("-")[0])
        assert answer.status == max(expected, 200)
        if answer.headers.get("content-type") == "application/json" and answer.body:
            assert answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("fault", "header", "value"),
    [
        ("429-retry-after-7", "retry-after", r"7"),
        ("429-retry-after-date", "retry-after", r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"),
        ("429-retry-after-negative", "retry-after", r"-5"),
        ("429-retry-after-junk", "retry-after", r"abc"),
        ("429-retry-after-huge", "retry-after", r"1000000000"),
        ("429-retry-after-ms", "retry-after-ms", r"250"),
        ("503-retry-after", "retry-after", r"1"),
    ],
)
async def test_retry_after(fault: str, header: str, value: str) -> None:
    """Each Retry-After variant sends its header."""
    async with Toxic() as toxic:
        assert re.fullmatch(value, (await ask(toxic, fault)).headers[header])


async def test_error_codes() -> None:
    """Errors that policy tells apart by text carry the providers' codes and words."""
    async with Toxic() as toxic:
        assert (await ask(toxic, "404-model")).json["error"]["code"] == "model_not_found"
        assert (await ask(toxic, "400-overflow")).json["error"]["code"] == "context_length_exceeded"
        assert (await ask(toxic, "429-quota")).json["error"]["code"] == "insufficient_quota"
        assert "deepseek-flash" in (await ask(toxic, "400-unknown-model")).json["error"]["message"]
        assert "must be passed back" in (await ask(toxic, "400-reasoning")).json["error"]["message"]


async def test_key_echo() -> None:
    """Only the fault that says so prints the key."""
    async with Toxic() as toxic:
        for fault, echoed in (("401-echo", True), ("401", False), ("ok", False)):
            keyed = request(
                {}, f"/toxic/{fault}{CHAT}", headers="Connection: close\r\nAuthorization: Bearer k-1"
            )
            assert (b"k-1" in await raw(toxic, keyed)) is echoed


async def test_redirect() -> None:
    """A followed redirect shows up in the log and is answered."""
    async with Toxic() as toxic:
        location = (await ask(toxic, "302")).headers["location"]
        answer = parse(await raw(toxic, request(None, location, method="GET")))
        assert answer.json["choices"][0]["finish_reason"] == "stop"
        assert [seen.path for seen in toxic.requests] == [CHAT, location]


async def test_choice() -> None:
    """The script comes first, then the model, then the path, then the default."""
    async with Toxic("500") as toxic:
        toxic.script("503", "429")
        path = f"/toxic/404{CHAT}"
        for model in ("toxic-401", "toxic-401", "toxic-401", "vendor/toxic:402", "plain"):
            await raw(toxic, request({"model": model}, path))
        await raw(toxic, request({"model": "plain"}))
        assert [seen.fault for seen in toxic.requests] == ["503", "429", "401", "402", "404", "500"]


async def test_unknown_names() -> None:
    """An unknown fault raises where a test names it, and answers 599 where a request does."""
    with pytest.raises(UnknownFaultError, match="nonsense"):
        Toxic("nonsense")
    async with Toxic() as toxic:
        for name in ("nonsense", "hang-3", "huge-3x"):
            with pytest.raises(UnknownFaultError):
                toxic.script("ok", name)
        assert toxic.url_of("hang") == f"{toxic.url}/toxic/hang"
        answer = await ask(toxic, "nonsense")
        assert (answer.status, "nonsense" in answer.json["error"]["message"]) == (599, True)
        assert parse(await raw(toxic, request({}, "/toxic/nonsense/chat/completions"))).status == 599
        assert (await ask(toxic)).status == 200


async def test_other_routes() -> None:
    """Embeddings and models are served; anything else is 404 JSON and spares the script."""
    async with Toxic() as toxic:
        toxic.script("503")
        assert parse(await raw(toxic, request(None, "/", method="GET"))).json["error"]
        answer = parse(await raw(toxic, request(None, "/v1/x", method="HEAD")))
        assert (answer.status, answer.body) == (404, b"")
        assert (await ask(toxic)).status == 503
        models = parse(await raw(toxic, request(None, "/v1/models", method="GET"))).json
        assert [model["id"] for model in models["data"]] == ["toxic-ok"]
        vectors = parse(await raw(toxic, request({"model": "e", "input": ["a", "b"]}, "/v1/embeddings"))).json
        assert [row["index"] for row in vectors["data"]] == [0, 1]


async def test_log() -> None:
    """The log holds a request as it was read: method, path, headers in lower case, body, connection."""
    async with Toxic() as toxic:
        await raw(toxic, request({"model": "m"}, headers="Connection: close\r\nX-Trace: a\r\nx-trace: b"))
        seen = toxic.requests[0]
        assert (seen.method, seen.path, seen.headers["x-trace"]) == ("POST", CHAT, "a, b")
        assert (seen.body, seen.json, seen.fault, seen.connection) == (
            b'{"model": "m"}',
            {"model": "m"},
            "ok",
            1,
        )


async def test_request_framing() -> None:
    """A chunked body is read, and 100 Continue is sent to a client that waits for it."""
    async with Toxic() as toxic, connected(toxic) as (reader, writer):
        top = f"POST {CHAT} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        writer.write(top.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b'5\r\n{"a":\r\n3;x=y\r\n 1}\r\n0\r\n\r\n')
        await reader.readuntil(b"\r\n\r\n")
        assert toxic.requests[0].json == {"a": 1}


async def test_keep_alive() -> None:
    """Several requests are answered on one connection, whose close is then noted."""
    async with Toxic() as toxic:
        async with connected(toxic) as (reader, writer):
            ids = [json.loads(await keep_asking(reader, writer))["id"] for _ in range(3)]
            assert toxic.open_connections == 1
        await toxic.until(lambda: not toxic.open_connections)
        assert ids == ["toxic-1", "toxic-2", "toxic-3"]
        assert [seen.connection for seen in toxic.requests] == [1, 1, 1]
        assert toxic.closed_at[1] >= toxic.requests[-1].at


@pytest.mark.parametrize("fault", STALLING)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("abruptly", [False, True])
async def test_close_is_noticed(fault: str, stream: bool, abruptly: bool) -> None:
    """Whatever a fault waits for, the peer's close ends it at once and is recorded."""
    async with Toxic() as toxic:
        async with connected(toxic) as (_, writer):
            writer.write(request({"model": f"toxic-{fault}", "stream": stream}))
            await toxic.until(lambda: len(toxic.requests) == 1)
            if abruptly:
                writer.transport.abort()
        await toxic.until(lambda: 1 in toxic.closed_at, within=2)
        await toxic.until(lambda: not toxic.open_connections, within=2)


async def test_own_close_is_not_the_peers() -> None:
    """A connection the server ended itself has no entry among the peers' closes."""
    async with Toxic() as toxic:
        await ask(toxic)
        await toxic.until(lambda: not toxic.open_connections)
        assert toxic.closed_at == {}


async def test_reset_and_close() -> None:
    """RST and FIN reach the client as such, also after content, which arrives first."""
    async with Toxic() as toxic:
        for fault, stops in (("reset", True), ("close", False), ("stream-reset-mid-3", True)):
            async with connected(toxic) as (reader, writer):
                writer.write(request({"model": f"toxic-{fault}", "stream": True}))
                if fault.endswith("3"):
                    await reader.readuntil(b'"are "')
                if stops:
                    with pytest.raises(ConnectionResetError):
                        await reader.read()
                else:
                    assert await reader.read() == b""


@pytest.mark.parametrize("fault", ["reset-once-on-reuse", "close-on-reuse"])
async def test_reuse(fault: str) -> None:
    """A reused connection ends before any byte; a fresh one is answered."""
    async with Toxic(fault) as toxic:
        for _ in range(2):
            async with connected(toxic) as (reader, writer):
                assert await keep_asking(reader, writer)
                with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)) as caught:
                    await keep_asking(reader, writer)
                assert getattr(caught.value, "partial", b"") == b""
        assert [seen.connection for seen in toxic.requests] == [1, 1, 2, 2]


@pytest.mark.parametrize("fault", ["stale", "stale-2ms"])
async def test_stale(fault: str) -> None:
    """A stale connection promises to stay and is closed without a further request."""
    async with Toxic(fault) as toxic, connected(toxic) as (reader, writer):
        assert await keep_asking(reader, writer)
        assert await reader.read() == b""


async def test_broken_streams() -> None:
    """A stream breaks before any content or after exactly `count` deltas."""
    async with Toxic() as toxic:
        early = await raw(toxic, request({"model": "toxic-stream-close-early", "stream": True}))
        mid = await raw(toxic, request({"model": "toxic-stream-close-mid-4", "stream": True}))
        assert (early.count(b'"content"'), mid.count(b'"content"')) == (1, 5)
        assert b'"content":""' in early
        clean = await ask(toxic, "stream-eof-mid-1", stream=True)
        assert (clean.body.count(b"data: "), b"[DONE]" in clean.body) == (2, False)
        assert b"[DONE]" not in (await ask(toxic, "stream-no-done", stream=True)).body
        unfinished = (await ask(toxic, "finish-missing", stream=True)).events
        assert {event["choices"][0]["finish_reason"] for event in unfinished} == {None}


async def test_in_band_error() -> None:
    """An error inside a 200 is an event of the stream or the body of a plain answer."""
    async with Toxic() as toxic:
        assert (await ask(toxic, "error-200")).json["error"]["code"] == 500
        assert b'data: {"error"' in (await ask(toxic, "stream-error-mid", stream=True)).body


async def test_framing_faults() -> None:
    """Broken framing reaches the wire as named."""
    async with Toxic() as toxic:
        got = {
            name: await raw(toxic, request({"model": f"toxic-{name}"}))
            for name in ("cl-te-conflict", "cl-twice", "cl-negative", "bad-status-line", "bad-chunk-size")
        }
        assert b"Content-Length: 5\r\nTransfer-Encoding: chunked" in got["cl-te-conflict"]
        assert b"Content-Length: 5\r\nContent-Length: 9" in got["cl-twice"]
        assert b"Content-Length: -1" in got["cl-negative"]
        assert got["bad-status-line"].startswith(b"220 ")
        assert b"\r\n\r\nzz\r\n" in got["bad-chunk-size"]
        extra = await raw(toxic, request({"model": "toxic-extra-response"}))
        assert extra.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "bits"), [("gzip", 31), ("deflate", 15)])
async def test_compression(fault: str, bits: int, stream: bool) -> None:
    """Sound compression restores the sound body."""
    async with Toxic("duplicate-id") as toxic:
        body = {"model": "m", "stream": stream}
        answer = parse(await raw(toxic, request(body, f"/toxic/{fault}{CHAT}")))
        sound = parse(await raw(toxic, request(body)))
        restored = zlib.decompress(answer.body, bits)
        assert re.sub(rb"toxic-\d+", b"toxic-duplicate", restored) == sound.body


async def test_stored_blocks() -> None:
    """Brotli and zstd carry the body in stored blocks between their headers."""
    async with Toxic() as toxic:
        packed = await ask(toxic, "brotli")
        assert packed.headers["content-encoding"] == "br"
        assert int.from_bytes(packed.body[:3], "little") == (len(packed.body) - 5) << 4 | 1 << 20
        assert json.loads(packed.body[3:-1])["choices"]
        packed = await ask(toxic, "zstd")
        assert packed.body[:4] == b"\x28\xb5\x2f\xfd"
        assert json.loads(packed.body[9:-3])["choices"]


@pytest.mark.parametrize("fault", ["gzip-bad", "gzip-not"])
async def test_damaged_gzip(fault: str) -> None:
    """Damaged gzip does not decompress."""
    async with Toxic() as toxic:
        with pytest.raises(zlib.error):
            zlib.decompress((await ask(toxic, fault)).body, 31)


@pytest.mark.parametrize("stream", [False, True])
async def test_bomb(stream: bool) -> None:
    """A bomb is small on the wire, large when expanded, and by default larger than 64 MiB."""
    assert FAULTS["gzip-bomb"].count > 64 * 2**20
    async with Toxic() as toxic:
        packed = (await ask(toxic, "gzip-bomb-4m", stream=stream)).body
        assert len(packed) < 2**17
        assert len(zlib.decompress(packed, 31)) > 4 * 2**20


@pytest.mark.parametrize("size", [0, 1, 100_000, 2**20])
async def test_huge(size: int) -> None:
    """A huge answer is sound and has exactly the size its name asks for."""
    async with Toxic() as toxic:
        text = (await ask(toxic, f"huge-{size}")).json["choices"][0]["message"]["content"]
        assert text == "x" * size
        assert (await ask(toxic, f"huge-{size}", stream=True)).content == text


async def test_many_and_long() -> None:
    """Tiny events come in the number asked for; a long line is one event."""
    async with Toxic() as toxic:
        tiny = await ask(toxic, "stream-tiny-250", stream=True)
        assert [event["choices"][0]["delta"].get("content") for event in tiny.events] == [
            "",
            *"x" * 250,
            None,
        ]
        lengthy = await ask(toxic, "stream-long-line", stream=True)
        assert [len(line) > 2**20 for line in lengthy.body.split(b"\n\n")].count(True) == 1


async def test_split_utf8() -> None:
    """Some chunks end inside a character; together they are whole."""
    async with Toxic() as toxic:
        got = await raw(toxic, request({"model": "toxic-stream-split-utf8", "stream": True}))
        parts = chunks(got.partition(b"\r\n\r\n")[2])
        assert sum(part[-1] >= 0xC0 for part in parts) == sum(ord(char) > 127 for char in SENTENCE)
        b"".join(parts).decode()


async def test_fillers() -> None:
    """Blank lines and comments precede the first event in the number asked for."""
    async with Toxic() as toxic:
        assert (await ask(toxic, "blank-lines-3")).body.startswith(b'\n\n\n{"id"')
        queued = (await ask(toxic, "stream-comments-2", stream=True)).body
        assert queued.startswith(b": keep-alive\n\n: keep-alive\n\ndata: ")


async def test_tool_calls() -> None:
    """A tool call names the first tool offered; its streamed arguments come in pieces."""
    async with Toxic() as toxic:
        message = (await ask(toxic, "tool-call", tools=TOOLS)).json["choices"][0]["message"]
        function = message["tool_calls"][0]["function"]
        assert function == {"name": "clock", "arguments": '{"city": "Zürich"}'}
        events = (await ask(toxic, "tool-call", tools=TOOLS, stream=True)).events
        calls = [c for e in events for c in e["choices"][0]["delta"].get("tool_calls", [])]
        assert len(calls) > 3
        assert "".join(call["function"]["arguments"] for call in calls) == function["arguments"]


async def test_reasoning_deltas() -> None:
    """Reasoning streams before content, and its first delta may be empty."""
    async with Toxic() as toxic:
        events = (await ask(toxic, "reasoning-empty-first", stream=True)).events
        deltas = [event["choices"][0]["delta"] for event in events]
        assert [delta["reasoning_content"] for delta in deltas[1:3]] == ["", "So."]
        assert deltas[3] == {"content": "The "}


async def test_reasoning_rule() -> None:
    """With tools and thinking on, a past answer without its reasoning is refused."""
    bare, full = {"role": "assistant", "content": "a"}, {"role": "assistant", "reasoning_content": "r"}
    cases: list[tuple[dict[str, Any], int]] = [
        ({"tools": TOOLS, "messages": [bare]}, 400),
        ({"tools": TOOLS, "messages": [full, bare]}, 400),
        ({"tools": TOOLS, "messages": [full]}, 200),
        ({"messages": [bare]}, 200),
        ({"tools": TOOLS, "messages": [bare], "thinking": {"type": "disabled"}}, 200),
    ]
    async with Toxic(enforce_reasoning=True) as toxic:
        for body, status in cases:
            assert (await ask(toxic, **body)).status == status
    async with Toxic() as toxic:
        assert (await ask(toxic, **cases[0][0])).status == 200


async def test_stop() -> None:
    """Stopping ends hanging and idle connections at once and leaves no task."""
    before = asyncio.all_tasks()
    toxic = Toxic("hang")
    await toxic.start()
    async with connected(toxic) as (reader, writer), connected(toxic) as (idle, _):
        writer.write(request({}))
        await toxic.until(lambda: len(toxic.requests) == 1 and toxic.open_connections == 2)
        await toxic.stop()
        assert (await reader.read(), await idle.read()) == (b"", b"")
    assert toxic.open_connections == 0
    assert asyncio.all_tasks() == before


async def test_failures_surface() -> None:
    """An error in a test's own callback is raised when the server stops."""

    def replies(asked: dict[str, Any]) -> str:
        return str(asked["absent"])

    toxic = Toxic(replies=replies)
    await toxic.start()
    assert await raw(toxic, request({})) == b""
    with pytest.raises(KeyError, match="absent"):
        await toxic.stop()


def test_thread() -> None:
    """A test without a loop can use the server on a thread of its own."""
    with ToxicThread() as toxic:
        toxic.script("503")
        client = http.client.HTTPConnection(toxic.url.removeprefix("http://"), timeout=5)
        statuses = []
        for _ in range(2):
            client.request("POST", CHAT, json.dumps({"model": "m"}))
            response = client.getresponse()
            response.read()
            statuses.append(response.status)
        client.close()
        toxic.wait(lambda: not toxic.open_connections)
        assert statuses == [503, 200]
        assert list(toxic.closed_at) == [1]


async def test_refused() -> None:
    """The refusing URL refuses."""
    with refused_url() as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_by_hand() -> None:
    """Run by hand, the server prints its URL first and answers there."""
    command = [sys.executable, "-m", "tests.toxic", "--default", "404-model"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        assert url.startswith("http://127.0.0.1:")
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request({}))
        assert parse(await reader.read()).status == 404
        writer.close()
    finally:
        process.terminate()
        await process.communicate()
