"""The nouns. Everything else in turnout is a verb on these; this file imports nothing of ours.

Money is integer nano-dollars inside and `Decimal` dollars at the edges; wall time is integer
microseconds UTC; durations are seconds on the monotonic clock.
"""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

import msgspec

NANO_PER_DOLLAR = 10**9
"""Nano-dollars are the unit in which money is kept."""


def dollars(nano: int) -> Decimal:
    """Nano-dollars as dollars, exact."""
    return Decimal(nano) / NANO_PER_DOLLAR


class Secret:
    """A key that cannot be printed: `str`, `repr` and format all show `***`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself, for the one line that writes it on the wire."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Secret is not pickled; pass the name of its variable instead")


class Reason(StrEnum):
    """Why something other than the first choice answered; set where it happens, never parsed from text."""

    # a provider let us down
    TIMEOUT = "timeout"
    RATE_LIMIT = "rate_limit"
    CONNECT_ERROR = "connect_error"
    DNS_ERROR = "dns_error"
    SERVER_ERROR = "server_error"
    AUTH_ERROR = "auth_error"
    PAYMENT_REQUIRED = "payment_required"
    BLANK_REPLY = "blank_reply"
    HTML_REPLY = "html_reply"
    MALFORMED_REPLY = "malformed_reply"
    OVERSIZED_REPLY = "oversized_reply"
    TRUNCATED = "truncated"
    MODEL_RETIRED = "model_retired"
    MISCONFIGURED = "misconfigured"
    CONTEXT_OVERFLOW = "context_overflow"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    # a model was left out of the plan
    NO_API_KEY = "no_api_key"
    DISABLED = "disabled"
    CAPABILITY = "capability"
    UNKNOWN_MODEL = "unknown_model"
    CIRCUIT_OPEN = "circuit_open"
    BENCHED = "benched"
    BUSY = "busy"
    # the supervisor chose otherwise than its model said
    EMPTY_QUERY = "empty_query"
    LOW_CONFIDENCE = "low_confidence"
    AGENT_UNAVAILABLE = "agent_unavailable"
    API_ERROR = "api_error"
    DEEPSEEK_ERROR = "deepseek_error"
    MODEL_FALLBACK = "model_fallback"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How one call is to be answered; `None` leaves the choice to the model's row.

    Raises `ValueError` when a value is out of range and `TypeError` when it is of the wrong kind.
    """

    temperature: float | None = None
    """0 to 2."""
    max_tokens: int | None = None
    """Bound on the output, reasoning included; at least 1."""
    tools: list[dict[str, Any]] | None = None
    """In OpenAI's shape."""
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    """In OpenAI's shape: `{"type": "json_object"}` or `{"type": "json_schema", ...}`."""
    thinking: bool | Literal["low", "high", "max"] | None = None
    """Overrides the row: off, on, or on with an effort."""
    stop: str | list[str] | None = None
    seed: int | None = None
    timeout: float | None = None
    """Total deadline of the call in seconds, every attempt included; the settings decide when `None`."""
    extra: dict[str, Any] = {}
    """Further fields of the provider's own body, sent as they are."""

    def __post_init__(self) -> None:
        _number("temperature", self.temperature, 0, 2)
        _number("timeout", self.timeout, 0.001, 86_400)
        _whole("max_tokens", self.max_tokens, 1)
        _whole("seed", self.seed, None)
        for name, kind in _SHAPES.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{name} must be {_english(kind)}, not {type(value).__name__}")
        extra: object = self.extra
        if not isinstance(extra, dict):
            raise TypeError(f"extra must be dict, not {type(extra).__name__}")
        if isinstance(self.thinking, str) and self.thinking not in {"low", "high", "max"}:
            raise ValueError(f"thinking must be true, false, 'low', 'high' or 'max', not {self.thinking!r}")


_SHAPES: dict[str, tuple[type, ...]] = {
    "tools": (list,),
    "tool_choice": (str, dict),
    "response_format": (dict,),
    "thinking": (bool, str),
    "stop": (str, list),
}


def _english(kinds: tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in kinds)


