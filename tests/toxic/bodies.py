"""Faults in the body of a 200: not JSON, not an answer, odd answers."""

from typing import Any

from tests.toxic.exchange import PLAIN, STREAM, Exchange, Fault, Run
from tests.toxic.wire import HTML, JSON, PAGE, SSE, Rewrite, error, usage


def answer(**changes: Any) -> Run:
    """Answer properly framed, with some of the answer changed."""

    async def run(talk: Exchange) -> None:
        await talk.deliver(talk.pieces(talk.reply(**changes)))

    return run


def instead(payload: Any) -> Run:
    """Send a payload where the answer should stand: as the body, or as the only event before [DONE]."""

    async def run(talk: Exchange) -> None:
        await talk.deliver(talk.failing(payload))

    return run


def raw(body: bytes, kind: str | None = None) -> Run:
    """Send a 200 with this very body, stream or not."""

    async def run(talk: Exchange) -> None:
        await talk.plain(200, body, kind or (SSE if talk.streaming else JSON))

    return run


def rewritten(rewrite: Rewrite, headers: tuple[tuple[str, str], ...] = (), kind: str | None = None) -> Run:
    """Answer with the sound pieces passed through a function."""

    async def run(talk: Exchange) -> None:
        await talk.deliver(rewrite(talk.pieces()), kind, headers)

    return run


def calling(*arguments: str) -> Run:
    """Answer with a call of the first offered tool for each text of arguments."""

    async def run(talk: Exchange) -> None:
        tools = talk.asked.get("tools") or [{"function": {"name": "look_up"}}]
        calls = tuple((str(tools[0]["function"]["name"]), text) for text in arguments)
        await talk.deliver(talk.pieces(talk.reply(text=None, calls=calls, finish="tool_calls")))

    return run


async def truncated(talk: Exchange) -> None:
    """Send half an answer whose framing is right."""
    whole = talk.pieces(talk.reply()) if not talk.streaming else [b"".join(talk.pieces())]
    await talk.deliver([whole[0][: len(whole[0]) // 2]])


async def stream_for_plain(talk: Exchange) -> None:
    """Send events although none were asked for."""
    events = talk.reply().events(include_usage=True)
    await talk.plain(200, b"".join(events), SSE)


async def plain_for_stream(talk: Exchange) -> None:
    """Send one JSON body although a stream was asked for."""
    await talk.plain(200, talk.reply().whole())


HUGE = 10**18
DEEPSEEK = usage(100, 12, 112, 40) | {
    "prompt_cache_hit_tokens": 40,
    "prompt_cache_miss_tokens": 60,
    "completion_tokens_details": {"reasoning_tokens": 3},
}
TWICE = usage(100, 12, 112, 40)
MALFORMED = b'{"choices": [}, "id": '
FAILED = error("The server had an error while processing your request", "server_error", 500)

NOT_ANSWERS = [
    Fault("html-200", "a login page, labelled as one", raw(PAGE, HTML)),
    Fault("html-as-json", "the same page under the right content type", raw(PAGE)),
    Fault("empty-200", "200 with an empty body", raw(b"")),
    Fault("malformed-json", "JSON with a syntax error; stream: in an event", instead(MALFORMED)),
    Fault("truncated-json", "half an answer with a matching length; stream: half of the events", truncated),
    Fault("not-an-answer", "{}", instead({})),
    Fault("not-an-answer-list", "[]", instead([])),
    Fault("not-an-answer-null", "null", instead(None)),
    Fault("not-an-answer-text", "a JSON string", instead("hello")),
    Fault("no-choices", "an answer whose choices are empty", answer(choices=False)),
    Fault("error-200", "an error object under status 200", instead(FAILED)),
    Fault("wrong-type", "a sound answer labelled text/plain", rewritten(list, kind="text/plain")),
    Fault("plain-for-stream", "a JSON body for a stream; plain: ok", plain_for_stream, STREAM),
    Fault("stream-for-plain", "events for a plain request; stream: ok", stream_for_plain, PLAIN),
]

ODD_ANSWERS = [
    Fault("ok", "a sound answer", answer()),
    Fault("blank-content", 'content ""', answer(text="")),
    Fault("blank-content-spaces", "content of spaces: DeepSeek's failed JSON mode", answer(text="     ")),
    Fault("null-content", "content null; stream: no content delta", answer(text=None)),
    Fault("finish-insufficient", "the server gave up", answer(finish="insufficient_system_resource")),
    Fault("finish-length", "cut at the token limit", answer(finish="length")),
    Fault("finish-content-filter", "stopped by a filter", answer(finish="content_filter")),
    Fault("finish-unknown", "a finish reason nobody knows", answer(finish="because")),
    Fault("finish-missing", "no finish reason; stream: [DONE] without one", answer(finish=None)),
    Fault("tool-call", "a call of the first tool", calling('{"city": "Zürich"}')),
    Fault("tool-call-two", "two calls at once", calling('{"city": "Bern"}', '{"city": "Basel"}')),
    Fault("tool-call-junk", "a call whose arguments are not JSON", calling('{"city": ')),
    Fault("reasoning", "reasoning, then content", answer(reasoning=("First ", "the points."))),
    Fault("reasoning-empty-first", "the first reasoning delta is empty", answer(reasoning=("", "So."))),
    Fault("reasoning-only", "reasoning and blank content", answer(reasoning=("Hm.",), text="")),
    Fault(
        "reasoning-vllm",
        "the field is called reasoning",
        answer(reasoning=("First ", "the points."), reasoning_name="reasoning"),
    ),
    Fault("usage-missing", "no usage", answer(usages=())),
    Fault("usage-null", "usage null", answer(usages=(None,))),
    Fault("usage-zero", "every count 0", answer(usages=(usage(0, 0, 0, 0),))),
    Fault("usage-negative", "counts below 0", answer(usages=(usage(-100, -5, -105, -1),))),
    Fault("usage-nan", "counts NaN", answer(usages=(usage(*[float("nan")] * 4),))),
    Fault("usage-huge", "counts 10^18", answer(usages=(usage(HUGE, HUGE, 2 * HUGE, 0),))),
    Fault("usage-text", "counts as text", answer(usages=(usage("100", "12", "many", None),))),
    Fault("usage-twice", "usage in two chunks; plain: the key twice", answer(usages=(TWICE, TWICE))),
    Fault(
        "usage-on-finish", "usage rides on the finish chunk; plain: ok", answer(usage_on_finish=True), STREAM
    ),
    Fault("usage-deepseek", "cache hits and misses in DeepSeek's fields", answer(usages=(DEEPSEEK,))),
    Fault("duplicate-id", "every answer has the same id", answer(id="toxic-duplicate")),
    Fault("other-model", "another model answers than the one asked", answer(model="another-model")),
]

BODIES = [*NOT_ANSWERS, *ODD_ANSWERS]
