"""The old client's functions and error classes over the new engine."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from tests.toxic import PROMPT_TOKENS, SENTENCE, ToxicThread, refused_url
from turnout import errors, openai_compat
from turnout.openai_compat import (
    LLMAuthError,
    LLMError,
    LLMRateLimitError,
    LLMTimeoutError,
    create_chat_completion,
    create_json_completion,
    get_openai_client,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HI = [{"role": "user", "content": "hi, as json"}]
DEPRECATED = r"is deprecated and will be removed on 2027-06-30; use turnout\.llm_client"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ToxicThread]:
    """DeepSeek, as the environment has it; the only provider there is."""
    with ToxicThread() as server:
        monkeypatch.setenv("DEEPSEEK_BASE_URL", server.url)
        yield server


def in_turn(*texts: str) -> Callable[[dict[str, Any]], str]:
    """Replies in order; the last one repeats."""
    left = list(texts)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def chat(**keywords: Any) -> dict[str, Any]:
    """`create_chat_completion`, its warning seen."""
    with pytest.warns(DeprecationWarning, match=DEPRECATED):
        return create_chat_completion(HI, **keywords)


def as_json(**keywords: Any) -> dict[str, Any]:
    """`create_json_completion`, its warning seen."""
    with pytest.warns(DeprecationWarning, match=DEPRECATED):
        return create_json_completion(HI, **keywords)


def test_a_chat_completion(server: ToxicThread) -> None:
    """Without a model the default agent's answers, in the shape of a chat.completion."""
    before = int(dt.datetime.now(dt.UTC).timestamp())
    reply = chat(temperature=0.5, max_tokens=20)
    assert reply["id"].startswith("chatcmpl-")
    assert reply["object"] == "chat.completion"
    assert before <= reply["created"] <= before + 60
    assert reply["model"] == "deepseek-chat"
    (choice,) = reply["choices"]
    assert choice["message"] == {"role": "assistant", "content": SENTENCE}
    assert choice["finish_reason"] == "stop"
    usage = reply["usage"]
    assert usage["prompt_tokens"] == PROMPT_TOKENS
    assert usage["total_tokens"] == PROMPT_TOKENS + usage["completion_tokens"]
    sent = server.requests[0].json
    assert sent is not None
    assert (sent["messages"], sent["temperature"], sent["max_tokens"]) == (HI, 0.5, 20)


def test_by_agent_or_model(server: ToxicThread) -> None:
    """An agent's tier serves it; a model that is named serves alone; neither one's name reaches the provider."""
    assert chat(agent="debugger")["model"] == "deepseek-reasoner"
    assert chat(model="deepseek-reasoner", agent="dojo")["model"] == "deepseek-reasoner"
    assert all("agent" not in (seen.json or {}) for seen in server.requests)


def test_tool_calls_and_counts_not_reported(server: ToxicThread) -> None:
    """Tool calls are in the message; a count that was not reported is an estimate, never 0."""
    server.script("tool-call", "usage-missing")
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    (choice,) = chat(tools=tools)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert chat()["usage"]["prompt_tokens"] > 0


def test_keywords_of_the_provider(server: ToxicThread) -> None:
    """What Options does not know goes to the provider beside `extra`; what the scope knows does not."""
    chat(top_p=0.5, extra={"logprobs": True}, session_id="s", user_id="u", seed=7)
    sent = server.requests[0].json or {}
    assert (sent["top_p"], sent["logprobs"], sent["seed"]) == (0.5, True, 7)
    assert not {"extra", "session_id", "user_id"} & set(sent)


@pytest.mark.parametrize("keywords", [{"stream": True}, {"n": 2}, {"temperature": 9}, {"model": 5}])
def test_what_is_not_taken(server: ToxicThread, keywords: dict[str, Any]) -> None:
    """What cannot be honoured is refused before anything is sent, as an LLMError."""
    with pytest.raises(LLMError) as caught:
        chat(**keywords)
    assert caught.value.code == "INVALID_REQUEST"
    assert isinstance(caught.value.original, errors.InvalidRequest)
    assert server.requests == []


@pytest.mark.usefixtures("server")
def test_the_client_object() -> None:
    """`get_openai_client().chat.completions.create` gives the same; each of the two calls warns once."""
    with pytest.warns(DeprecationWarning, match=DEPRECATED) as warned:
        client = get_openai_client()
    assert len(warned) == 1
    with pytest.warns(DeprecationWarning, match=DEPRECATED) as warned:
        reply = client.chat.completions.create(messages=HI, model="deepseek-chat")
    assert len(warned) == 1
    assert reply["choices"][0]["message"]["content"] == SENTENCE


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("ask", "instead"),
    [
        (get_openai_client, "turnout.llm_client"),
        (lambda: create_chat_completion(HI), ".sync.call_with_fallback(), or .call() with a model"),
        (lambda: create_json_completion(HI), ".sync.call_json() with a schema"),
    ],
)
def test_the_warning_names_the_caller(server: ToxicThread, ask: Callable[[], Any], instead: str) -> None:
    """Each function warns once a call, at the caller's line, with what to use and when it goes."""
    server.replies = lambda _: "{}"
    for _ in range(2):
        with pytest.warns(DeprecationWarning, match=openai_compat.GOES_ON) as warned:
            ask()
        (warning,) = warned
        assert str(warning.message).endswith(instead)
        assert warning.filename == __file__


