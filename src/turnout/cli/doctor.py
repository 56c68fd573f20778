"""`turnout doctor`: what is right here, what is not, and the command that puts it right."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from turnout.cli.config import blotted, loaded, shown_url
from turnout.cli.shared import as_json, print_json, with_client
from turnout.clock import Clock, as_datetime
from turnout.errors import ConfigError, ProviderError, TurnoutError
from turnout.providers import local
from turnout.providers.base import Request, Timeouts, Transport
from turnout.registry.reading import overlay, shipped
from turnout.storage import address, identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import date
    from pathlib import Path

    from turnout.registry import Registry
    from turnout.registry.endpoints import Endpoint
    from turnout.settings import Settings
    from turnout.wiring import LLMClient

SOON = 90
"""Days: prices older than this are stale, names that end sooner want attention."""
LIMIT = Timeouts(connect=2.0, first_byte=2.0, idle=2.0, total=2.0)
"""For each endpoint asked, so that the whole command stays below three seconds."""
PACKAGES = ("turnout", "msgspec", "aiohttp", "click", "xllamacpp")
MARKS = {"ok": click.style("✓", "green"), "warn": click.style("!", "yellow"), "fail": click.style("✗", "red")}


class Check(msgspec.Struct, frozen=True):
    """One thing looked at, and what to do where it is not `ok`."""

    name: str
    state: Literal["ok", "warn", "fail"]
    what: str
    fix: str = ""


@click.command(name="doctor")
@click.option("--reach", is_flag=True, help="Ask every callable provider too; else nothing is contacted.")
@click.option("--strict", is_flag=True, help="End with 7 where a warning is left.")
@as_json
def command(reach: bool, strict: bool, as_json: bool) -> None:  # noqa: FBT001
    """Check this installation: a line per check, and the fix where one is due.

    \b
    turnout doctor
    turnout doctor --reach --strict --json
    """
    done = examine(reach=reach)
    if as_json:
        print_json({"checks": done, "state": worst(done)})
    else:
        for check in done:
            click.echo(f"{MARKS[check.state]} {check.name:24} {check.what}")
            if check.fix:
                click.echo(f"    fix: {check.fix}")
    if code := exit_code(done, strict=strict):
        raise SystemExit(code)


def examine(*, reach: bool) -> list[Check]:
    """Every check that can be made here, in the order it is shown."""
    settings, found, rows, error = loaded()
    endpoints = [endpoint for endpoint in found.values() if endpoint.base_url.startswith("http")]
    done = [python(sys.version_info[:3]), configuration(settings, error)]
    done += providers(endpoints, rows)
    done.append(local_model(local.available(settings.model_file if settings else None)))
    if settings and rows:
        today = Clock().today()
        done += [prices(rows, today), *retirements(rows, today), *calendars(settings, today)]
    done += [home(settings.home), record(settings)] if settings else []
    done += log_days(settings) if settings and reach else []
    done.append(versions({name: installed(name) for name in PACKAGES}))
    return done + (with_client(lambda client: reached(client, endpoints)) if reach and rows else [])


def worst(checks: Iterable[Check]) -> str:
    """The state of the whole."""
    return max((check.state for check in checks), key=list(MARKS).index)


def exit_code(checks: list[Check], *, strict: bool) -> int:
    """3: the configuration; 1: anything else that fails; 7: a warning, where that matters."""
    if any(check.name == "configuration" and check.state == "fail" for check in checks):
        return 3
    return {"fail": 1, "warn": 7 if strict else 0, "ok": 0}[worst(checks)]


def configuration(settings: Settings | None, error: ConfigError | None) -> Check:
    """Settings and registry can be used."""
    if error is not None:
        return Check("configuration", "fail", str(error), f"{error.hint}; then: turnout config check")
    return Check("configuration", "ok", str((settings and settings.file) or "no turnout.toml, which is fine"))


def python(version: tuple[int, int, int]) -> Check:
    """The interpreter is one we are tested on."""
    old, name = version < (3, 11), ".".join(map(str, version))
    fix = "python3.11 -m pip install turnout" if old else ""
    return Check("python", "fail" if old else "ok", f"{name}{' is older than 3.11' if old else ''}", fix)


def providers(endpoints: list[Endpoint], rows: Registry | None) -> Iterator[Check]:
    """Those that a tier names or that can be called; the rest, which nobody misses, in one line."""
    tiers = rows.agents.tiers.values() if rows else ()
    used = {rows.models[name].provider for names in tiers for name in names} if rows else set()
    idle = [row.name for row in endpoints if rows and row.name not in used and not row.callable]
    yield from (provider(row) for row in endpoints if row.name not in idle)
    if idle:
        yield Check("other providers", "ok", f"no key or switched off, and in no tier: {', '.join(idle)}")


def _set_key(endpoint: Endpoint) -> str:
    if not endpoint.key_vars:
        return f'under [endpoints.{endpoint.name}] in turnout.toml write key_vars = ["OF_YOURS_API_KEY"]'
    variable = endpoint.key_vars[0]
    # `read` keeps the key out of the shell's history.
    return f"read -rs {variable} && export {variable}" + (endpoint.keys_at and f"  # {endpoint.keys_at}")


def provider(endpoint: Endpoint) -> Check:
    """A call may be tried: it is switched on, and its key is there, which is counted and never said."""
    name, variables = f"provider:{endpoint.name}", " or ".join(endpoint.key_vars)
    if endpoint.callable:
        keys = f"{len(endpoint.keys)} in {variables}" if endpoint.keys else "none needed"
        return Check(name, "ok", f"callable at {shown_url(endpoint.base_url)}, keys: {keys}")
    if endpoint.enabled:
        what = f"not callable: {variables + ' is not set' if variables else 'its row names no key_vars'}"
        return Check(name, "warn", what, _set_key(endpoint))
    switch = "; export ENABLE_DEEPSEEK=true" if endpoint.name == "deepseek" else ""
    fix = f"under [endpoints.{endpoint.name}] in turnout.toml write enabled = true{switch}"
    return Check(name, "warn", "not callable: it is switched off", fix)


def local_model(obstacle: str | None) -> Check:
    """A real model answers without a key."""
    if obstacle is None:
        return Check("local model", "ok", "available")
    what, _, fix = obstacle.rstrip(".").rpartition(": ")
    return Check("local model", "warn", what, fix)


def prices(rows: Registry, today: date) -> Check:
    """Prices of callable models were looked at lately; a stand-in's 0 does not age."""
    old = []
    for name, model in rows.models.items():
        checked = max((row.checked for row in rows.prices.rows(name)), default=None)
        stale = checked is None or (today - checked).days > SOON
        if stale and rows.endpoints[model.provider].callable and not model.stand_in:
            old.append(f"{name} ({f'checked {checked}' if checked else 'no price'})")
    fix = "pip install --upgrade turnout, or add [[prices]] rows with today's `checked` to turnout.toml"
    if old:
        return Check("prices", "warn", f"stale or unknown: {', '.join(old)}", fix)
    return Check("prices", "ok", f"of every callable model checked within {SOON} days")


