"""What several commands have in common: the client they make, and how values are printed."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from turnout.settings import load_settings
from turnout.wiring import LLMClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from decimal import Decimal

    from turnout.types import Reply

Result = TypeVar("Result")

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
model_file = click.option(
    "--model-file", metavar="GGUF", help="A model file for the local model, instead of SmolLM2."
)


def with_client(work: Callable[[LLMClient], Awaitable[Result]], **flags: Any) -> Result:
    """Run `work` on a client of its own, closed afterwards."""

    async def whole() -> Result:
        async with LLMClient(load_settings(flags)) as client:
            return await work(client)

    return asyncio.run(whole())


def print_json(value: Any) -> None:
    """One JSON document on stdout: money as numbers, in their shortest exact form."""
    click.echo(msgspec.json.format(msgspec.json.Encoder(decimal_format="number").encode(value)).decode())


def money(dollars: Decimal | None) -> str:
    """Dollars with at least four significant digits, never a rounded 0; `?` when not known."""
    if dollars is None:
        return "?"
    if dollars == 0:
        return "$0"
    places = max(2, 3 - dollars.adjusted())
    return f"${dollars:.{places}f}"


def text_of(words: tuple[str, ...], what: str) -> str:
    """The words of the command line as one text; `-` alone reads stdin."""
    text = sys.stdin.read() if words == ("-",) else " ".join(words)
    if not text.strip():
        raise click.UsageError(f"the {what} is empty; write it in quotes, or - to read it from stdin")
    return text


def reply_facts(reply: Reply) -> dict[str, Any]:
    """A reply as `ask --json` prints it."""
    return {
        "content": reply.content,
        "agent": reply.agent,
        "model": reply.model,
        "provider": reply.provider,
        "finish_reason": reply.finish_reason,
        "usage": {**msgspec.structs.asdict(reply.usage), "total_tokens": reply.usage.total_tokens},
        "cost_usd": reply.cost_usd,
        "attempts": [
            {**msgspec.structs.asdict(attempt), "cost_usd": attempt.cost_usd} for attempt in reply.attempts
        ],
        "fallback_reason": reply.fallback_reason,
        "trace_id": reply.trace_id,
        "notices": reply.notices,
    }
