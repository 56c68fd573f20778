"""What must hold for every call, whatever the provider did to it."""

from __future__ import annotations

import logging
import os
import resource
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from turnout import logs
from turnout.errors import TurnoutError
from turnout.types import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from turnout.types import Attempt, Reply
    from turnout.wiring import LLMClient

PROVE = bool(os.environ.get("TURNOUT_PROVE"))
"""`make prove` asks for the full number of everything; `make test` for a seeded slice."""
KEY = "sk-canary-5d1e"
PROMPT = "prompt-canary-93ab"
REASONS = {str(reason) for reason in Reason}
SLACK = 0.3
"""Seconds beyond a deadline + 10 %: other calls share the processor."""


class Way(NamedTuple):
    """How a call is made."""

    mode: str
    """`plain` or `stream`."""
    backup: bool
    """A healthy provider stands behind the faulty one."""
    transport: str

    def __str__(self) -> str:
        return f"{self.mode}, {'backup' if self.backup else 'alone'}, {self.transport}"


class Outcome(NamedTuple):
    """What a fault is expected to come to."""

    kind: str
    """`answers`; `falls` (to another model); `stops` (no other is asked); `breaks` (after the first token)."""
    reason: str = ""
    text: str = ""
    """The whole answer, where it answers."""
    calls: tuple[str, ...] = ()
    """The arguments of its tool calls."""


class Run(NamedTuple):
    """What came of one call."""

    way: Way
    came: Reply | TurnoutError
    streamed: str
    """The text of the deltas, until the end or the error."""
    seconds: float
    limit: float
    """The call's total deadline."""
    asked: int
    """Requests the faulty server saw."""
    backup_asked: int
    events: Sequence[dict[str, Any]]
    """The facts of what was logged meanwhile."""
    shown: str
    """Everything that was said of it: reply or error in every form, and the log."""

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Of the reply or of the error."""
        return self.came.attempts


async def made(
    client: LLMClient, way: Way, agent: str = "dojo", model: str = "deepseek-chat", words: str = "hi"
) -> tuple[str, Reply | TurnoutError]:
    """The text that was streamed, and the reply or the error."""
    streamed, reply = "", None
    messages = [{"role": "user", "content": f"{PROMPT} {words}"}]
    pinned = None if way.backup else model
    try:
        if way.mode == "stream":
            async for delta in client.stream(agent, messages, model=pinned):
                assert reply is None
                streamed, reply = streamed + delta.text, delta.reply
        else:
            reply = await (
                client.call_with_fallback(agent, messages)
                if pinned is None
                else client.call(pinned, messages)
            )
    except TurnoutError as error:
        return streamed, error
    assert reply is not None
    return streamed, reply


def shown(came: Reply | TurnoutError, lines: Sequence[str]) -> str:
    """Everything a reply or an error, and the log, would say to anybody."""
    said = [repr(came), *lines]
    if isinstance(came, Exception):
        said += [str(came), repr(vars(came)), *traceback.format_exception(came)]
    return "\n".join(said)


def faults(run: Run, expected: Outcome, *, quoted: bool = False) -> Iterator[str]:
    """Everything that is wrong with a run; `quoted`: the server put the prompt into its own words."""
    yield from _ending(run, expected)
    yield from _books(run)
    if KEY in run.shown:
        yield "the key is shown"
    if PROMPT in run.shown and not quoted:
        yield "the prompt is shown"
    if run.seconds > run.limit * 1.1 + SLACK:
        yield f"it took {run.seconds:.2f} s of {run.limit:g}"


def _ending(run: Run, expected: Outcome) -> Iterator[str]:
    came, backup = run.came, run.way.backup
    failed = isinstance(came, Exception)
    answered = expected.kind == "answers" or (expected.kind == "falls" and backup)
    if answered is failed:
        yield f"expected {expected}, got {came!r}"
        return
    if not isinstance(came, Exception):
        if came.fallback_reason != (expected.reason or None):
            yield f"fallback_reason is {came.fallback_reason}"
        wrong = came.content != expected.text or (
            tuple(call["function"]["arguments"] for call in came.tool_calls) != expected.calls
        )
        if expected.kind == "answers" and wrong:
            yield f"the answer is {came.content[:60]!r} {came.tool_calls}"
        if run.way.mode == "stream" and run.streamed != came.content:
            yield "the deltas do not add up to the answer"
    elif run.streamed and expected.kind != "breaks":
        yield f"{run.streamed[:40]!r} was given away before it failed"
    outcomes = {attempt.outcome for attempt in run.attempts if attempt.outcome != "ok"}
    if outcomes - {expected.reason}:
        yield f"failed by {outcomes}"
    second_calls = run.backup_asked if backup else run.asked - 1
    if expected.kind in {"stops", "breaks"} and second_calls:
        yield f"{second_calls} second calls"


def _books(run: Run) -> Iterator[str]:
    attempts = run.attempts
    # a deadline that is nearly over may come before the server has read the request
    hasty = sum(attempt.outcome == "timeout" and attempt.seconds < 0.1 for attempt in attempts)
    if not len(attempts) - hasty <= run.asked + run.backup_asked <= len(attempts):
        yield f"{len(attempts)} attempts, but {run.asked} + {run.backup_asked} requests were seen"
    if len({attempt.id for attempt in attempts}) != len(attempts):
        yield "two attempts have one id"
    settled = [event["outcome"] for event in run.events]
    if settled != [attempt.outcome for attempt in attempts]:
        yield f"settled as {settled}, told as {[attempt.outcome for attempt in attempts]}"
    for attempt in attempts:
        if attempt.outcome != "ok":
            yield from _failed(attempt)


def _failed(attempt: Attempt) -> Iterator[str]:
    usage, cost = attempt.usage, attempt.cost_nano
    if attempt.outcome not in REASONS or not attempt.error:
        yield f"the outcome {attempt.outcome!r} ({attempt.error!r}) says nothing"
    refused = attempt.status is not None and attempt.status != 200
    if refused and attempt.first_token is None and (usage is not None or cost != 0):
        yield f"a refusal cost {cost}"
    if attempt.first_token is not None and usage is None:
        yield "a stream that had begun cost nothing"
    if usage is None and cost != 0:
        yield f"nothing was used, and it cost {cost}"
    if usage is not None and not (usage.source == "estimated" and usage.input_tokens and cost):
        yield f"settled with {usage} at {cost}"


class Log(logging.Handler):
    """Collects what is logged, as facts and as lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logs.JsonLines())
        self.events: list[dict[str, Any]] = []
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.lines.append(self.format(record))
        facts = getattr(record, "facts", None)
        if record.getMessage().startswith("attempt ") and facts is not None:
            self.events.append({"trace_id": getattr(record, "trace_id", None), **facts})


@contextmanager
def listening() -> Iterator[Log]:
    """What is logged meanwhile, INFO and above."""
    log, level = Log(), logs.LOGGER.level
    logs.LOGGER.addHandler(log)
    logs.LOGGER.setLevel(logging.INFO)
    try:
        yield log
    finally:
        logs.LOGGER.removeHandler(log)
        logs.LOGGER.setLevel(level)


def open_files() -> int:
    """How many file descriptors this process holds."""
    return len(list(Path("/proc/self/fd").iterdir()))


def many_files() -> None:
    """Make room for as many sockets as the system allows this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
