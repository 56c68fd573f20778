"""One try at one model: encode, send, read, decode, price. It never raises for what a provider does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from turnout.clock import as_datetime
from turnout.cost.estimate import estimate_tokens
from turnout.cost.pricing import price_usage
from turnout.errors import (
    BadReply,
    EndpointMisconfigured,
    MissingKey,
    ProviderError,
    ProviderTimeout,
    ServerFault,
    StreamTruncated,
)
from turnout.providers.base import Request, Timeouts
from turnout.types import Answer, Attempt, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.clock import Clock
    from turnout.providers.base import Codec, Transport
    from turnout.registry import Registry
    from turnout.registry.endpoints import Endpoint
    from turnout.routing.health import Keys
    from turnout.types import Call, Model, Secret


class Outcome(msgspec.Struct, frozen=True):
    """The attempt's row, and either its answer or its error."""

    attempt: Attempt
    answer: Answer | None = None
    error: ProviderError | None = None
    again: bool = False
    """The same model can be tried at once: another key is free, or its answer is to be repaired."""


class Attempts:
    """Makes attempts; `transports` are by URL scheme, `codecs` by the name endpoints give them."""

    def __init__(
        self,
        registry: Registry,
        codecs: Mapping[str, Codec],
        transports: Mapping[str, Transport],
        keys: Keys,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._codecs = codecs
        self._transports = transports
        self._keys = keys
        self._clock = clock

    async def make(self, call: Call, model: Model, timeouts: Timeouts) -> Outcome:
        """Try the model once."""
        row = Attempt(
            id=self._clock.new_id(),
            model=model.name,
            provider=model.provider,
            started_at=self._clock.now(),
            seconds=0.0,
            outcome="ok",
        )
        began = self._clock.monotonic()
        endpoint = self._registry.endpoints[model.provider]
        key = self._keys.pick(endpoint)
        dropped: tuple[str, ...] = ()
        try:
            codec = self._codecs[endpoint.codec]
            body, dropped = codec.encode(call, model)
            answer = await self._exchange(
                codec, model, self._request(endpoint, key, codec.path, body), timeouts
            )
        except ProviderError as error:
            error.provider = error.provider or model.provider
            error.detail = _without(key, error.detail)
            error.request_id = error.request_id or call.id
            failed = msgspec.structs.replace(
                self._priced(row, model, _spent(call, error)),
                seconds=self._clock.monotonic() - began,
                outcome=str(error.reason),
                status=error.status,
                error=error.message,
                dropped=dropped,
            )
            self._keys.note(endpoint, key, error)
            return Outcome(failed, error=error, again=self._keys.another(endpoint, error))
        done = msgspec.structs.replace(
            self._priced(row, model, answer.usage),
            seconds=self._clock.monotonic() - began,
            status=200,
            upstream_model=answer.upstream_model,
            dropped=dropped,
        )
        return Outcome(done, answer=answer)

    def _priced(self, row: Attempt, model: Model, usage: Usage | None) -> Attempt:
        """The row with its usage, and the price that held when it was sent; no usage at all costs 0."""
        if usage is None:
            return msgspec.structs.replace(row, cost_nano=0)
        sent = as_datetime(row.started_at)
        price = self._registry.prices.at(model.name, sent, usage.input_tokens or 0)
        return msgspec.structs.replace(
            row, usage=usage, cost_nano=price_usage(price, usage), price_id=price.id if price else None
        )

    def _request(self, endpoint: Endpoint, key: Secret | None, path: str, body: bytes) -> Request:
        headers = {"content-type": "application/json", "accept": "application/json", **endpoint.headers}
        if key is not None:
            headers[endpoint.auth_header] = endpoint.auth_prefix + key.reveal()
        elif endpoint.needs_key:
            raise MissingKey(f"set {' or '.join(endpoint.key_vars)}")
        query = "&".join(f"{name}={value}" for name, value in endpoint.query.items())
        return Request(
            url=f"{endpoint.base_url}{path}{'?' if query else ''}{query}", body=body, headers=headers
        )

    async def _exchange(self, codec: Codec, model: Model, request: Request, timeouts: Timeouts) -> Answer:
        transport = self._transports[request.url.partition(":")[0]]
        try:
            response = await transport.send(request, timeouts)
        except ValueError as error:
            raise EndpointMisconfigured(
                str(error), hint="look for odd characters in the key and the base URL"
            ) from None
        async with response:
            body = await response.read()
        if response.status != 200:
            raise codec.failure(response.status, response.headers, body, model)
        return codec.decode(body, model)


def _spent(call: Call, error: ProviderError) -> Usage | None:
    """What a failed attempt used: nothing when it was refused with a status or never sent.

    A request that was sent and then timed out, or came back as a 200 that is no answer, was read by the provider
    and is likely billed: its input is estimated. What it wrote before we gave up, nobody told us.
    """
    billed = isinstance(error, BadReply | ProviderTimeout | ServerFault | StreamTruncated)
    if error.status is not None or not billed:
        return None
    tokens = estimate_tokens(call.messages.decode())
    return Usage(input_tokens=tokens, output_tokens=0, source="estimated")


def _without(key: Secret | None, text: str) -> str:
    """The text with the key blotted out: some servers echo the request in their errors."""
    return text.replace(key.reveal(), "***") if key else text
