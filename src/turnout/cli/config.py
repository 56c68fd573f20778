"""`turnout config`: what this process was told, by whom, and whether it can be used. No key is ever shown."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dotenv import dotenv_values

from turnout.cli.shared import as_json, model_file, print_json
from turnout.errors import ConfigError
from turnout.registry import endpoints
from turnout.settings import load_settings
from turnout.wiring import LLMClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.registry import Registry
    from turnout.registry.endpoints import Endpoint
    from turnout.settings import Settings

    Environment = dict[str, tuple[str, str]]

PLAIN = (
    "timeout",
    "connect_timeout",
    "first_token_timeout",
    "idle_timeout",
    "transport",
    "strategy",
    "dev_mode",
    "model_file",
    "durability",
    "on_full",
    "spool_bytes",
    "otel",
)
SHORTEST_KEY = 8
"""Shorter values are no keys, and blotting them out would make other words unreadable."""


@click.group(name="config")
def command() -> None:
    """Show the settings and where each came from, or check them.

    \b
    turnout config show --origin
    turnout config show --json
    turnout config check turnout.toml
    """


@command.command(name="show")
@click.option("--origin", is_flag=True, help="Say where each value came from; --json always does.")
@model_file
@as_json
def show(origin: bool, model_file: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Show every setting; of keys only whether they are set.

    \b
    turnout config show --origin
    turnout config show --json
    """
    settings, rows = load(model_file=model_file)
    facts = _facts(settings, rows)
    if as_json:
        print_json(facts)
        return
    for title, lines in _sections(facts):
        click.secho(title, bold=True)
        for name, value, where in lines:
            click.echo(f"  {name:36} {value:24}{'  ' + where if origin else ''}".rstrip())


