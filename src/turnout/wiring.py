"""The composition root: the only file that names concrete classes."""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from turnout import current, plugins, registry
from turnout.attempt import Attempts
from turnout.blocking import SyncClient
from turnout.client import Engine
from turnout.clock import Clock
from turnout.embedding import Embedder
from turnout.errors import ConfigError
from turnout.fallback import Fallback
from turnout.hooks import Hook, Hooks
from turnout.providers import local, minilm
from turnout.providers.anthropic import AnthropicCodec
from turnout.providers.base import Timeouts
from turnout.providers.deepseek import DeepSeekCodec
from turnout.providers.openai import OpenAICodec
from turnout.providers.scripted import ScriptedTransport
from turnout.providers.transport import HttpTransport
from turnout.registry.reading import did_you_mean
from turnout.routing.by_agent import ByAgent
from turnout.routing.health import PATIENCE, Health
from turnout.routing.pinned import Pinned
from turnout.settings import Settings, load_settings
from turnout.storage import record as storage
from turnout.trace.privacy import Privacy
from turnout.trace.recorder import Recorder
from turnout.trace.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from turnout.providers.base import Codec, Transport
    from turnout.routing.base import Strategy
    from turnout.storage.reports import Reports
    from turnout.trace.otel import OtelExporter
    from turnout.types import Model

SHIPPED_CODECS: dict[str, Codec] = {
    "openai": OpenAICodec(),
    "deepseek": DeepSeekCodec(),
    "anthropic": AnthropicCodec(),
}


class LLMClient(Engine):
    """LLM calls by agent name, or by model.

    Settings come from the environment, `.env` and `turnout.toml` unless given. `transports` replaces those of
    the URL schemes it names (`https`, `http`, `local`, `minilm`, `scripted`); `hooks` run around every call; `record`
    takes the place of the one that the settings name. Close it, or use it as a context manager. Raises `ConfigError`
    when the settings or a registry row cannot be used.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        transports: Mapping[str, Transport] | None = None,
        hooks: Sequence[Hook] = (),
        record: storage.Record | None = None,
    ) -> None:
        self.settings = settings or load_settings()
        clock = Clock()
        rows = registry.load(plugins.with_agents(self.settings))
        codecs = SHIPPED_CODECS | plugins.codecs()
        _check_codecs(rows, codecs)
        self.transports: dict[str, Transport] = _transports(self.settings) | dict(transports or {})
        """By URL scheme."""
        self.record: storage.Record = record or storage.record(self.settings, clock)
        self._exporters = _exporters(self.settings)
        self.recorder = Recorder(self.record, clock, _privacy(self.settings), self._exporters)
        timeouts = Timeouts(
            connect=self.settings.connect_timeout,
            first_token=self.settings.first_token_timeout,
            idle=self.settings.idle_timeout,
            total=self.settings.timeout,
        )
        health = Health(clock, min(PATIENCE, self.settings.timeout / 10))
        attempts = Attempts(rows, codecs, self.transports, health, self.recorder, clock)
        super().__init__(
            rows,
            attempts,
            Fallback(timeouts, clock, health.obstacle),
            (_strategy(self.settings), Pinned()),
            _stand_ins(self.settings, rows),
            clock,
            Hooks(hooks),
        )
        self.embedder = Embedder(rows, attempts, timeouts, clock, _embeds(self.settings))
        self._sync: SyncClient | None = None

    @property
    def sync(self) -> SyncClient:
        """The blocking twin, over the same engine."""
        if self._sync is None:
            self._sync = SyncClient(self, self.close)
        return self._sync

    async def close(self) -> None:
        """Give back connections and end the local model's process."""
        for transport in self.transports.values():
            await transport.close()
        try:
            await asyncio.to_thread(self._close_record)
        except RuntimeError:  # the interpreter ends and lends no threads any more
            self._close_record()

    @property
    def reports(self) -> Reports:
        """What was recorded, by this process and others. Raises `ConfigError` when the store cannot be opened."""
        return self.record.reports

    def _close_record(self) -> None:
        for exporter in self._exporters:
            exporter.close()
        self.record.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _check_codecs(rows: registry.Registry, codecs: Mapping[str, Codec]) -> None:
    for name, row in rows.endpoints.items():
        if row.codec not in codecs:
            raise ConfigError(
                f"[endpoints.{name}]: no codec {row.codec!r}", hint=did_you_mean(row.codec, codecs)
            )


