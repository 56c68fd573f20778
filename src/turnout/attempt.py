"""One try at one model: encode, send, read, decode, settle. It never raises for what a provider does."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from typing import TYPE_CHECKING

from turnout.errors import (
    EndpointMisconfigured,
    ProviderError,
    ProviderTimeout,
    StreamTruncated,
    Unreachable,
)
from turnout.grant import Outcome
from turnout.routing.keys import Keys
from turnout.settlement import Settlement
from turnout.streaming import Incoming
from turnout.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from turnout.clock import Clock
    from turnout.grant import Grant
    from turnout.providers.base import Codec, Response, Timeouts, Transport
    from turnout.registry import Registry
    from turnout.routing.health import Health
    from turnout.trace.recorder import Recorder
    from turnout.types import Answer, Attempt, Call, Delta, Model

DRAIN = 0.05
"""Seconds an ended stream has to end its body too, so that its connection can be used again."""


class Attempts:
    """Makes attempts; `transports` are by URL scheme, `codecs` by the name endpoints give them."""

    def __init__(
        self,
        registry: Registry,
        codecs: Mapping[str, Codec],
        transports: Mapping[str, Transport],
        health: Health,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self.health = health
        self.recorder = recorder
        self._registry = registry
        self.codecs = codecs
        self._transports = transports
        self._keys = Keys(clock)
        self._clock = clock

    def speaking(self, codecs: Mapping[str, Codec]) -> Attempts:
        """The same, in another wire: same keys, same health, same books."""
        other = copy.copy(self)
        other.codecs = codecs
        return other

    async def make(
        self, call: Call, model: Model, grant: Grant, read: Callable[[Answer], None] | None = None
    ) -> Outcome[Answer]:
        """Try the model once, for the answer in one piece. Raises what the journal refuses the call with.

        `read` may refuse an answer that is whole with a `ProviderError`; what it cost stays.
        """
        trial = self._begin(call, model, grant, stream=False)
        try:
            await self.recorder.written()
            timeouts = await trial.turn(grant.timeouts.total)
            response = await self._send(trial, timeouts, stream=False)
            async with response:
                answer = trial.codec.decode(await _body(response, trial), model)
        except ProviderError as error:
            outcome = trial.failed(error)
        except BaseException:
            trial.cancelled()
            raise
        else:
            outcome = _read(trial, answer, read)
        await self.recorder.durable()
        return outcome

    async def open(self, call: Call, model: Model, grant: Grant) -> Outcome[Live]:
        """Try the model once, for a stream; it comes back with its first token, or with what kept it from coming."""
        trial = self._begin(call, model, grant, stream=True)
        patience = min(grant.timeouts.first_token, grant.timeouts.total)
        try:
            await self.recorder.written()
            timeouts = await trial.turn(patience)
            patience = min(timeouts.first_token, timeouts.total)
            async with asyncio.timeout(patience):
                live = await self._open(trial, timeouts)
        except TimeoutError:
            outcome = trial.failed(ProviderTimeout(f"no token came within {patience:g} s"))
        except ProviderError as error:
            outcome = trial.failed(error)
        except BaseException:
            trial.cancelled()
            raise
        else:
            return Outcome(trial.settled.row, answer=live)
        await self.recorder.durable()
        return outcome

    async def _open(self, trial: Trial, timeouts: Timeouts) -> Live:
        response = await self._send(trial, timeouts, stream=True)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(response)
            kind = response.headers.get("content-type", "")
            if response.status == 200 and kind.startswith("text/event-stream"):
                incoming = Incoming(response.chunks(), trial.codec.decoder(trial.model))
                await incoming.hold()
            else:
                answer = trial.codec.decode(await _body(response, trial), trial.model)
                incoming = Incoming.whole(answer)
            trial.first_token()
            stack.pop_all()
        return Live(incoming, response, trial, self.recorder)

    def _begin(self, call: Call, model: Model, grant: Grant, *, stream: bool) -> Trial:
        endpoint = self._registry.endpoints[model.provider]
        settled = Settlement(
            call, model, grant, self._registry.prices, self.recorder, self._clock, stream=stream
        )
        return Trial(endpoint, self.codecs[endpoint.codec], self._keys, self.health, settled)

    async def _send(self, trial: Trial, timeouts: Timeouts, *, stream: bool) -> Response:
        request = trial.request(stream=stream)
        transport = self._transports[request.url.partition(":")[0]]
        try:
            return await transport.send(request, timeouts)
        except ValueError as error:
            raise EndpointMisconfigured(
                str(error), hint="look for odd characters in the key and the base URL"
            ) from None


class Live:
    """A streamed answer that has begun. Its attempt is settled when it ends, however it ends.

    Iterating raises the `ProviderError` that breaks it off. Leave it with `aclose`, and the provider's connection
    closes at once.
    """

    def __init__(self, incoming: Incoming, response: Response, trial: Trial, recorder: Recorder) -> None:
        self._recorder = recorder
        self._incoming = incoming
        self._response = response
        self._trial = trial
        self._answer: Answer | None = None

    @property
    def attempt(self) -> Attempt:
        """The row, settled once the stream has ended."""
        return self._trial.settled.row

    @property
    def answer(self) -> Answer:
        """The whole. Raises `RuntimeError` before the iteration has ended."""
        if self._answer is None:
            raise RuntimeError("the stream has not ended")
        return self._answer

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        try:
            return await anext(self._incoming)
        except StopAsyncIteration:
            await self._ended()
            raise
        except ProviderError as error:
            self._trial.failed(error, self._incoming)
            await self._leave()
            await self._recorder.durable()
            raise
        except BaseException:
            self._trial.cancelled(self._incoming)
            await self._leave()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Want no more of it."""
        self._trial.cancelled(self._incoming)
        await self._leave()

    async def _ended(self) -> None:
        if self._answer is not None:
            return
        self._answer = self._incoming.answer()
        self._trial.answered(self._answer)
        try:
            async with asyncio.timeout(DRAIN):
                await self._incoming.drain()
        except (TimeoutError, ProviderError):
            pass  # the answer is whole; only its connection is lost
        await self._leave()
        await self._recorder.durable()

    async def _leave(self) -> None:
        await self._response.__aexit__(None, None, None)


def _read(trial: Trial, answer: Answer, read: Callable[[Answer], None] | None) -> Outcome[Answer]:
    if read is not None:
        try:
            read(answer)
        except ProviderError as error:
            return trial.misread(answer, error)
        except BaseException:
            trial.answered(answer)
            raise
    return Outcome(trial.answered(answer), answer=answer)


async def _body(response: Response, trial: Trial) -> bytes:
    """A 200's whole body. Raises what any other status means."""
    try:
        body = await response.read()
    except Unreachable as error:
        raise StreamTruncated(error.detail) from None
    if response.status != 200:
        raise trial.codec.failure(response.status, response.headers, body, trial.model)
    return body
