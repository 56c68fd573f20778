"""What the author of a vendor's wire writes (`Codec`), and the author of a transport (`Transport`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from types import TracebackType

    from turnout.errors import ProviderError
    from turnout.providers.sse import Event
    from turnout.types import Answer, Call, Delta, Model, Usage


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds on the monotonic clock, each its own deadline; whichever passes first ends the exchange."""

    connect: float = 5.0
    """TCP and TLS together."""
    first_token: float = 60.0
    """From the call to the first token of a streamed answer; the engine's, no transport looks at it."""
    first_byte: float = 120.0
    """From the request's last byte to the first byte of the reply's head."""
    idle: float = 120.0
    """Between two reads of the body; a keep-alive comment or blank line re-arms it."""
    total: float = 120.0
    """From the call to the last byte, connecting and waiting for a connection included."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP exchange to make."""

    url: str
    body: bytes
    headers: dict[str, str]
    method: str = "POST"

    def __repr__(self) -> str:
        return f"<{self.method} {self.url}, {len(self.body)} bytes>"  # its headers hold a key


class Response(Protocol):
    """A reply whose head has come. Leaving it (`async with`) early closes the provider's connection."""

    status: int
    headers: Mapping[str, str]
    """Lower-case names."""

    async def read(self) -> bytes:
        """The whole body. Raises `ProviderTimeout`, `ConnectionLost` (cut short) or `OversizedReply`."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, decompressed. Raises as `read` does."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Transport(Protocol):
    """Carries bytes to a provider and back. It follows no redirect and retries nothing that was answered."""

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        """Send and wait for the head.

        Raises `ProviderTimeout`, `Unreachable`, `NameNotResolved`, `ConnectionLost` once the request was under way,
        `MalformedReply` for a head that is not HTTP, `EndpointMisconfigured` for a certificate that does not hold,
        and `ValueError` before anything is sent for a line break in a header or the URL.
        """
        ...

    async def close(self) -> None:
        """Give back every connection of the running loop."""
        ...


class StreamDecoder(Protocol):
    """Reads the events of one streamed answer."""

    upstream_model: str
    """What the provider calls itself; empty until it has said so."""
    usage: Usage | None
    """What has been reported so far."""
    ended: bool
    """The wire's own end has come: what follows is not part of the answer."""
    thinking_blocks: tuple[dict[str, Any], ...]
    """Anthropic's sealed thinking, those blocks that are complete."""

    def feed(self, event: Event) -> Sequence[Delta]:
        """What the event adds to the answer, often nothing. Raises the `ProviderError` that it reports or is."""
        ...


class Codec(Protocol):
    """Turns our call into one vendor's JSON and back; it opens no socket and knows no key."""

    path: str
    """Where chat lives, below the endpoint's base URL."""

    def encode(self, call: Call, model: Model, *, stream: bool = False) -> tuple[bytes, tuple[str, ...]]:
        """The request body, and the options this model does not take and that were left away.

        A streamed answer is asked to report its usage.
        """
        ...

    def decode(self, body: bytes, model: Model) -> Answer:
        """A 200's body. Raises `BlankReply`, `HtmlReply`, `MalformedReply`, `ServerFault` or `StreamTruncated`."""
        ...

    def decoder(self, model: Model) -> StreamDecoder:
        """What reads one streamed answer."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, model: Model) -> ProviderError:
        """What any other status means."""
        ...