def _transports(settings: Settings) -> dict[str, Transport]:
    http = _http(settings)
    return {
        "http": http,
        "https": http,
        "local": local.LocalTransport(http, settings.model_file),
        "minilm": minilm.MiniLMTransport(),
        "scripted": ScriptedTransport(),
    }


def _http(settings: Settings) -> Transport:
    if settings.transport == "turnout":
        return HttpTransport()
    try:
        from turnout.providers.aiohttp_transport import AiohttpTransport  # noqa: PLC0415 - extra `proxy`
    except ImportError:
        raise ConfigError(
            'transport = "aiohttp" needs aiohttp', hint='pip install "turnout[proxy]"'
        ) from None
    return AiohttpTransport()


def _strategy(settings: Settings) -> Strategy:
    strategies: dict[str, Strategy] = {"by_agent": ByAgent(), **plugins.strategies()}
    if settings.strategy not in strategies:
        raise ConfigError(
            f"strategy: there is none named {settings.strategy!r}",
            hint=did_you_mean(settings.strategy, strategies),
        )
    return strategies[settings.strategy]


def _stand_ins(settings: Settings, rows: registry.Registry) -> tuple[str, ...]:
    """The keyless model behind every plan: in dev mode, which is also on while no tier has a model to call."""
    named = {name for tier in rows.agents.tiers.values() for name in tier}
    keyless = not any(rows.endpoints[rows.models[name].provider].callable for name in named)
    if not (keyless if settings.dev_mode is None else settings.dev_mode):
        return ()
    return ("smollm2-135m" if local.available(settings.model_file) is None else "scripted",)


def _privacy(settings: Settings) -> Privacy:
    """Capture levels by agent, and what is blotted out: every key that is configured, and the user's patterns."""
    levels = dict(settings.capture)
    keys = [key for found in settings.keys.values() for key in found]
    return Privacy(
        Redactor(keys, settings.redact),
        capture=levels.pop("default", "metadata"),
        agents=levels,
        ttl=settings.retention.get("bodies", 7) * 86_400,
    )


def _exporters(settings: Settings) -> list[OtelExporter]:
    if not settings.otel:
        return []
    try:
        from turnout.trace.otel import from_environment  # noqa: PLC0415 - extra `otel`
    except ImportError:
        raise ConfigError("otel = true needs OpenTelemetry", hint='pip install "turnout[otel]"') from None
    return [from_environment()]


def _embeds(settings: Settings) -> str | None:
    """The keyless embedding model, where it is installed and stand-ins are not forbidden."""
    return "minilm-l6-v2" if settings.dev_mode is not False and minilm.available() is None else None


def wire() -> LLMClient:
    """The process-wide client, closed at exit."""
    client, process = LLMClient(), os.getpid()

    def close() -> None:
        if os.getpid() == process:  # a forked child has neither its threads nor the right to its sockets
            client.sync.close()

    atexit.register(close)
    return client


class CurrentClient:
    """`turnout.llm_client`: the process-wide `LLMClient`, wired when first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(current.runtime(), name)

    def __repr__(self) -> str:
        return "<turnout.llm_client>"


class CurrentModels(Mapping[str, "Model"]):
    """`turnout.MODEL_REGISTRY`: every model row by name, read when first used."""

    def __getitem__(self, name: str) -> Model:
        return self._rows()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows())

    def __len__(self) -> int:
        return len(self._rows())

    def _rows(self) -> dict[str, Model]:
        rows: dict[str, Model] = current.runtime().registry.models
        return rows


def get_model_for_agent(agent: str) -> str:
    """The name of the model an agent is served by first; an unlisted agent has the default agent's."""
    name: str = current.runtime().registry.model_for_agent(agent)
    return name


def get_model_config(model: str) -> Model:
    """A model's row. Raises `ConfigError` with the nearest name when there is none."""
    row: Model = current.runtime().registry.model(model)
    return row
