"""`turnout ask`: one question, one answer."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from turnout.agents import Supervisor
from turnout.cli.shared import as_json, model_file, money, print_json, reply_facts, text_of, with_client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from turnout.agents import Decision
    from turnout.types import Delta, Reply
    from turnout.wiring import LLMClient


@click.command(name="ask")
@click.argument("question", nargs=-1, required=True)
@click.option("--agent", help="Who is asking; the supervisor chooses when left out.")
@click.option("--model", "model", help="Pin one model, with nothing behind it.")
@click.option("--user", help="Who pays.")
@click.option("--session", help="The session it belongs to.")
@click.option("--system", help="A system message before the question.")
@click.option("--max-tokens", type=int, help="Bound on the answer.")
@click.option("--temperature", type=float, help="0 to 2.")
@click.option("--timeout", type=float, help="Seconds for the whole call.")
@model_file
@as_json
def command(question: tuple[str, ...], as_json: bool, model_file: str | None, **asked: Any) -> None:  # noqa: FBT001
    """Ask an agent and print its answer.

    \b
    turnout ask "Help me debug my code"
    turnout ask --agent debugger "Why does this loop never end?" --json
    git diff | turnout ask --agent debugger --system "Review this change." -
    """
    text = text_of(question, "question")
    show = None if as_json else click.echo
    reply, decision = with_client(lambda client: _ask(client, text, asked, show), model_file=model_file)
    if as_json:
        facts = reply_facts(reply)
        print_json(facts if decision is None else facts | {"routing": decision})
        return
    click.echo()
    for notice in reply.notices:
        click.echo(f"note: {notice}", err=True)
    click.echo(_summary(reply), err=True)


async def _ask(
    client: LLMClient, text: str, asked: dict[str, Any], show: Callable[..., None] | None
) -> tuple[Reply, Decision | None]:
    """The reply; with `show` the answer is shown as it comes."""
    system = [{"role": "system", "content": asked["system"]}] if asked["system"] else []
    messages = [*system, {"role": "user", "content": text}]
    keywords = {
        name: asked[name] for name in ("max_tokens", "temperature", "timeout") if asked[name] is not None
    }
    keywords |= {"user_id": asked["user"], "session_id": asked["session"]}
    model, agent = asked["model"], asked["agent"]
    decision = None if model or agent else await Supervisor(client).route(text)
    agent = agent or (decision.agent_id if decision else client.registry.agents.default.id)
    if show is not None:
        return await _shown(client.stream(agent, messages, model=model, **keywords), show), decision
    if model:
        return await client.call(model, messages, agent=agent, **keywords), decision
    return await client.call_with_fallback(agent, messages, **keywords), decision


async def _shown(deltas: AsyncGenerator[Delta, None], show: Callable[..., None]) -> Reply:
    reply = None
    async with aclosing(deltas):
        async for delta in deltas:
            show(delta.text, nl=False)
            reply = delta.reply or reply
    if reply is None:
        raise RuntimeError("a stream ended without its reply")
    return reply


def _summary(reply: Reply) -> str:
    parts = [reply.agent, f"{reply.model} ({reply.provider})"]
    if reply.usage.total_tokens is not None:
        how = "" if reply.usage.source == "reported" else f" ({reply.usage.source})"
        parts.append(f"{reply.usage.input_tokens} in, {reply.usage.output_tokens} out{how}")
    parts += [money(reply.cost_usd), f"{sum(attempt.seconds for attempt in reply.attempts):.2f} s"]
    if reply.fallback_reason:
        parts.append(f"first choice left: {reply.fallback_reason}")
    if len(reply.attempts) > 1:
        parts.append(f"{len(reply.attempts)} attempts")
    return "— " + " · ".join(parts)
