"""One call: facts, plan, run. The verbs."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from turnout import accept
from turnout.cost.estimate import least_tokens
from turnout.errors import ConfigError, ProviderError
from turnout.routing.base import Facts
from turnout.structured import Reading, Schema
from turnout.types import Call, Delta, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import date

    from turnout.accept import Messages
    from turnout.attempt import Attempts
    from turnout.clock import Clock
    from turnout.embedding import Embedder, Embeddings
    from turnout.fallback import Fallback, Served
    from turnout.hooks import Hooks
    from turnout.registry import Registry
    from turnout.routing.base import Strategy
    from turnout.routing.health import ModelHealth
    from turnout.trace.recorder import Recorder
    from turnout.types import Answer, Attempt, Options, Plan

ENDS_SOON = timedelta(days=90)
"""How long before a model's name ends its replies begin to say so."""

Value = TypeVar("Value")


class Engine:
    """The verbs over one registry. `wiring.LLMClient` is this with everything filled in."""

    def __init__(
        self,
        registry: Registry,
        attempts: Attempts,
        fallback: Fallback,
        strategies: tuple[Strategy, Strategy],
        stand_ins: tuple[str, ...],
        clock: Clock,
        hooks: Hooks,
    ) -> None:
        self.registry = registry
        self._hooks = hooks
        self._fallback = fallback
        self._attempts = attempts
        self._by_agent, self._pinned = strategies
        self._stand_ins = stand_ins
        self._clock = clock
        self.embedder: Embedder | None = None

    async def call_with_fallback(
        self, agent: str, messages: Messages, options: Options | None = None, **keywords: Any
    ) -> Reply:
        """Answer for an agent: its tier's first model, then those behind it.

        `messages` are dicts in OpenAI's chat shape. `keywords` are fields of `Options`, or `session_id`,
        `user_id`, `parent`, `tags`. Raises `InvalidRequest` before anything is sent, `RequestRejected` when the
        provider rejects the request itself, `MissingKey`, `AllProvidersFailed`.
        """
        return await self._run(self._accept(agent, None, messages, options, keywords))

    async def call(
        self,
        model: str,
        messages: Messages,
        options: Options | None = None,
        *,
        agent: str | None = None,
        **keywords: Any,
    ) -> Reply:
        """Answer by one model and no other; an unknown name gets the agent's plan, and the reply says so.

        `agent` says on whose behalf, the default agent's when `None`. Other arguments and errors are those of
        `call_with_fallback`.
        """
        return await self._run(self._accept(agent, model, messages, options, keywords))

    def stream(
        self,
        agent: str,
        messages: Messages,
        options: Options | None = None,
        *,
        model: str | None = None,
        **keywords: Any,
    ) -> AsyncGenerator[Delta, None]:
        """Answer for an agent, piece by piece; the last delta carries the usage and the whole reply.

        The same walk as `call_with_fallback` until the first token has come; an answer that breaks off later raises
        `StreamTruncated` or another `ProviderError` out of the iteration, its attempts included. `model` pins one.
        Leaving the iteration closes the provider's connection. Raises `InvalidRequest` at once.
        """
        return self._stream(self._accept(agent, model, messages, options, keywords))

    async def call_json(
        self,
        agent: str,
        messages: Messages,
        options: Options | None = None,
        *,
        schema: type[Value] | dict[str, Any],
        model: str | None = None,
        **keywords: Any,
    ) -> Value:
        """Answer as a value of a type, or as JSON valid against a JSON Schema.

        A blank or invalid answer is shown to its model once to be corrected, then the next model is asked. `model`
        pins one. Other arguments and errors are those of `call_with_fallback`; `AllProvidersFailed` when nobody's
        answer fits.
        """
        wanted = Schema(schema)
        keywords = {"response_format": {"type": "json_object"}, **keywords}
        call = self._accept(agent, model, messages, options, keywords)
        brief = msgspec.json.encode([{"role": "system", "content": wanted.brief}])
        call = msgspec.structs.replace(call, messages=brief[:-1] + b"," + call.messages.lstrip()[1:])
        call = await self._hooks.before(call)
        reading = Reading(self._attempts.make, wanted)
        self._recorder.asked(call)
        try:
            await self._fallback.run(call, self._plan(call), reading.make)
        finally:
            self._recorder.finished(call)
        return cast("Value", reading.value)

    def health(self) -> list[ModelHealth]:
        """How every upstream is that was asked so far: its circuit, its limit, its rest."""
        return self._attempts.health.report()

    async def embed(
        self, texts: list[str], *, model: str | None = None, dimensions: int | None = None
    ) -> Embeddings:
        """One vector for each text; a model that is named is the one that answers, or nobody.

        Without a model: text-embedding-3-small, or MiniLM on this machine when there is no key for it (extra
        `semantic`). Raises `InvalidRequest` before anything is sent, `MissingKey`, or the provider's last failure.
        """
        if self.embedder is None:
            raise ConfigError("this engine has no embedder", hint="use turnout.LLMClient")
        return await self.embedder.embed(texts, self._hooks.before, model=model, dimensions=dimensions)

    def plan(self, agent: str) -> Plan:
        """The models that would answer for an agent now. Raises `MissingKey` or `ConfigError` when none can."""
        return self._plan(self._accept(agent, None, [{"role": "user", "content": ""}], None, {}))

    def _accept(
        self,
        agent: str | None,
        model: str | None,
        messages: Messages,
        options: Options | None,
        keywords: dict[str, Any],
    ) -> Call:
        """A checked `Call`, or `InvalidRequest` that names the field."""
        said = accept.messages(messages)
        rest = dict(keywords)
        scope = accept.scope(agent, model, rest, default=self.registry.agents.default.id)
        return Call(
            id=self._clock.new_id(),
            messages=said.encoded,
            options=accept.options(options, rest),
            scope=self._recorder.scope(scope),
            model=model,
            has_images=said.has_images,
            has_reasoning=said.has_reasoning,
        )

    def _plan(self, call: Call) -> Plan:
        facts = Facts(
            registry=self.registry,
            today=self._clock.today(),
            least_tokens=least_tokens(call.messages),
            stand_ins=self._stand_ins,
            health=self._attempts.health.snapshot(),
        )
        strategy = self._by_agent if call.model is None else self._pinned
        return strategy.plan(call, facts)

    async def _run(self, asked: Call) -> Reply:
        call = await self._hooks.before(asked) if self._hooks else asked
        trace_id = self._recorder.asked(call)
        try:
            plan = self._plan(call)
            served = await self._fallback.run(call, plan, self._attempts.make)
        finally:
            self._recorder.finished(call)
        reply = self._reply(call, plan, served, served.attempts, served.answer, trace_id)
        return await self._hooks.after(call, reply) if self._hooks else reply

    async def _stream(self, asked: Call) -> AsyncGenerator[Delta, None]:
        call = await self._hooks.before(asked) if self._hooks else asked
        trace_id = self._recorder.asked(call)
        try:
            plan = self._plan(call)
            served = await self._fallback.run(call, plan, self._attempts.open, stream=True)
            async with served.answer as live:
                try:
                    async for delta in live:
                        yield delta
                except ProviderError as error:
                    error.attempts = (*served.attempts[:-1], live.attempt)
                    raise
        finally:
            self._recorder.finished(call)
        attempts = (*served.attempts[:-1], live.attempt)
        reply = self._reply(call, plan, served, attempts, live.answer, trace_id)
        reply = await self._hooks.after(call, reply)
        yield Delta(usage=reply.usage, reply=reply)

    @property
    def _recorder(self) -> Recorder:
        return self._attempts.recorder

    def _reply(
        self,
        call: Call,
        plan: Plan,
        served: Served[Any],
        attempts: tuple[Attempt, ...],
        answer: Answer,
        trace_id: str,
    ) -> Reply:
        model = served.model
        return Reply(
            content=answer.content,
            finish_reason=answer.finish_reason,
            agent=self.registry.agents.get(call.scope.agent).id,
            model=model.name,
            provider=model.provider,
            usage=attempts[-1].usage or answer.usage,
            attempts=attempts,
            trace_id=trace_id,
            tool_calls=answer.tool_calls,
            reasoning=answer.reasoning,
            thinking_blocks=answer.thinking_blocks,
            fallback_reason=served.because,
            notices=plan.notices
            + _ends_soon(model.name, model.retires_on, model.successor, self._clock.today()),
        )


@lru_cache(maxsize=1024)
def _ends_soon(name: str, retires_on: date | None, successor: str | None, today: date) -> tuple[str, ...]:
    if retires_on is None or retires_on - today > ENDS_SOON:
        return ()
    heir = f", then {successor} stands in its place" if successor else ""
    return (f"{name} retires on {retires_on}{heir}",)
