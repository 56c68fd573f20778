"""From a `Request` to bytes. What could smuggle in a second one is a `ValueError` before anything is sent."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from turnout.providers.base import Request

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_VISIBLE = re.compile(r"[!-~]+")
_CONTROLS = bytes(code for code in [*range(32), 127] if code != ord("\t"))
_METHODS = frozenset({"DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"})  # HEAD frames its reply otherwise
_BODILESS = frozenset({"DELETE", "GET", "OPTIONS"})
_FRAMING = frozenset(
    {"content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


class Origin(NamedTuple):
    """Where a connection leads."""

    secure: bool
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"


class Target(NamedTuple):
    """A URL taken apart."""

    origin: Origin
    line: str
    """The request line after its method, and the host header."""


@lru_cache(maxsize=1024)
def locate(url: str) -> Target:
    """Take a URL apart. Raises `ValueError`, which never quotes it: a query can hold a key."""
    if not _VISIBLE.fullmatch(url):
        raise ValueError("the URL holds a space, a control character or one beyond ASCII: percent-encode it")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("the URL must begin with http:// or https:// and name a host")
    if "@" in parts.netloc:
        raise ValueError("the URL must not hold a user name or password")
    secure = parts.scheme == "https"
    port = parts.port if parts.port is not None else 443 if secure else 80
    origin = Origin(secure, parts.hostname, port)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(origin, f" {path} HTTP/1.1\r\nhost: {parts.netloc.lower()}\r\n")


class _Shape(NamedTuple):
    """The names of a request's headers, checked once for every request that has the same."""

    template: str
    """The header lines, to be filled with the values."""
    lines: int
    connection: int
    """Which of them is `connection`; -1 if none is."""


@lru_cache(maxsize=1024)
def _shape(names: tuple[str, ...]) -> _Shape:
    lowered = [_lowered(name) for name in names]
    # asking for nothing (RFC 9110, 12.5.3) would allow any coding, and compressed event streams come late
    lines = [] if "accept-encoding" in lowered else ["accept-encoding: identity\r\n"]
    lines += [f"{name.replace('%', '%%')}: %s\r\n" for name in names]
    connection = lowered.index("connection") if "connection" in lowered else -1
    return _Shape("".join(lines), len(lines), connection)


def _lowered(name: str) -> str:
    lowered = name.lower()
    if not _TOKEN.fullmatch(name):
        raise ValueError("a header name holds a character that is not allowed there")
    if lowered in _FRAMING:
        raise ValueError(f"the header {lowered} is set by the transport itself")
    return lowered


def head_of(request: Request, target: Target) -> tuple[bytes, bool]:
    """The request's head, and whether it lets the connection live on. Its errors name no header value."""
    if request.method not in _METHODS:
        raise ValueError(f"the method must be one of {', '.join(sorted(_METHODS))}")
    shape = _shape(tuple(request.headers))
    values = tuple(request.headers.values())
    size = len(request.body)
    length = "" if not size and request.method in _BODILESS else f"content-length: {size}\r\n"
    text = f"{request.method}{target.line}{length}{shape.template % values}\r\n"
    if not text.isascii() and max(text) > "\xff":
        raise ValueError("a header value holds a character beyond Latin-1")
    head = text.encode("latin-1")
    lines = shape.lines + (4 if length else 3)
    if len(head.translate(None, _CONTROLS)) != len(head) - 2 * lines:
        raise ValueError("a header value holds a control character such as CR, LF or NUL")
    return head, shape.connection < 0 or values[shape.connection].strip().lower() == "keep-alive"
