"""Texts as vectors: checked, sent in batches to one model, and checked again when they come back."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Any

import msgspec

from turnout.cost.estimate import estimate_tokens
from turnout.errors import ConfigError, InvalidRequest, MalformedReply, MissingKey, Verdict
from turnout.grant import Grant
from turnout.providers import failures
from turnout.providers.json_body import read
from turnout.providers.openai import OpenAICodec
from turnout.types import Answer, Attempt, Call, Options, Scope, Usage, dollars

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from decimal import Decimal

    from turnout.attempt import Attempts
    from turnout.clock import Clock
    from turnout.errors import ProviderError
    from turnout.providers.base import StreamDecoder, Timeouts
    from turnout.registry import Registry
    from turnout.types import Model

DEFAULT = "text-embedding-3-small"
MOST_TEXTS = 256
MOST_TOKENS = 300_000
"""Of one request, all its texts together (OpenAI's API reference, 2026-10)."""
WAITS = (1.0, 2.0)
"""Seconds before the second and the third try of a batch, and up to a quarter more at random."""


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence of vectors, in the order of the texts, all from one version of one model."""

    vectors: list[list[float]]
    model: str
    """The registry name."""
    version: str
    """What the provider called itself: vectors of different versions do not compare."""
    dimensions: int
    usage: Usage
    attempts: tuple[Attempt, ...]
    """Every try of every batch."""
    operation: str = "search"
    """What the cost is counted as."""

    @property
    def cost_usd(self) -> Decimal | None:
        """Dollars over all attempts; `None` as soon as one of them has no known price."""
        costs = [attempt.cost_nano for attempt in self.attempts]
        return None if None in costs else dollars(sum(cost for cost in costs if cost is not None))

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: int) -> list[float]:
        return self.vectors[index]

    def __iter__(self) -> Iterator[list[float]]:
        return iter(self.vectors)


class Embedder:
    """The verb over one registry. `stand_in` answers when nobody chose a model and the default one has no key."""

    def __init__(
        self,
        registry: Registry,
        attempts: Attempts,
        timeouts: Timeouts,
        clock: Clock,
        stand_in: str | None = None,
    ) -> None:
        self._registry = registry
        self._attempts = attempts
        self._timeouts = timeouts
        self._clock = clock
        self._stand_in = stand_in

    async def embed(
        self,
        texts: list[str],
        before: Callable[[Call], Awaitable[Call]],
        *,
        model: str | None = None,
        dimensions: int | None = None,
    ) -> Embeddings:
        """One vector for each text; `before` may change the call, whose messages are the texts, or refuse it.

        A model that is named is the one that answers, or nobody. Raises `InvalidRequest` before anything is sent,
        `MissingKey`, or a batch's last failure when it was in vain, with every attempt.
        """
        row = self._choose(model)
        _check(texts, dimensions, row)
        deadline = self._clock.monotonic() + self._timeouts.total
        scope = Scope(agent=self._registry.agents.default.id, operation="search")
        encoded = msgspec.json.encode(texts)
        call = Call(id=self._clock.new_id(), messages=encoded, options=Options(), scope=scope, model=row.name)
        call = await before(call)
        texts = msgspec.json.decode(call.messages, type=list[str])
        attempts: list[Attempt] = []
        done: list[_Batch] = []
        for part in _parts(texts):
            batch = _Batch(part, dimensions, done[-1] if done else None)
            await self._ask(
                batch,
                msgspec.structs.replace(call, messages=msgspec.json.encode(part)),
                row,
                deadline,
                attempts,
            )
            done.append(batch)
        read = sum(batch.used.input_tokens or 0 for batch in done)
        told = all(batch.used.source == "reported" for batch in done)
        return Embeddings(
            vectors=[vector for batch in done for vector in batch.vectors],
            model=row.name,
            version=done[0].version,
            dimensions=len(done[0].vectors[0]),
            usage=Usage(input_tokens=read, output_tokens=0, source="reported" if told else "counted"),
            attempts=tuple(attempts),
        )

    def _choose(self, name: Any) -> Model:
        if not isinstance(name, str | None):
            raise InvalidRequest("model is a name, so text", hint=f'such as "{DEFAULT}"')
        row = self._registry.model(name or DEFAULT)
        endpoint = self._registry.endpoints[row.provider]
        if row.kind != "embedding":
            fit = [one.name for one in self._registry.models.values() if one.kind == "embedding"]
            raise InvalidRequest(f"{row.name} is no embedding model", hint=f"these are: {', '.join(fit)}")
        if endpoint.callable:
            return row
        if name is None and self._stand_in is not None:
            return self._choose(self._stand_in)
        if not endpoint.enabled:
            raise ConfigError(
                f"{row.name}: {endpoint.title} is switched off", hint="switch it on, or name another"
            )
        raise MissingKey(
            f"{row.name} needs a key for {endpoint.title}: set {' or '.join(endpoint.key_vars)}",
            hint='put it in the environment or in .env; pip install "turnout[semantic]" and naming no model needs none',
        )

    async def _ask(
        self, batch: _Batch, call: Call, row: Model, deadline: float, attempts: list[Attempt]
    ) -> None:
        """Have the batch answered. Raises the failure that no further try can mend, or is left time for."""
        endpoint = self._registry.endpoints[row.provider]
        wire = self._attempts.speaking({endpoint.codec: batch})
        for wait in (*WAITS, math.inf):
            left = max(0.001, deadline - self._clock.monotonic())
            limits = {"connect": min(self._timeouts.connect, left), "first_byte": left, "idle": left}
            timeouts = msgspec.structs.replace(self._timeouts, total=left, **limits)
            outcome = await wire.make(call, row, Grant(timeouts=timeouts, number=len(attempts) + 1))
            attempts.append(outcome.attempt)
            error = outcome.error
            if error is None:
                return
            error.attempts = tuple(attempts)
            pause = max(wait, error.retry_after or 0.0) * random.uniform(1.0, 1.25)  # noqa: S311 - jitter
            if outcome.again and len(endpoint.keys) > 1 and wait < math.inf:
                pause = 0.0  # it is the next key's turn
            elif error.verdict is not Verdict.RETRY:
                raise error
            if self._clock.monotonic() + pause >= deadline:
                raise error
            await asyncio.sleep(pause)


class _Item(msgspec.Struct):
    index: int
    embedding: list[float]


class _List(msgspec.Struct):
    data: list[_Item] = []
    model: str = ""
    usage: dict[str, Any] | None = None
    error: Any = None


_list = msgspec.json.Decoder(_List)


class _Batch:
    """Implements `Codec` for one request's texts on OpenAI's embeddings wire, and keeps what came back."""

    path = "/embeddings"

    def __init__(self, texts: list[str], dimensions: int | None, before: _Batch | None) -> None:
        self._texts = texts
        self._dimensions = dimensions
        self._before = before
        self.vectors: list[list[float]] = []
        self.version = ""
        self.used = Usage()

    def encode(self, call: Call, model: Model, *, stream: bool = False) -> tuple[bytes, tuple[str, ...]]:
        _ = call, stream
        body = {"model": model.upstream, "input": self._texts, "encoding_format": "float", **model.params}
        if self._dimensions is not None and "dimensions" not in model.drops:
            body["dimensions"] = self._dimensions
        return msgspec.json.encode(body), ()

    def decode(self, body: bytes, model: Model) -> Answer:
        reply = read(body, _list)
        if reply.error:
            raise failures.in_band(reply.error, model)
        self.vectors = self._ordered(reply.data, model)
        self.version = reply.model or model.upstream
        if self._before is not None and self._before.version != self.version:
            raise MalformedReply(
                f"its model is {self.version!r}, that of the batch before {self._before.version!r}"
            )
        self.used = msgspec.structs.replace(OpenAICodec().usage(reply.usage), output_tokens=0)
        if self.used.input_tokens is None:
            counted = sum(map(estimate_tokens, self._texts))
            self.used = Usage(input_tokens=counted, output_tokens=0, source="counted")
        return Answer(content="", finish_reason="stop", upstream_model=self.version, usage=self.used)

    def decoder(self, model: Model) -> StreamDecoder:
        raise NotImplementedError("embeddings are not streamed")

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, model: Model) -> ProviderError:
        return failures.classify(status, headers, body, model)

    def _ordered(self, items: list[_Item], model: Model) -> list[list[float]]:
        """A finite vector of the right length for each text, in their order."""
        vectors = [item.embedding for item in sorted(items, key=lambda item: item.index)]
        if sorted(item.index for item in items) != list(range(len(self._texts))):
            raise MalformedReply(f"its {len(vectors)} vectors are not those of the {len(self._texts)} texts")
        first = self._before.vectors[0] if self._before else vectors[0]
        width = self._dimensions or model.dimensions or len(first)
        for number, vector in enumerate(vectors):
            if len(vector) != width or not vector:
                raise MalformedReply(f"its vector {number} has {len(vector)} numbers, not {width}")
            if not all(map(math.isfinite, vector)):
                raise MalformedReply(f"its vector {number} holds NaN or infinity")
        return vectors


def _check(texts: Any, dimensions: Any, model: Model) -> None:
    if not isinstance(texts, list) or not texts:
        raise InvalidRequest("texts must be a list with at least one text in it", hint='pass ["..."]')
    for number, text in enumerate(texts):
        if wrong := _wrong(text, model):
            raise InvalidRequest(f"texts[{number}] {wrong}", hint="mend it, split it or leave it out")
    if dimensions is None:
        return
    most = model.dimensions or dimensions
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 1 <= dimensions <= most:
        raise InvalidRequest(f"dimensions must be a whole number from 1 to {most}", hint="or leave it away")
    if "dimensions" in model.drops and dimensions != model.dimensions:
        raise InvalidRequest(f"{model.name} has {most} dimensions and no others", hint="leave it away")


def _wrong(text: Any, model: Model) -> str | None:
    if not isinstance(text, str):
        return f"must be text, not {type(text).__name__}"
    if not text.strip():
        return "is empty"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"is no text: {error}"
    if (tokens := estimate_tokens(text)) > model.context_window:
        return f"is about {tokens:,} tokens long; {model.name} reads {model.context_window:,}"
    return None


def _parts(texts: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    tokens = 0
    for text in texts:
        more = estimate_tokens(text)
        if part and (len(part) == MOST_TEXTS or tokens + more > MOST_TOKENS):
            yield part
            part, tokens = [], 0
        part.append(text)
        tokens += more
    yield part
