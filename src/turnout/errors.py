"""Everything that can go wrong, as one tree. Each leaf's docstring is its message, each declares its verdict.

TurnoutError
├── ConfigError                 settings, a TOML row, a file: exit code 3
├── InvalidRequest              the caller's messages or options (also a ValueError): exit code 2
├── HookFailed                  a hook of the application broke and is not declared to fail open
├── BudgetExceeded              a limit says no: exit code 5
├── BudgetUnavailable           the store that keeps the budget is away
├── StoreFailed                 the store of the record cannot be used; the journal keeps what is written
├── NoSuchTrace                 nobody knows a trace of this id
├── AllProvidersFailed          every model of the plan was tried: exit code 6
└── ProviderError                                                   verdict
    ├── AuthError               401, 403                            next
    │   ├── MissingKey          no key configured                   next
    │   └── PaymentRequired     402, 429 for a spent quota         next
    ├── RateLimited             429                                 retry
    ├── ProviderTimeout         any deadline of ours, 408           retry
    ├── Unreachable             refused                             retry
    │   ├── NameNotResolved     DNS                                 retry
    │   └── ConnectionLost      reset, closed before the reply      retry
    ├── ServerFault             409, 5xx                            retry
    ├── BadReply                                                    retry
    │   ├── BlankReply          a 200 with nothing in it            retry
    │   ├── HtmlReply           a page where JSON is due            retry
    │   ├── MalformedReply      JSON that is not an answer          retry
    │   └── OversizedReply      more than we will hold              next
    ├── StreamTruncated         cut before its end                  retry
    ├── ModelRetired            400 or 404 naming the model         next
    ├── EndpointMisconfigured   404 with a page, a redirect         next
    ├── ContextOverflow         does not fit this window            wider
    └── RequestRejected         400, 404, 413, 422, policy          stop
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from turnout.types import Reason

if TYPE_CHECKING:
    from turnout.types import Attempt


class Verdict(Enum):
    """What a retry loop does about a failure."""

    RETRY = "another model now; this one may be tried again later"
    NEXT = "another model now; this one not again in this call"
    WIDER = "only a model with a larger window can help"
    STOP = "no model can help: tell the caller"


class TurnoutError(Exception):
    """Something went wrong in turnout."""

    def __init__(
        self,
        detail: str = "",
        *,
        hint: str = "",
        provider: str | None = None,
        status: int | None = None,
        attempts: tuple[Attempt, ...] = (),
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.provider = provider
        self.status = status
        self.attempts = attempts
        self.retry_after = retry_after
        self.request_id = request_id

    @property
    def message(self) -> str:
        """What happened and why, without who."""
        what = (type(self).__doc__ or type(self).__name__).strip().partition("\n")[0].rstrip(".")
        return f"{what}: {self.detail.rstrip('.')}" if self.detail else what

    def __str__(self) -> str:
        return f"{self.provider}: {self.message}" if self.provider else self.message


class ConfigError(TurnoutError):
    """The configuration cannot be used."""


class InvalidRequest(TurnoutError, ValueError):
    """The request cannot be sent."""


class HookFailed(TurnoutError):
    """A hook failed, so the call was not made or its answer not given."""


class BudgetExceeded(TurnoutError):
    """The budget does not allow this call."""


class BudgetUnavailable(TurnoutError):
    """The budget cannot be checked just now; try again."""


class StoreFailed(TurnoutError):
    """The store cannot be used."""


class NoSuchTrace(TurnoutError):
    """There is no such trace."""


class AllProvidersFailed(TurnoutError):
    """Every model of the plan failed."""

    def __str__(self) -> str:
        lines = [super().__str__()]
        lines += [
            f"  {number}. {attempt.model} ({attempt.provider}): {attempt.error} [{attempt.outcome}]"
            for number, attempt in enumerate(self.attempts, 1)
        ]
        return "\n".join(lines)


class ProviderError(TurnoutError):
    """The provider did not answer."""

    verdict: ClassVar[Verdict] = Verdict.RETRY
    reason: ClassVar[Reason] = Reason.API_ERROR
    sent: bool = True
    """The provider may have read the request: without a status of refusal its input is likely billed."""


class AuthError(ProviderError):
    """The provider refused our key."""

    verdict = Verdict.NEXT
    reason = Reason.AUTH_ERROR


class MissingKey(AuthError):
    """No key is configured for this provider."""

    sent = False
    reason = Reason.NO_API_KEY


class PaymentRequired(AuthError):
    """The provider wants to be paid first."""

    reason = Reason.PAYMENT_REQUIRED


class RateLimited(ProviderError):
    """The provider is at its rate limit."""

    reason = Reason.RATE_LIMIT


class ProviderTimeout(ProviderError):
    """The provider took too long."""

    reason = Reason.TIMEOUT


class Unreachable(ProviderError):
    """The provider could not be reached."""

    reason = Reason.CONNECT_ERROR
    sent = False


class NameNotResolved(Unreachable):
    """The provider's host name could not be resolved."""

    reason = Reason.DNS_ERROR


class ConnectionLost(Unreachable):
    """The connection broke before the provider's answer was whole."""

    sent = True


class ServerFault(ProviderError):
    """The provider had a fault of its own."""

    reason = Reason.SERVER_ERROR


class BadReply(ProviderError):
    """The provider's reply is not an answer."""

    reason = Reason.MALFORMED_REPLY


class BlankReply(BadReply):
    """The provider's reply is blank."""

    reason = Reason.BLANK_REPLY


class HtmlReply(BadReply):
    """The provider sent a web page instead of JSON."""

    reason = Reason.HTML_REPLY


class MalformedReply(BadReply):
    """The provider's reply cannot be read."""


class OversizedReply(BadReply):
    """The provider's reply is larger than we accept."""

    verdict = Verdict.NEXT
    reason = Reason.OVERSIZED_REPLY


class StreamTruncated(ProviderError):
    """The answer broke off before its end."""

    reason = Reason.TRUNCATED


class ModelRetired(ProviderError):
    """The provider no longer knows this model."""

    verdict = Verdict.NEXT
    reason = Reason.MODEL_RETIRED


class EndpointMisconfigured(ProviderError):
    """The provider's address does not lead to an API."""

    verdict = Verdict.NEXT
    reason = Reason.MISCONFIGURED
    sent = False


class ContextOverflow(ProviderError):
    """The conversation does not fit this model's window."""

    verdict = Verdict.WIDER
    reason = Reason.CONTEXT_OVERFLOW


class RequestRejected(ProviderError):
    """The provider rejected the request itself."""

    verdict = Verdict.STOP
    reason = Reason.REJECTED
