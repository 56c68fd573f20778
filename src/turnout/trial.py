"""One attempt under way: its turn, its key, its request, and who is told what became of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from turnout import logs
from turnout.errors import MissingKey, ProviderError, RateLimited
from turnout.grant import Outcome
from turnout.providers.base import Request

if TYPE_CHECKING:
    from turnout.providers.base import Codec, Timeouts
    from turnout.registry.endpoints import Endpoint
    from turnout.routing.health import Health, ModelHealth, Permit
    from turnout.routing.keys import Keys
    from turnout.settlement import Settlement
    from turnout.streaming import Incoming
    from turnout.types import Answer, Attempt, Secret


class Trial:
    """One attempt under way: where it goes, with which key, and what becomes of it."""

    def __init__(
        self, endpoint: Endpoint, codec: Codec, keys: Keys, health: Health, settled: Settlement
    ) -> None:
        self.codec = codec
        self.settled = settled
        self.model = settled.model
        self._endpoint = endpoint
        self._keys = keys
        self._key: Secret | None = None
        self._health = health
        self._permit: Permit | None = None

    async def turn(self, seconds: float) -> Timeouts:
        """Wait until the provider takes another call at once; the deadlines that are left then.

        Raises `RateLimited` when that takes all of the `seconds` an attempt may last.
        """
        timeouts = self.settled.grant.timeouts
        try:
            permit = self._health.admit(self.model, seconds) or await self._health.turn(self.model, seconds)
        except RateLimited as error:
            error.sent = False
            raise
        self._permit = permit
        self._key = self._keys.pick(self._endpoint)
        if not (waited := seconds - permit.seconds):
            return timeouts
        return msgspec.structs.replace(
            timeouts,
            total=max(0.001, timeouts.total - waited),
            first_token=max(0.001, timeouts.first_token - waited),
        )

    def request(self, *, stream: bool) -> Request:
        """The request. Raises `MissingKey`, and what the codec finds wrong."""
        endpoint, key = self._endpoint, self._key
        body, self.settled.dropped = self.codec.encode(self.settled.call, self.model, stream=stream)
        accept = "text/event-stream" if stream else "application/json"
        headers = {"content-type": "application/json", "accept": accept, **endpoint.headers}
        if key is not None:
            headers[endpoint.auth_header] = endpoint.auth_prefix + key.reveal()
        elif endpoint.needs_key:
            raise MissingKey(f"set {' or '.join(endpoint.key_vars)}")
        url = endpoint.base_url + self.codec.path
        if endpoint.query:
            url += "?" + "&".join(f"{name}={value}" for name, value in endpoint.query.items())
        return Request(url=url, body=body, headers=headers)

    def first_token(self) -> None:
        """It has come."""
        self.settled.first_token()
        if self._permit is not None:
            self._turned(self._permit.answering())

    def answered(self, answer: Answer) -> Attempt:
        """Settle the whole answer."""
        if self._permit is not None:
            self._turned(self._permit.done())
        return self.settled.answered(answer)

    def misread(self, answer: Answer, error: ProviderError) -> Outcome[Any]:
        """Settle a whole answer that is not what was asked for: its provider is well, and bills it."""
        error.provider = self.model.provider
        error.request_id = self.settled.call.id
        if self._permit is not None:
            self._turned(self._permit.done())
        return Outcome(self.settled.answered(answer, error), error=error)

    def failed(self, error: ProviderError, incoming: Incoming | None = None) -> Outcome[Any]:
        """Settle what the provider did not do."""
        error.provider = error.provider or self.model.provider
        if self._key is not None:
            # some servers echo the request in their errors
            error.detail = error.detail.replace(self._key.reveal(), "***")
        error.request_id = error.request_id or self.settled.call.id
        row = self.settled.failed(error, incoming)
        self._keys.note(self._endpoint, self._key, error)
        another = self._key is not None and self._keys.another(self._endpoint, error)
        if self._permit is not None:
            self._turned(self._permit.done(error, another_key=another))
        return Outcome(row, error=error, again=another)

    def cancelled(self, incoming: Incoming | None = None) -> None:
        """Settle what nobody waits for any longer."""
        if self._permit is not None:
            self._permit.cancelled()
        self.settled.cancelled(incoming, sent=self._permit is not None)

    def _turned(self, now: ModelHealth | None) -> None:
        """Say that the upstream's circuit has opened or closed, if it has."""
        if now is not None:
            logs.event(
                logging.INFO if now.state == "closed" else logging.WARNING,
                "circuit closed" if now.state == "closed" else "circuit open",
                self.settled.call.id,
                provider=now.provider,
                model=now.model,
                seconds=round(now.seconds),
                reason=now.last_error,
            )
