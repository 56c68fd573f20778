"""Provider rows: where an API is reached, how it wants its key, and which codec speaks to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from turnout.errors import ConfigError
from turnout.registry.reading import check, overlay, shipped
from turnout.types import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.settings import Settings

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SCHEMES = frozenset({"http", "https", "local", "minilm", "scripted"})


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `endpoints.toml`, bound to this process's settings."""

    name: str
    title: str
    base_url: str
    codec: str
    path: str = ""
    """Appended to a `<NAME>_BASE_URL` that has no path of its own."""
    key_vars: tuple[str, ...] = ()
    keys_at: str = ""
    needs_key: bool = True
    auth_header: str = "authorization"
    auth_prefix: str = "Bearer "
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    thinking: dict[str, dict[str, Any]] = {}
    """Fields of the body for each value of `Options.thinking`; a model's own table wins."""
    reports_cost: bool = False
    """All its models report what an answer cost."""
    source: str = ""
    enabled: bool = True
    keys: tuple[Secret, ...] = ()

    @property
    def callable(self) -> bool:
        """A call may be tried: it is switched on and has a key, or needs none."""
        return self.enabled and (bool(self.keys) or not self.needs_key)


def load(settings: Settings) -> dict[str, Endpoint]:
    """All endpoints by name. Raises `ConfigError`."""
    rows = overlay(
        shipped("endpoints.toml")["endpoints"],
        settings.tables.get("endpoints", {}),
        table="endpoints",
        file=settings.file_name,
    )
    return {name: _bind(name, row, settings) for name, row in rows.items()}


def _bind(name: str, row: Mapping[str, Any], settings: Settings) -> Endpoint:
    endpoint = check({"name": name, **row}, Endpoint, where=f"[endpoints.{name}]")
    variable = name.replace("-", "_").upper()
    url = settings.base_urls.get(variable.lower())
    if url is not None:
        url = url.rstrip("/")
        _, _, rest = url.partition("://")
        bare = bool(rest) and "/" not in rest
        endpoint = msgspec.structs.replace(endpoint, base_url=url + endpoint.path if bare else url)
    host = _host(endpoint.base_url)
    if host is None:
        raise ConfigError(
            f"[endpoints.{name}] base_url {endpoint.base_url!r} is not an address",
            hint=f"write it like https://api.example.com/v1, in the row or in {variable}_BASE_URL",
        )
    return msgspec.structs.replace(
        endpoint,
        enabled=endpoint.enabled and name not in settings.disabled_providers,
        needs_key=endpoint.needs_key and host not in LOOPBACK,
        keys=tuple(key for var in endpoint.key_vars for key in settings.keys.get(var, ())),
    )


def _host(url: str) -> str | None:
    """The host, empty for a scheme of ours that needs none; `None` when this is no address."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    if parts.scheme not in SCHEMES or (parts.scheme.startswith("http") and not parts.hostname):
        return None
    return parts.hostname or ""
