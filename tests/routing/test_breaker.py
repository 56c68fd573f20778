"""The circuit: what counts against a provider, when it opens, for how long, and what closes it."""

from __future__ import annotations

import pytest

from turnout import errors
from turnout.routing.breaker import Breaker, Sign, sign_of


@pytest.mark.parametrize(
    ("error", "sign"),
    [
        (None, Sign.WELL),
        (errors.ProviderTimeout(), Sign.FAULT),
        (errors.ProviderTimeout(status=408), Sign.FAULT),
        (errors.Unreachable(), Sign.FAULT),
        (errors.NameNotResolved(), Sign.FAULT),
        (errors.ServerFault(status=503), Sign.FAULT),
        (errors.BlankReply(), Sign.FAULT),
        (errors.HtmlReply(status=400), Sign.FAULT),
        (errors.MalformedReply(), Sign.FAULT),
        (errors.OversizedReply(), Sign.FAULT),
        (errors.StreamTruncated(), Sign.FAULT),
        (errors.ProviderError("a plug-in's own"), Sign.FAULT),
        (errors.AuthError(status=401), Sign.REFUSAL),
        (errors.PaymentRequired(status=402), Sign.REFUSAL),
        (errors.PaymentRequired(status=429), Sign.REFUSAL),
        (errors.EndpointMisconfigured(status=404), Sign.REFUSAL),
        (errors.AuthError(status=403), Sign.FAULT),
        (errors.AuthError(status=451), Sign.FAULT),
        (errors.RateLimited(status=429), Sign.PRESSURE),
        (errors.MissingKey(), Sign.NOTHING),
        (errors.ModelRetired(status=400), Sign.NOTHING),
        (errors.ContextOverflow(status=400), Sign.NOTHING),
        (errors.RequestRejected(status=422), Sign.NOTHING),
    ],
    ids=repr,
)
def test_what_an_error_says_about_its_provider(error: errors.ProviderError | None, sign: Sign) -> None:
    """Faults of the provider count, those that hold for everybody at once; the caller's and pressure do not."""
    assert sign_of(error) is sign


def test_a_hurried_callers_timeout_says_nothing() -> None:
    """A deadline that was too short counts against nobody, unless the provider itself says 408."""
    assert sign_of(errors.ProviderTimeout(), hurried=True) is Sign.NOTHING
    assert sign_of(errors.ProviderTimeout(status=408), hurried=True) is Sign.FAULT
    assert sign_of(errors.ServerFault(status=500), hurried=True) is Sign.FAULT


def opened(at: float = 0.0) -> Breaker:
    """A circuit that opened at that time, for 30 seconds."""
    breaker = Breaker()
    assert breaker.tell(Sign.REFUSAL, at, era=breaker.era, probe=False)
    return breaker


def test_five_faults_in_a_row_open_it() -> None:
    """Four do not, and a success between starts the count anew."""
    breaker = Breaker()
    signs = [Sign.FAULT] * 4 + [Sign.WELL] + [Sign.FAULT] * 4
    assert not any(breaker.tell(sign, 0.0, era=0, probe=False) for sign in signs)
    assert (breaker.state(0.0), breaker.faults) == ("closed", 4)
    assert breaker.tell(Sign.FAULT, 0.0, era=0, probe=False)
    assert (breaker.state(0.0), breaker.left(0.0), breaker.ejected) == ("open", 30.0, 1)


@pytest.mark.parametrize("sign", [Sign.PRESSURE, Sign.NOTHING])
def test_what_is_no_fault_does_not_count(sign: Sign) -> None:
    """Neither pressure nor the caller's errors open it, nor do they wipe out the faults around them."""
    breaker = Breaker()
    for _ in range(4):
        breaker.tell(Sign.FAULT, 0.0, era=0, probe=False)
    for _ in range(50):
        assert not breaker.tell(sign, 0.0, era=0, probe=False)
    assert (breaker.state(0.0), breaker.faults) == ("closed", 4)


def test_one_probe_at_a_time() -> None:
    """Nobody probes an open circuit, one a half-open one, and the next only when the first said nothing."""
    breaker = opened()
    assert not breaker.claim(29.9)
    assert (breaker.state(30.0), breaker.claim(30.0), breaker.claim(30.0)) == ("half_open", True, False)
    breaker.tell(Sign.PRESSURE, 31.0, era=breaker.era, probe=True)
    assert (breaker.state(31.0), breaker.claim(31.0)) == ("half_open", True)


def test_the_probes_success_closes_it() -> None:
    """One success is enough, and then faults count from nought."""
    breaker = opened()
    breaker.claim(30.0)
    assert breaker.tell(Sign.WELL, 30.0, era=breaker.era, probe=True)
    assert (breaker.state(30.0), breaker.faults, breaker.probing, breaker.closed) == (
        "closed",
        0,
        False,
        True,
    )


def test_each_failed_probe_opens_it_for_longer() -> None:
    """30 seconds more each time, five minutes at most."""
    breaker, now, seen = opened(), 0.0, []
    for _ in range(12):
        seen.append(breaker.left(now))
        now += breaker.left(now)
        assert breaker.claim(now)
        assert breaker.tell(Sign.FAULT, now, era=breaker.era, probe=True)
    assert seen == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]


@pytest.mark.parametrize(("good", "ejected"), [(299.0, 2), (300.0, 1)])
def test_earlier_openings_are_forgotten_after_good_minutes(good: float, ejected: int) -> None:
    """An opening within five minutes of the last closing is longer than the first; a later one is the first again."""
    breaker = opened()
    breaker.claim(30.0)
    breaker.tell(Sign.WELL, 30.0, era=breaker.era, probe=True)
    breaker.tell(Sign.REFUSAL, 30.0 + good, era=breaker.era, probe=False)
    assert (breaker.ejected, breaker.left(30.0 + good)) == (ejected, 30.0 * ejected)


def test_who_is_let_through_beside_the_probe_can_close_it_and_nothing_else() -> None:
    """The last one standing is asked though its circuit is open: its answers count, its faults tell nothing new."""
    breaker = opened()
    for now in (1.0, 31.0):
        breaker.tell(Sign.FAULT, now, era=breaker.era, probe=False)
    assert (breaker.left(1.0), breaker.state(31.0), breaker.ejected) == (29.0, "half_open", 1)
    assert breaker.tell(Sign.WELL, 31.0, era=breaker.era, probe=False)
    assert breaker.state(31.0) == "closed"


def test_news_from_before_the_turn_is_stale() -> None:
    """What began before the circuit opened neither closes it nor opens it again after it has closed."""
    breaker = Breaker()
    before = breaker.era
    breaker.tell(Sign.REFUSAL, 0.0, era=before, probe=False)
    assert not breaker.tell(Sign.WELL, 1.0, era=before, probe=False)
    assert breaker.state(1.0) == "open"
    between = breaker.era
    breaker.claim(30.0)
    breaker.tell(Sign.WELL, 30.0, era=between, probe=True)
    for _ in range(50):
        assert not breaker.tell(Sign.FAULT, 31.0, era=before, probe=False)
        assert not breaker.tell(Sign.FAULT, 31.0, era=between, probe=True)
    assert (breaker.state(31.0), breaker.faults) == ("closed", 0)
