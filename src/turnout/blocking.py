"""The blocking twin of a client: the same verbs, waited for."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
    from types import TracebackType

    from turnout.accept import Messages
    from turnout.client import Engine
    from turnout.embedding import Embeddings
    from turnout.types import Delta, Options, Reply

Value = TypeVar("Value")


class SyncClient:
    """A client's verbs for code without an event loop; they run on one background thread's loop."""

    def __init__(self, client: Engine, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Over an engine that `close` closes."""
        self._client = client
        self._close = close
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def call_with_fallback(
        self, agent: str, messages: Messages, options: Options | None = None, **keywords: Any
    ) -> Reply:
        """As `LLMClient.call_with_fallback`."""
        return self._wait(self._client.call_with_fallback(agent, messages, options, **keywords))

    def call(
        self,
        model: str,
        messages: Messages,
        options: Options | None = None,
        *,
        agent: str | None = None,
        **keywords: Any,
    ) -> Reply:
        """As `LLMClient.call`."""
        return self._wait(self._client.call(model, messages, options, agent=agent, **keywords))

    def stream(
        self,
        agent: str,
        messages: Messages,
        options: Options | None = None,
        *,
        model: str | None = None,
        **keywords: Any,
    ) -> Generator[Delta, None, None]:
        """As `LLMClient.stream`; closing the iterator closes the provider's connection."""
        return self._iterate(self._client.stream(agent, messages, options, model=model, **keywords))

    def call_json(
        self,
        agent: str,
        messages: Messages,
        options: Options | None = None,
        *,
        schema: type[Value] | dict[str, Any],
        model: str | None = None,
        **keywords: Any,
    ) -> Value:
        """As `LLMClient.call_json`."""
        return self._wait(
            self._client.call_json(agent, messages, options, schema=schema, model=model, **keywords)
        )

    def embed(
        self, texts: list[str], *, model: str | None = None, dimensions: int | None = None
    ) -> Embeddings:
        """As `LLMClient.embed`."""
        return self._wait(self._client.embed(texts, model=model, dimensions=dimensions))

    def close(self) -> None:
        """Close the client and end the thread."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            asyncio.run(self._close())
            return
        asyncio.run_coroutine_threadsafe(self._close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, Value]) -> Value:
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C while waiting ends the call too
            raise

    def _iterate(self, deltas: AsyncGenerator[Delta, None]) -> Generator[Delta, None, None]:
        async def step() -> Delta | None:
            return await anext(deltas, None)

        async def leave() -> None:
            await deltas.aclose()

        try:
            while (delta := self._wait(step())) is not None:
                yield delta
        finally:
            self._wait(leave())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="turnout-sync", daemon=True
                )
                self._thread.start()
            return self._loop