def _number(name: str, value: Any, least: float, most: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not (math.isfinite(value) and least <= value <= most):
        raise ValueError(f"{name} must be between {least} and {most}, not {value}")


def _whole(name: str, value: Any, least: int | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


Operation = Literal["routing", "agent_execution", "search", "critique", "other"]
"""What a call is for, in the specification's words."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Who pays and where it is counted."""

    agent: str
    user: str | None = None
    session: str | None = None
    parent: str | None = None
    """The run, span or `traceparent` within which it is made."""
    tags: dict[str, str] = {}
    operation: Operation = "agent_execution"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to make, and repeat, one call.

    `messages` is a JSON array of OpenAI-shaped messages as bytes: a provider's prompt cache needs the
    prefix byte for byte, so it is encoded once and never reordered.
    """

    id: str
    messages: bytes
    options: Options
    scope: Scope
    model: str | None = None
    """The registry name the caller pinned; `None` lets the agent's tier decide."""
    has_images: bool = False
    """A part of some message is an image; a hook that changes `messages` keeps it true."""
    has_reasoning: bool = True
    """Some message may hold `reasoning_content` or `thinking_blocks`; false where somebody has looked."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `models.toml`: what may be called under one of our names."""

    name: str
    provider: str
    upstream: str
    """What the provider calls it on the wire."""
    kind: Literal["chat", "embedding"] = "chat"
    context_window: int
    """Tokens, input and output together."""
    max_output: int
    default_output: int
    """What `max_tokens` becomes where a bound is needed and the caller gave none."""
    capabilities: frozenset[str] = frozenset()
    """Of: json, json_schema, tools, vision, thinking."""
    params: dict[str, Any] = {}
    """Fields of the provider's body that this name stands for; the caller's options win over them."""
    thinking: dict[str, dict[str, Any]] = {}
    """Fields of the body for each value of `Options.thinking`: off, on, low, high, max."""
    drops: tuple[str, ...] = ()
    """Tuning this model does not take; left away, and the attempt says so."""
    renames: dict[str, str] = {}
    """Our field to theirs."""
    replays_reasoning: bool = False
    """It wants the `reasoning_content` of earlier turns back."""
    reports_cost: bool = False
    """It says with every answer what that cost, in dollars (`usage.cost`)."""
    dimensions: int | None = None
    recommended_for: tuple[str, ...] = ()
    stand_in: bool = False
    """A keyless stand-in: it proves the pipe and is not asked to judge."""
    retires_on: date | None = None
    successor: str | None = None


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """One band of one dated price row: dollars per million tokens."""

    id: str
    """`model@valid-from`, with `/band` where the row has bands; kept with every cost."""
    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    """`None`: cached input is billed like any other."""
    cache_write: Decimal | None = None
    """`None`: writing the cache costs nothing beyond the input itself."""
    atto: tuple[int, int, int, int] = (0, 0, 0, 0)
    """The same as whole 10^-18 dollars a token: input, cached input, cache write, output. Made from the others,

    which have at most 12 decimal places.
    """

    def __post_init__(self) -> None:
        cached = self.input if self.cached_input is None else self.cached_input
        written = self.input if self.cache_write is None else self.cache_write
        rates = (self.input, cached, written, self.output)
        msgspec.structs.force_setattr(self, "atto", tuple(int(rate * 10**12) for rate in rates))


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of one attempt; `None` means not reported, which is not 0.

    `input_tokens` includes `cached_input_tokens` and `cache_write_tokens`; `output_tokens` includes
    `reasoning_tokens`.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    source: Literal["reported", "counted", "estimated"] = "reported"
    cost_nano: int | None = None
    """What the provider says it charged; it counts before any price of ours."""

    @property
    def total_tokens(self) -> int | None:
        """Input and output together; `None` when either is unknown."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


class LeftOut(msgspec.Struct, frozen=True):
    """A model that the plan does not try, or (`BUSY`) only after the others, and why."""

    model: str
    reason: Reason
    why: str
    ahead: bool = False
    """It stood before every model that can be called: somebody else is first for this reason."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The models to try, in order, and the reason in words; the same inputs give the same plan."""

    models: tuple[Model, ...]
    """Never empty."""
    why: str
    left_out: tuple[LeftOut, ...] = ()
    notices: tuple[str, ...] = ()
    """What the caller should hear: an unknown agent, a retired model, a name that ends soon."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt brought home, in our words."""

    content: str
    finish_reason: str
    upstream_model: str
    """What the provider called itself."""
    usage: Usage
    tool_calls: tuple[dict[str, Any], ...] = ()
    reasoning: str | None = None
    thinking_blocks: tuple[dict[str, Any], ...] = ()
    """Anthropic's thinking as it came, sealed: without its seals it does not take its reasoning back."""


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of a streamed answer; the last carries `usage` and the whole `reply`."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """Pieces in OpenAI's shape: `index`, first with `id` and `function.name`, then more of `function.arguments`."""
    finish_reason: str | None = None
    raw: bytes = b""
    """The provider's event as it came, for a client of the same dialect."""
    usage: Usage | None = None
    reply: Reply | None = None

    @property
    def is_token(self) -> bool:
        """It holds something of the answer: from here on another model can no longer step in unseen."""
        return bool(self.text or self.reasoning or self.tool_calls)


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try at one model: one row per try, with its own id."""

    id: str
    model: str
    provider: str
    started_at: int
    """Microseconds UTC."""
    seconds: float
    outcome: str
    """`ok`, or a `Reason`."""
    status: int | None = None
    """The provider's HTTP status, where one came."""
    error: str | None = None
    upstream_model: str | None = None
    usage: Usage | None = None
    cost_nano: int | None = None
    """`None`: the price is not known; a failed attempt that used nothing costs 0."""
    price_id: str | None = None
    dropped: tuple[str, ...] = ()
    """Options this model does not take, left away."""
    first_token: float | None = None
    """Seconds from the start to the first token of a streamed answer."""

    @property
    def cost_usd(self) -> Decimal | None:
        """Dollars, or `None` when the price is not known."""
        return None if self.cost_nano is None else dollars(self.cost_nano)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, who gave it, and every attempt it took."""

    content: str
    finish_reason: str
    agent: str
    model: str
    """The registry name of the model that answered."""
    provider: str
    usage: Usage
    attempts: tuple[Attempt, ...]
    trace_id: str
    tool_calls: tuple[dict[str, Any], ...] = ()
    reasoning: str | None = None
    thinking_blocks: tuple[dict[str, Any], ...] = ()
    fallback_reason: Reason | None = None
    """Why the first choice did not answer; `None` when it did."""
    notices: tuple[str, ...] = ()

    @property
    def cost_usd(self) -> Decimal | None:
        """Dollars over all attempts; `None` as soon as one of them has no known price."""
        costs = [attempt.cost_nano for attempt in self.attempts]
        return None if None in costs else dollars(sum(cost for cost in costs if cost is not None))

    @property
    def message(self) -> dict[str, Any]:
        """This answer as the assistant message to append to the conversation."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.thinking_blocks:
            message["thinking_blocks"] = list(self.thinking_blocks)
        if self.tool_calls:
            message["tool_calls"] = list(self.tool_calls)
        return message


class Kind(StrEnum):
    """What an `Event` tells: a closed set, the specification's names."""

    SESSION_START = "SESSION_START"
    SESSION_END = "SESSION_END"
    MODE_TRANSITION = "MODE_TRANSITION"
    AGENT_ROUTING = "AGENT_ROUTING"
    AGENT_HANDOFF = "AGENT_HANDOFF"
    TOOL_INVOCATION = "TOOL_INVOCATION"
    PERSPECTIVE_INTEGRATION = "PERSPECTIVE_INTEGRATION"
    COST_TRACKED = "COST_TRACKED"
    CONTEXT_BUILD = "CONTEXT_BUILD"
    SAFETY_SWITCH = "SAFETY_SWITCH"
    AI_GATEWAY_ROUTE = "AI_GATEWAY_ROUTE"
    ERROR = "ERROR"
    USER_INPUT = "USER_INPUT"
    AGENT_RESPONSE = "AGENT_RESPONSE"
    AGENT_ACTIVITY_START = "AGENT_ACTIVITY_START"
    AGENT_ACTIVITY_PROGRESS = "AGENT_ACTIVITY_PROGRESS"
    AGENT_ACTIVITY_COMPLETE = "AGENT_ACTIVITY_COMPLETE"
    LLM_CALL_START = "LLM_CALL_START"
    LLM_CALL_END = "LLM_CALL_END"
    MODEL_FALLBACK = "MODEL_FALLBACK"


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the journal, append-only: what happened, when, in which span of which trace.

    A span is a pair of events with the same `span`: the one that opens it and the one that closes it.
    """

    id: str
    """UUIDv7; a repeated event has the same one."""
    trace: str
    kind: Kind
    at: int
    """Microseconds UTC."""
    span: str | None = None
    parent: str | None = None
    """The span within which this one was opened."""
    agent: str | None = None
    user: str | None = None
    session: str | None = None
    facts: dict[str, Any] = {}
    """Of LLM_CALL_START: `Opened`; of LLM_CALL_END: `Closed`. Otherwise the application's own."""
    tokens: int | None = None
    cost_nano: int | None = None
    error: str | None = None


class Opened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of LLM_CALL_START: one attempt is about to be sent. The event's span is the attempt's id."""

    call: str
    """The call's id; all attempts of one call share it."""
    number: int
    """Of the attempt within the call, from 1."""
    model: str
    provider: str
    asked: str | None = None
    """The model the caller pinned."""
    operation: Operation = "agent_execution"
    hold_nano: int | None = None
    """What it may cost at most; `None` where the price is not known."""
    input_tokens: int = 0
    """Estimated."""
    price_id: str | None = None
    run: str | None = None
    """The caller's parent run."""
    key: str | None = None
    tags: dict[str, str] = {}
    arm: str | None = None


class Closed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of LLM_CALL_END: what came of the attempt. Complete in itself, so that no start need be looked up."""

    opened: Opened
    attempt: Attempt
    state: Literal["settled", "expired_estimated"] = "settled"
    finish_reason: str | None = None
    fallback_reason: str | None = None
    """Why this attempt was made at all, when it is not the plan's first choice."""
    stream: bool = False