def retirements(rows: Registry, today: date) -> Iterator[Check]:
    """Each model of a tier keeps its name for a while."""
    tiers = rows.agents.tiers
    for name in dict.fromkeys(name for names in tiers.values() for name in names):
        ends, heir = rows.models[name].retires_on, rows.models[name].successor
        if ends is None or (ends - today).days > SOON:
            yield Check(f"model:{name}", "ok", f"ends on {ends}" if ends else "has no end")
        else:
            what = f"{'retires' if ends > today else 'retired'} on {ends}; successor: {heir or 'none'}"
            yield Check(f"model:{name}", "warn", what, _new_tiers(tiers, name, heir))


def _new_tiers(tiers: Mapping[str, tuple[str, ...]], name: str, heir: str | None) -> str:
    lines = []
    for tier, names in tiers.items():
        left = dict.fromkeys(heir if old == name else old for old in names)
        if name in names:
            words = (f'"{word}"' for word in left if word)
            lines.append(f"{tier} = [{', '.join(words) or 'a model that stays'}]")
    return f"under [tiers] in turnout.toml write {' and '.join(lines)}"


def calendars(settings: Settings, today: date) -> Iterator[Check]:
    """Holidays that decide prices are known for this year."""
    ours, theirs = shipped("prices.toml")["calendars"], settings.tables.get("calendars", {})
    for name, row in overlay(ours, theirs, table="calendars", file=settings.file_name).items():
        fix = f"pip install --upgrade turnout, or extend [calendars.{name}] in turnout.toml"
        known = today.year in row["covers"]
        what = f"{'covers' if known else 'does not cover'} {today.year}"
        yield Check(f"calendar:{name}", "ok" if known else "warn", what, "" if known else fix)


