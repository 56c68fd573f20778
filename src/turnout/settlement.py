"""What one attempt comes to: its row, its tokens and its price, settled once however it ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from turnout import logs
from turnout.clock import as_datetime
from turnout.cost.estimate import estimate_encoded, estimate_tokens
from turnout.cost.pricing import price_usage
from turnout.types import Attempt, Closed, Opened, Reason, Usage

if TYPE_CHECKING:
    from turnout.clock import Clock
    from turnout.errors import ProviderError
    from turnout.grant import Grant
    from turnout.registry.prices import PriceTable
    from turnout.streaming import Incoming
    from turnout.trace.recorder import Recorder
    from turnout.types import Answer, Call, Model


class Settlement:
    """The books of one attempt: the first of `answered`, `failed` and `cancelled` closes them."""

    def __init__(
        self,
        call: Call,
        model: Model,
        grant: Grant,
        prices: PriceTable,
        recorder: Recorder,
        clock: Clock,
        *,
        stream: bool = False,
    ) -> None:
        """Open them. Raises what the journal refuses the call with."""
        self.call = call
        self.model = model
        self.grant = grant
        self.dropped: tuple[str, ...] = ()
        self._prices = prices
        self._recorder = recorder
        self._clock = clock
        self._stream = stream
        self._began = clock.monotonic()
        self._over = False
        sent = clock.now()
        self._sent = as_datetime(sent)
        self.row = Attempt(
            id=clock.new_id(),
            model=model.name,
            provider=model.provider,
            started_at=sent,
            seconds=0.0,
            outcome="ok",
        )
        self._opened = self._open()

    def _open(self) -> Opened:
        call, model, scope, previous = self.call, self.model, self.call.scope, self.grant.previous
        if previous is not None and previous.model != model.name:
            self._recorder.fallback(
                call, from_model=previous.model, to_model=model.name, reason=previous.outcome
            )
        reads = estimate_encoded(call.messages)
        most = Usage(input_tokens=reads, output_tokens=call.options.max_tokens or model.default_output)
        hold, price_id = self._priced(most)
        opened = Opened(
            call=call.id,
            number=self.grant.number,
            model=model.name,
            provider=model.provider,
            asked=call.model,
            operation=scope.operation,
            hold_nano=hold,
            input_tokens=reads,
            price_id=price_id,
            run=scope.parent,
            tags=scope.tags,
        )
        self._recorder.opened(call, opened, self.row.id)
        return opened

    def first_token(self) -> None:
        """It has come."""
        self.row = msgspec.structs.replace(
            self.row, status=200, first_token=self._clock.monotonic() - self._began, dropped=self.dropped
        )

    def answered(self, answer: Answer, error: ProviderError | None = None) -> Attempt:
        """The whole answer has come, maybe with an `error` in it. Tokens that were not reported are counted."""
        usage = answer.usage
        if usage.input_tokens is None or usage.output_tokens is None:
            usage = self._counted(answer)
        self._recorder.answered(self.call, self.row.id, answer)
        return self._settle(
            usage,
            answer.finish_reason,
            outcome="ok" if error is None else str(error.reason),
            status=200,
            error=None if error is None else error.message,
            upstream_model=answer.upstream_model,
        )

    def failed(self, error: ProviderError, incoming: Incoming | None = None) -> Attempt:
        """It came to nothing, or broke off.

        Refused with a status, or never sent: no usage, and 0. Else the provider has read it and likely bills it:
        the input is estimated, and of the output what we saw. What broke off had begun, whatever it says then.
        """
        refused = incoming is None and (error.status is not None or not error.sent)
        usage = None if refused else self._spent(incoming)
        return self._settle(
            usage, outcome=str(error.reason), status=error.status or self.row.status, error=error.message
        )

    def cancelled(self, incoming: Incoming | None = None, *, sent: bool = True) -> Attempt:
        """Nobody waits for it any longer; what was never sent cost nothing."""
        return self._settle(
            self._spent(incoming) if sent else None,
            outcome=str(Reason.CANCELLED),
            status=self.row.status,
            error="the caller left before the end",
        )

    def _settle(self, usage: Usage | None, finish_reason: str | None = None, **facts: Any) -> Attempt:
        if self._over:
            return self.row
        self._over = True
        cost, price_id = (0, None) if usage is None else self._priced(usage)
        self.row = msgspec.structs.replace(
            self.row,
            seconds=self._clock.monotonic() - self._began,
            usage=usage,
            cost_nano=cost,
            price_id=price_id,
            dropped=self.dropped,
            **facts,
        )
        closed = Closed(
            opened=self._opened,
            attempt=self.row,
            finish_reason=finish_reason,
            fallback_reason=self.grant.because,
            stream=self._stream,
        )
        self._recorder.closed(self.call, closed)
        _log(self.call, self.row)
        return self.row

    def _priced(self, usage: Usage) -> tuple[int | None, str | None]:
        """At the price that held when it was sent."""
        price = self._prices.at(self.model.name, self._sent, usage.input_tokens or 0)
        return price_usage(price, usage), price.id if price else None

    def _spent(self, incoming: Incoming | None) -> Usage:
        reads = self._opened.input_tokens
        if incoming is not None:
            return incoming.spent(reads)
        return Usage(input_tokens=reads, output_tokens=0, source="estimated")

    def _counted(self, answer: Answer) -> Usage:
        told = answer.usage
        calls = "".join(str(call.get("function")) for call in answer.tool_calls)
        read, wrote = told.input_tokens, told.output_tokens
        if read is None:
            read = self._opened.input_tokens
        if wrote is None:
            wrote = estimate_tokens(answer.content + (answer.reasoning or "") + calls)
        return msgspec.structs.replace(told, input_tokens=read, output_tokens=wrote, source="counted")


def _log(call: Call, attempt: Attempt) -> None:
    answered = attempt.outcome == "ok"
    level = logging.INFO if answered else logging.WARNING
    if not logs.LOGGER.isEnabledFor(level):
        return
    logs.event(
        level,
        "attempt answered" if answered else "attempt failed",
        call.id,
        agent=call.scope.agent,
        model=attempt.model,
        provider=attempt.provider,
        outcome=attempt.outcome,
        status=attempt.status,
        seconds=round(attempt.seconds, 3),
        cost_nano=attempt.cost_nano,
    )
