"""`turnout`: finds the command, turns errors into one message and an exit code.

Results go to stdout, everything else to stderr. Exit codes: 0 ok, 1 failure, 2 usage, 3 config, 4 auth,
5 budget, 6 all providers failed, 7 degraded (`doctor --strict`), 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from turnout import logs
from turnout.errors import (
    AllProvidersFailed,
    AuthError,
    BudgetExceeded,
    BudgetUnavailable,
    ConfigError,
    InvalidRequest,
    TurnoutError,
)

COMMANDS = {
    "demo": "Watch agents answer through a real local model; no key needed.",
    "ask": "Ask an agent and print its answer.",
    "route": "Say which agent a query belongs to, and why.",
    "agents": "List the agents and the models behind each.",
    "models": "List the models, their prices now and when a name ends.",
    "costs": "Show what was spent, by agent, model, user, session or key.",
    "trace": "Show what happened: one trace, a session's or a user's traces, or events as they come.",
    "db": "Look after the store: status, backup, export, migrate, rebuild.",
    "config": "Show the settings and where each came from, or check them.",
    "doctor": "Check this installation: a line per check, and the fix where one is due.",
}
EXIT_CODES: tuple[tuple[type[TurnoutError], int], ...] = (
    (InvalidRequest, 2),
    (ConfigError, 3),
    (AuthError, 4),
    (BudgetExceeded, 5),
    (BudgetUnavailable, 5),
    (AllProvidersFailed, 6),
)


class Commands(click.Group):
    """Imports a command's file when that command is used: `--help` needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or `None`, which click answers with a suggestion."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"turnout.cli.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the nearest command named when there is none of that name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - only for a typing error

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean `turnout {near[0]}`?" if near else f"commands are: {', '.join(COMMANDS)}"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table above, so that help imports no command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command takes --json. Keys come from the environment or from .env, never from the command line.",
)
@click.version_option(package_name="turnout", message="turnout %(version)s")
def cli() -> None:
    """LLM calls by agent name.

    \b
    turnout demo --once
    turnout ask "Help me debug my code"
    turnout ask --agent debugger "Why does this loop never end?" --json
    turnout route "Find my notes on budgets" --json
    """


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run one command line; the exit code."""
    if (form := os.environ.get("TURNOUT_LOG")) in {"json", "text"}:
        logs.to_stderr(form)
    try:
        result: Any = cli.main(args=args, prog_name="turnout", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return 130
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return 130
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except TurnoutError as error:
        click.echo(f"error: {error}", err=True)
        if error.hint:
            click.echo(f"  fix: {error.hint}", err=True)
        return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
    except BrokenPipeError:
        # The reader of our stdout has gone (`| head`); silence the flush at exit too.
        sys.stdout = None
        return 0
    return result if isinstance(result, int) else 0
