"""Flags > environment > .env > turnout.toml > defaults, in one frozen `Settings`: parsed once, passed down."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from dotenv import dotenv_values

from turnout import setting_values as parse
from turnout.errors import ConfigError
from turnout.types import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TABLES = frozenset({"models", "endpoints", "agents", "tiers", "prices", "schedules", "calendars"})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What this process was told. Deadlines are seconds."""

    home: Path
    file: Path | None = None
    """The turnout.toml that was read."""
    timeout: float = 120.0
    """One call in all, every attempt included."""
    connect_timeout: float = 5.0
    first_token_timeout: float = 60.0
    """Of a streamed answer; an answer in one piece has no first token to wait for."""
    idle_timeout: float = 60.0
    transport: Literal["turnout", "aiohttp"] = "turnout"
    """`aiohttp` (extra `proxy`) goes through the proxies of the environment."""
    strategy: str = "by_agent"
    """Who orders the models of an agent's call: ours, or one of the entry point `turnout.strategies`."""
    dev_mode: bool | None = None
    """The local model stands behind every plan; `None`: only while no provider can be called."""
    model_file: Path | None = None
    """A GGUF file for the local model instead of SmolLM2."""
    database_url: Secret | None = None
    """Where the record is kept: `sqlite:///...` or `postgresql://...`; `turnout.db` in the data folder when `None`."""
    durability: Literal["process", "power", "store"] = "process"
    """What a record has survived before its answer leaves: this process's end, a power cut, or the store's commit."""
    on_full: Literal["drop", "refuse"] = "drop"
    """What happens when there is no room for the record: it is counted and lost, or no new call begins."""
    spool_bytes: int = 1 << 30
    """How much may wait on this host for a store that is away."""
    capture: dict[str, Literal["off", "metadata", "full"]] = {}
    """How much is kept of what agents say and hear, by agent; `default` for the others, `metadata` without it."""
    redact: tuple[str, ...] = ()
    """Further regular expressions of what must not be kept."""
    retention: dict[str, int] = {}
    """Days: `bodies` (7), `events` (30), `costs` (400)."""
    otel: bool = False
    """Send spans by OTLP, as the `OTEL_*` variables say (extra `otel`)."""
    disabled_providers: frozenset[str] = frozenset()
    keys: dict[str, tuple[Secret, ...]] = {}
    """By variable name; several in one variable rotate."""
    base_urls: dict[str, str] = {}
    """By provider."""
    tables: dict[str, Any] = {}
    """The registry's part of turnout.toml, unchecked."""
    origins: dict[str, str] = {}
    """Where each value that is no default came from."""

    @property
    def file_name(self) -> str:
        """The file as errors name it."""
        return str(self.file) if self.file else "turnout.toml"


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Read every layer once. Raises `ConfigError` that names the layer, the value and the fix.

    `environ` and `folder` (where `.env` and `turnout.toml` are looked for) default to the process's own.
    """
    folder = folder or Path.cwd()
    env, sources = _environment(os.environ if environ is None else environ, folder / ".env")
    home = Path(env["TURNOUT_HOME"]) if env.get("TURNOUT_HOME") else _default_home(env)
    file = _find_file(env.get("TURNOUT_CONFIG"), folder, home)
    document = _read_file(file) if file else {}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def take(name: str, value: Any, origin: str) -> None:
        values[name], origins[name] = value, origin

    for name, value in document.items():
        if name not in TABLES:
            take(name, _PARSERS[name](value, f"{file}: {name}"), str(file))
    for name, variables in _VARIABLES.items():
        for variable in variables:
            if env.get(variable, "").strip():
                take(name, _PARSERS[name](env[variable], variable), f"{sources[variable]} ({variable})")
    for name, value in (flags or {}).items():
        if value is not None:
            take(name, _PARSERS[name](value, f"--{name.replace('_', '-')}"), "flag")
    disabled = frozenset() if values.pop("enable_deepseek", True) else frozenset({"deepseek"})
    return Settings(
        home=home,
        file=file,
        disabled_providers=disabled,
        keys=_keys(env),
        base_urls=_base_urls(env),
        tables={name: table for name, table in document.items() if name in TABLES},
        origins=origins,
        **values,
    )


def _environment(environ: Mapping[str, str], dotenv: Path) -> tuple[dict[str, str], dict[str, str]]:
    env, sources = {}, {}
    if dotenv.is_file():
        for name, value in _dotenv(dotenv).items():
            if value is not None:
                env[name], sources[name] = value, ".env"
    for name, value in environ.items():
        env[name], sources[name] = value, "environment"
    return env, sources


def _dotenv(file: Path) -> dict[str, str | None]:
    try:
        return dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} cannot be read: {error}", hint="save it as UTF-8 text, NAME=value a line"
        ) from None


def _base_urls(env: Mapping[str, str]) -> dict[str, str]:
    urls = {}
    for variable, url in env.items():
        if variable.endswith("_BASE_URL") and url.strip():
            if "@" in url.partition("://")[2].partition("/")[0]:
                name = variable.removesuffix("_BASE_URL")
                raise ConfigError(f"{variable} has a user in it", hint=f"put the key in {name}_API_KEY")
            urls[variable.removesuffix("_BASE_URL").lower()] = url.strip()
    return urls


def _default_home(env: Mapping[str, str]) -> Path:
    data = env.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "turnout"


def _keys(env: Mapping[str, str]) -> dict[str, tuple[Secret, ...]]:
    """`<NAME>_API_KEY`: one key, or several with commas or line breaks between; `<NAME>_API_KEY_FILE`: such a file."""
    keys: dict[str, tuple[Secret, ...]] = {}
    for variable, text in env.items():
        name = variable.removesuffix("_FILE")
        if not name.endswith("_API_KEY") or not text.strip():
            continue
        if name != variable:
            try:
                text = Path(text).read_text(encoding="utf-8")  # noqa: PLW2901
            except (OSError, UnicodeDecodeError):
                raise ConfigError(
                    f"{variable} names a file that cannot be read",
                    hint=f"correct the path, or set {name} itself",
                ) from None
        # `sk-...` is how .env.example and most documentation write "put your key here".
        found = tuple(Secret(word) for word in re.split(r"[,\s]+", text) if word and not word.endswith("..."))
        keys[name] = keys.get(name, ()) + found
    return {name: found for name, found in keys.items() if found}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name too long for the file system
        return False


def _find_file(named: str | None, folder: Path, home: Path) -> Path | None:
    if named:
        file = Path(named)
        if not _is_file(file):
            raise ConfigError(
                f"TURNOUT_CONFIG names {named}, which is not a file",
                hint="correct the path, or unset TURNOUT_CONFIG",
            )
        return file
    return next((file for file in (folder / "turnout.toml", home / "turnout.toml") if file.is_file()), None)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}", hint="correct that line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", hint="check the file and its rights") from None
    known = TABLES | _PARSERS.keys()
    for name, value in document.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(sorted(known))}"
            raise ConfigError(f"{file}: unknown key {name!r}", hint=hint)
        shape = list if name == "prices" else dict
        if name in TABLES and not isinstance(value, shape):
            brackets = "[[prices]]" if name == "prices" else f"[{name}]"
            raise ConfigError(
                f"{file}: {name} must be a table", hint=f"write {brackets} on a line of its own"
            )
    return document


_PARSERS: dict[str, Callable[[Any, str], Any]] = {
    "transport": parse.one_of("turnout", "aiohttp"),
    "database_url": lambda value, _: Secret(str(value)),
    "durability": parse.one_of("process", "power", "store"),
    "on_full": parse.one_of("drop", "refuse"),
    "spool_bytes": parse.size,
    "capture": parse.capture,
    "redact": parse.patterns,
    "retention": parse.retention,
    "otel": parse.truth,
    "strategy": lambda value, _: str(value),
    "timeout": parse.seconds,
    "connect_timeout": parse.seconds,
    "first_token_timeout": parse.seconds,
    "idle_timeout": parse.seconds,
    "dev_mode": parse.truth,
    "enable_deepseek": parse.truth,
    "model_file": parse.model_file,
}
# The last one that is set wins.
_VARIABLES: dict[str, tuple[str, ...]] = {
    "transport": ("TURNOUT_TRANSPORT",),
    "database_url": ("TURNOUT_DATABASE_URL",),
    "durability": ("TURNOUT_DURABILITY",),
    "on_full": ("TURNOUT_ON_FULL",),
    "spool_bytes": ("TURNOUT_SPOOL_BYTES",),
    "capture": ("TURNOUT_CAPTURE",),
    "otel": ("TURNOUT_OTEL",),
    "strategy": ("TURNOUT_STRATEGY",),
    "timeout": ("TURNOUT_TIMEOUT",),
    "connect_timeout": ("TURNOUT_CONNECT_TIMEOUT",),
    "first_token_timeout": ("TURNOUT_FIRST_TOKEN_TIMEOUT",),
    "idle_timeout": ("TURNOUT_IDLE_TIMEOUT",),
    "dev_mode": ("NEXT_PUBLIC_DEV_MODE", "TURNOUT_DEV_MODE"),
    "enable_deepseek": ("ENABLE_DEEPSEEK",),
    "model_file": ("TURNOUT_MODEL_FILE",),
}