@command.command(name="check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@as_json
def check(file: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Say whether FILE, or the turnout.toml in use, is right.

    \b
    turnout config check
    turnout config check deploy/turnout.toml
    """
    if file is not None and not file.is_file():
        raise ConfigError(f"{file} is not a file", hint="name a turnout.toml")
    settings, _ = load({**os.environ, "TURNOUT_CONFIG": str(file)} if file else None)
    if as_json:
        print_json({"ok": True, "file": settings.file and str(settings.file)})
    else:
        click.echo(f"ok: {settings.file or 'no turnout.toml, only environment and defaults'}")


def load(environ: Mapping[str, str] | None = None, **flags: Any) -> tuple[Settings, Registry]:
    """Settings and registry, as a client checks them. Raises `ConfigError` with keys and passwords blotted out."""
    try:
        client = LLMClient(load_settings(flags, environ=environ))
    except ConfigError as error:
        raise ConfigError(blotted(error.detail), hint=blotted(error.hint)) from None
    return client.settings, client.registry


def loaded() -> tuple[Settings | None, dict[str, Endpoint], Registry | None, ConfigError | None]:
    """As `load`, without raising: the error, and whatever can still be known without file or registry."""
    try:
        settings, rows = load()
    except ConfigError as error:
        return *_salvaged(), None, error
    return settings, rows.endpoints, rows, None


def _salvaged() -> tuple[Settings | None, dict[str, Endpoint]]:
    keys = {
        name: value
        for name, (value, _) in environment().items()
        if name.endswith("_API_KEY") or name in {"TURNOUT_HOME", "XDG_DATA_HOME"}
    }
    for environ, folder in ((None, None), (keys, Path(os.devnull))):
        with suppress(ConfigError, OSError, ValueError):
            settings = load_settings(environ=environ, folder=folder)
            return settings, endpoints.load(settings)
    return None, {}


def environment() -> Environment:
    """Each variable's value and source: `.env`, or the environment, which wins."""
    found: Environment = {}
    with suppress(OSError, ValueError):
        read = dotenv_values(".env", interpolate=False)
        found = {name: (value, ".env") for name, value in read.items() if value is not None}
    return found | {name: (value, "environment") for name, value in os.environ.items()}


def blotted(text: str) -> str:
    """The text without any key that is configured and without the user part of a URL."""
    for key in _keys():
        text = text.replace(key, "***")
    return re.sub(r"//[^/\s]*@", "//", text)


def _keys() -> list[str]:
    texts = []
    for name, (value, _) in environment().items():
        if name.endswith("_API_KEY"):
            texts.append(value)
        elif name.endswith("_API_KEY_FILE"):
            with suppress(OSError, ValueError):
                texts.append(Path(value).read_text(encoding="utf-8"))
    words = {word for text in texts for word in re.split(r"[,\s]+", text) if len(word) >= SHORTEST_KEY}
    return sorted(words, key=len, reverse=True)


def shown_url(url: str) -> str:
    """A base URL as it may be shown: without user, password and the values of a query."""
    address, question, _ = url.partition("?")
    return blotted(address) + (question and "?***")


def _facts(settings: Settings, rows: Registry) -> dict[str, Any]:
    env = environment()
    keyed = [(name, variable) for name, row in rows.endpoints.items() for variable in row.key_vars]
    return {
        "file": settings.file and str(settings.file),
        "settings": [
            {"name": "home", "value": str(settings.home), "origin": _home_origin(env)},
            *(_setting(settings, name) for name in PLAIN),
            {
                "name": "disabled_providers",
                "value": sorted(settings.disabled_providers),
                "origin": settings.origins.get("enable_deepseek", "default"),
            },
        ],
        "keys": [_key(settings, env, name, variable) for name, variable in keyed],
        "base_urls": [_base_url(settings, env, row) for row in rows.endpoints.values()],
        "tables": [
            name
            for table, changes in settings.tables.items()
            for name in (["prices"] if table == "prices" else [f"{table}.{row}" for row in changes])
        ],
    }


def _setting(settings: Settings, name: str) -> dict[str, Any]:
    value = getattr(settings, name)
    shown = str(value) if isinstance(value, Path) else value
    return {"name": name, "value": shown, "origin": settings.origins.get(name, "default")}


def _home_origin(env: Environment) -> str:
    for variable in ("TURNOUT_HOME", "XDG_DATA_HOME"):
        value, source = env.get(variable, ("", ""))
        if value:
            return f"{source} ({variable})"
    return "default"


def _key(settings: Settings, env: Environment, provider: str, variable: str) -> dict[str, Any]:
    given = variable in settings.keys
    sources = [f"{env[name][1]} ({name})" for name in (variable, f"{variable}_FILE") if name in env]
    return {
        "provider": provider,
        "variable": variable,
        "state": "set" if given else "missing",
        "origin": ", ".join(sources) if given else None,
    }


def _base_url(settings: Settings, env: Environment, row: Endpoint) -> dict[str, Any]:
    variables = {
        name.removesuffix("_BASE_URL").lower(): f"{source} ({name})"
        for name, (value, source) in env.items()
        if name.endswith("_BASE_URL") and value.strip()
    }
    ours = settings.tables.get("endpoints", {}).get(row.name, {})
    origin = variables.get(row.name) or (str(settings.file) if "base_url" in ours else "default")
    return {"provider": row.name, "url": shown_url(row.base_url), "origin": origin}


def _sections(facts: dict[str, Any]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The facts for people: titles, and lines of name, value and origin."""
    return [
        ("settings", [(row["name"], _words(row["value"]), row["origin"]) for row in facts["settings"]]),
        (
            "keys",
            [
                (f"{row['provider']}: {row['variable']}", row["state"], row["origin"] or "")
                for row in facts["keys"]
            ],
        ),
        ("base URLs", [(row["provider"], row["url"], row["origin"]) for row in facts["base_urls"]]),
        (
            f"file: {facts['file'] or 'no turnout.toml was found'}",
            [(name, "changes the registry", "") for name in facts["tables"]],
        ),
    ]


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