def home(folder: Path) -> Check:
    """Our folder can be written, or made; it is not made here."""
    folder = folder.absolute()
    # Unlike `exists`, `access` says no where a folder above may not be searched.
    nearest = next(place for place in (folder, *folder.parents) if os.access(place, os.F_OK))
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Check("home", "ok", f"{folder} {'is writable' if nearest == folder else 'can be made'}")
    return Check("home", "fail", f"{nearest} is no folder we may write", "export TURNOUT_HOME=~/.turnout")


def record(settings: Settings) -> Check:
    """The database is the one that was written to before, and nothing of the journal was left aside."""
    url = settings.database_url
    try:
        where = address.read(url.reveal() if url else None, settings.home)
    except ConfigError as error:
        return Check("record", "fail", error.message, error.hint)
    spool = settings.home / "spool" / where.spool_id
    known, file = identity.recall(spool), identity.file_of(spool)
    if known is not None and where.file is not None and not where.file.exists():
        what = f"{where.file} is not there any more, and with it what it held"
        return Check("record", "warn", what, f"restore it from a backup, or start anew: rm {file}")
    if known is not None and known.lost:
        day = as_datetime(known.lost[-1].at).date()
        what = f"{where} was lost and made anew on {day}; what it held before is not in it"
        return Check("record", "warn", what, f"restore a backup; once that is settled: rm {file}")
    aside = [path for name in ("*.damaged", "refused.jsonl") for path in sorted(spool.glob(name))]
    if aside:
        what = f"could not be put into {where}: {', '.join(path.name for path in aside)}"
        return Check("record", "warn", what, f"look at them, then: rm {' '.join(map(str, aside))}")
    return Check("record", "ok", "in memory, kept nowhere" if where.is_memory else str(where))


def log_days(settings: Settings) -> Iterator[Check]:
    """On PostgreSQL every event lies in the partition of its day."""
    from turnout.storage import access, partitions, schema, tables  # noqa: PLC0415 - loads SQLAlchemy

    strays = 0
    try:
        if not access.configured(settings).is_postgres:
            return
        with access.using(settings) as store:
            if schema.revision(store.backend) == tables.REVISION:
                with store.backend.reading() as connection:
                    strays = partitions.strays(connection)
    except TurnoutError as error:
        yield Check("log days", "fail", blotted(error.message), error.hint)
        return
    what = (
        f"events that lie in no day but in events_default, for a clock was wrong or they came late: {strays}"
    )
    fix = "set the clocks of hosts that call; late events go, and days to come are made, within the hour"
    yield (
        Check("log days", "warn", what, fix)
        if strays
        else Check("log days", "ok", "every event lies in its day")
    )


def installed(package: str) -> str | None:
    """A package's version, if it is here."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions(found: Mapping[str, str | None]) -> Check:
    """What is installed; only the local model's library may be missing."""
    what = ", ".join(f"{name} {version or 'not installed'}" for name, version in found.items())
    missing = [name for name, version in found.items() if version is None and name != "xllamacpp"]
    fix = f"pip install {' '.join(missing)}" if missing else ""
    return Check("versions", "fail" if missing else "ok", what, fix)


async def reached(client: LLMClient, endpoints: list[Endpoint]) -> list[Check]:
    """Every callable endpoint, asked at the same time."""
    transports = client.transports  # the wired ones, proxies and all
    asked = [reach_one(row, transports[row.base_url.partition(":")[0]]) for row in endpoints if row.callable]
    return await asyncio.gather(*asked) or [Check("reach", "ok", "no provider to ask")]


async def reach_one(endpoint: Endpoint, transport: Transport) -> Check:
    """One small GET; any status is an answer, but 401 and 403 refuse the key."""
    name, began = f"reach:{endpoint.name}", time.monotonic()
    headers = {"accept": "application/json", **endpoint.headers}
    if endpoint.keys:
        headers[endpoint.auth_header] = endpoint.auth_prefix + endpoint.keys[0].reveal()
    query = "&".join(f"{field}={value}" for field, value in endpoint.query.items())
    url = f"{endpoint.base_url}/models{query and '?'}{query}"
    request = Request(url=url, body=b"", headers=headers, method="GET")
    try:
        async with await transport.send(request, LIMIT) as response:
            status = response.status
    except ProviderError as error:
        return Check(name, "fail", blotted(error.message), f"curl -sS -m 3 {shown_url(url)}")
    if status in {401, 403} and endpoint.keys:
        return Check(name, "fail", f"key refused: HTTP {status}", _set_key(endpoint))
    return Check(name, "ok", f"HTTP {status} in {time.monotonic() - began:.2f} s")