@pytest.mark.parametrize("model", [None, "deepseek-chat"])
def test_a_json_completion(server: ToxicThread, model: str | None) -> None:
    """The answer's JSON object, asked for as json_object."""
    server.replies = in_turn('{"city": "Lyon"}')
    assert as_json(model=model, agent="dojo", temperature=0) == {"city": "Lyon"}
    sent = server.requests[0].json or {}
    assert sent["response_format"] == {"type": "json_object"}
    assert sent["temperature"] == 0


@pytest.mark.parametrize("model", [None, "deepseek-chat"])
def test_json_that_is_corrected(server: ToxicThread, model: str | None) -> None:
    """An answer that is no JSON object is shown to its model, whose correction counts."""
    server.replies = in_turn("Lyon.", '{"city": "Lyon"}')
    assert as_json(model=model) == {"city": "Lyon"}
    *_, wrong, request = (server.requests[1].json or {})["messages"]
    assert wrong == {"role": "assistant", "content": "Lyon."}
    assert "not the JSON asked for" in request["content"]


@pytest.mark.parametrize("model", [None, "deepseek-chat"])
@pytest.mark.parametrize(("fault", "text"), [("ok", "Lyon."), ("ok", "[1]"), ("blank-content", "")])
def test_json_that_nobody_gave(server: ToxicThread, model: str | None, fault: str, text: str) -> None:
    """A blank or invalid answer is a JSON_PARSE_ERROR in the end."""
    server.default, server.replies = fault, in_turn(text)
    with pytest.raises(LLMError) as caught:
        as_json(model=model, timeout=0.4)
    assert caught.value.code == "JSON_PARSE_ERROR"
    assert isinstance(caught.value.__cause__, errors.TurnoutError)


def test_json_from_a_dead_provider(server: ToxicThread) -> None:
    """A provider that is down is no JSON_PARSE_ERROR, nor is a blank reply to a chat."""
    server.default = "503"
    with pytest.raises(LLMError) as caught:
        as_json(timeout=0.4)
    assert (caught.value.code, caught.value.status) == ("ALL_PROVIDERS_FAILED", 502)
    server.default = "blank-content"
    with pytest.raises(LLMError) as caught:
        chat(timeout=0.4)
    assert caught.value.code == "ALL_PROVIDERS_FAILED"


@pytest.mark.parametrize(
    ("fault", "kind", "code", "status"),
    [
        ("401", LLMAuthError, "AUTH_ERROR", 401),
        ("402", LLMAuthError, "AUTH_ERROR", 401),
        ("429", LLMRateLimitError, "RATE_LIMIT", 429),
        ("hang", LLMTimeoutError, "TIMEOUT", 408),
        ("408", LLMTimeoutError, "TIMEOUT", 408),
        ("500", LLMError, "ALL_PROVIDERS_FAILED", 502),
        ("400", LLMError, "REQUEST_REJECTED", 400),
        ("400-overflow", LLMError, "CONTEXT_OVERFLOW", 400),
    ],
)
def test_old_errors(server: ToxicThread, fault: str, kind: type[LLMError], code: str, status: int) -> None:
    """Each failure is the old class with its code and status; the new error is its cause and `original`."""
    server.default = fault
    with pytest.raises(LLMError) as caught:
        chat(timeout=0.4)
    error = caught.value
    assert (type(error), error.code, error.status) == (kind, code, status)
    assert isinstance(error.original, errors.TurnoutError)
    assert error.__cause__ is error.original
    assert str(error) == str(error.original)


def test_failures_that_differ(server: ToxicThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the attempts have no outcome in common, the error is an LLMError and no subclass."""
    server.default = "401"
    with refused_url() as nobody:
        monkeypatch.setenv("OPENAI_BASE_URL", nobody)
        with pytest.raises(LLMError) as caught:
            chat(timeout=0.4)
    assert type(caught.value) is LLMError
    assert caught.value.code == "ALL_PROVIDERS_FAILED"


def test_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is an LLMAuthError."""
    monkeypatch.setenv("TURNOUT_DEV_MODE", "false")
    with pytest.raises(LLMAuthError) as caught:
        chat(model="deepseek-chat")
    assert isinstance(caught.value.original, errors.MissingKey)


def test_settings_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that cannot be wired is an LLMError too."""
    monkeypatch.setenv("TURNOUT_DEV_MODE", "perhaps")
    with pytest.raises(LLMError) as caught:
        chat()
    assert caught.value.code == "CONFIG_ERROR"


def test_the_old_names() -> None:
    """OpenAI's names are the same classes, which can be made by hand."""
    assert openai_compat.OpenAIAuthError is LLMAuthError
    assert openai_compat.OpenAIRateLimitError is LLMRateLimitError
    assert openai_compat.OpenAITimeoutError is LLMTimeoutError
    made = LLMError("TEAPOT", 418)
    assert (made.code, made.status, made.original, str(made)) == ("TEAPOT", 418, None, "TEAPOT")
