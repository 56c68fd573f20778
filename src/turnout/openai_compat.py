"""The old client's functions and error classes over the process-wide client; they go on 2027-06-30.

Replies are dicts in the shape of OpenAI's chat.completion, errors the old classes with the new one as `original`.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from turnout import current
from turnout.errors import AllProvidersFailed, InvalidRequest, MalformedReply, ProviderError, TurnoutError
from turnout.structured import Schema
from turnout.types import Options, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout.accept import Messages
    from turnout.blocking import SyncClient
    from turnout.types import Reply

GOES_ON = "2027-06-30"
"""When this module is removed."""

_SCOPE = {"session_id", "user_id", "parent", "tags"}
_NOT_JSON = {Reason.BLANK_REPLY, Reason.MALFORMED_REPLY}


class LLMError(Exception):
    """A call failed; `original` is turnout's own error and says more."""

    reasons: ClassVar[frozenset[str]] = frozenset()
    """What every attempt of a call must have come to for this class."""
    code: str = "LLM_ERROR"
    status: int | None = None

    def __init__(
        self, code: str | None = None, status: int | None = None, original: Exception | None = None
    ) -> None:
        self.code = code or self.code
        self.status = status or self.status
        self.original = original
        super().__init__(str(original) if original else self.code)


class LLMAuthError(LLMError):
    """No key, a refused one, or one whose money is spent."""

    reasons = frozenset({Reason.AUTH_ERROR, Reason.NO_API_KEY, Reason.PAYMENT_REQUIRED})
    code = "AUTH_ERROR"
    status = 401


class LLMRateLimitError(LLMError):
    """The provider is at its rate limit."""

    reasons = frozenset({Reason.RATE_LIMIT})
    code = "RATE_LIMIT"
    status = 429


class LLMTimeoutError(LLMError):
    """No answer in time."""

    reasons = frozenset({Reason.TIMEOUT})
    code = "TIMEOUT"
    status = 408


OpenAIAuthError = LLMAuthError
OpenAIRateLimitError = LLMRateLimitError
OpenAITimeoutError = LLMTimeoutError


def create_chat_completion(
    messages: Messages, model: str | None = None, *, agent: str | None = None, **keywords: Any
) -> dict[str, Any]:
    """Deprecated: `turnout.llm_client.sync.call_with_fallback`, or `.call` where a model is named.

    Answers for the agent, the default one when `None`; by that model alone when one is given. `keywords` are those
    of the new client (`temperature`, `max_tokens`...); any other goes to the provider. Raises `LLMError`.
    """
    _warn("create_chat_completion", "turnout.llm_client.sync.call_with_fallback(), or .call() with a model")
    with _old_errors():
        return _completion(_ask(messages, model, agent, _sorted(keywords)))


def create_json_completion(
    messages: Messages, model: str | None = None, *, agent: str | None = None, **keywords: Any
) -> dict[str, Any]:
    """Deprecated: `turnout.llm_client.sync.call_json`, which takes a schema.

    Arguments are those of `create_chat_completion`. The JSON object of the answer; one that cannot be read is shown
    to its model once to be corrected. Raises `LLMError`, with code JSON_PARSE_ERROR when nobody gave one.
    """
    _warn("create_json_completion", "turnout.llm_client.sync.call_json() with a schema")
    with _old_errors(as_json=True):
        options = _sorted(keywords)
        if model is not None:
            return _ask_json(messages, model, agent, options)
        sync: SyncClient = current.runtime().sync
        return sync.call_json(agent or "", messages, schema=dict[str, Any], **options)


def get_openai_client() -> SimpleNamespace:
    """Deprecated: `turnout.llm_client`. Its `chat.completions.create` is `create_chat_completion`."""
    _warn("get_openai_client", "turnout.llm_client")
    return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create_chat_completion)))


def _warn(name: str, instead: str) -> None:
    text = f"{name}() is deprecated and will be removed on {GOES_ON}; use {instead}"
    warnings.warn(text, DeprecationWarning, stacklevel=3)


def _sorted(keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords as the new client takes them: what it does not know goes to the provider in `extra`."""
    if keywords.get("stream") or keywords.get("n") not in (None, 1):
        raise InvalidRequest("stream and n are not taken here", hint="a reply is one answer, given whole")
    known = {name: keywords[name] for name in keywords if name in _SCOPE.union(Options.__struct_fields__)}
    unknown = {name: keywords[name] for name in keywords if name not in known}
    return {**known, "extra": {**(known.get("extra") or {}), **unknown}} if unknown else known


def _ask(messages: Messages, model: str | None, agent: str | None, options: dict[str, Any]) -> Reply:
    sync: SyncClient = current.runtime().sync
    if model is None:
        return sync.call_with_fallback(agent or "", messages, **options)
    return sync.call(model, messages, agent=agent, **options)


def _ask_json(messages: Messages, model: str, agent: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """As `call_json`, which takes no model; the correction is a call of its own."""
    options = {"response_format": {"type": "json_object"}, **options}
    wanted: Schema[dict[str, Any]] = Schema(dict[str, Any])
    text = _ask(messages, model, agent, options).content
    try:
        return wanted.read(text)
    except MalformedReply as error:
        correct = f"That was {error.detail}. Answer again with the corrected JSON alone."
    turns = [{"role": "assistant", "content": text}, {"role": "user", "content": correct}]
    return wanted.read(_ask([*messages, *turns], model, agent, options).content)


def _completion(reply: Reply) -> dict[str, Any]:
    """The reply in the shape of OpenAI's chat.completion; a count the provider did not report is `None`."""
    usage = reply.usage
    return {
        "id": f"chatcmpl-{reply.trace_id}",
        "object": "chat.completion",
        "created": reply.attempts[-1].started_at // 1_000_000,
        "model": reply.model,
        "choices": [{"index": 0, "message": reply.message, "finish_reason": reply.finish_reason}],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
        },
    }


@contextlib.contextmanager
def _old_errors(*, as_json: bool = False) -> Iterator[None]:
    """Raise the old error in the new one's place."""
    try:
        yield
    except TurnoutError as error:
        raise _old(error, as_json=as_json) from error


def _old(error: TurnoutError, *, as_json: bool) -> LLMError:
    outcomes: set[str] = set()
    if isinstance(error, AllProvidersFailed):
        outcomes = {attempt.outcome for attempt in error.attempts}
    elif isinstance(error, ProviderError):
        outcomes = {error.reason}
    for kind in (LLMAuthError, LLMRateLimitError, LLMTimeoutError) if outcomes else ():
        if outcomes <= kind.reasons:
            return kind(original=error)
    if as_json and outcomes and outcomes <= _NOT_JSON:
        return LLMError("JSON_PARSE_ERROR", error.status, error)
    return LLMError(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).upper(), error.status, error)
