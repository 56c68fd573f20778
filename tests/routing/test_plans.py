"""Plans: who is tried in which order, who is left out and why, and what the caller hears."""

from __future__ import annotations

import tomllib
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout import registry
from turnout.errors import ConfigError, MissingKey
from turnout.routing.base import Facts, Obstacle, upstream
from turnout.routing.by_agent import ByAgent
from turnout.routing.pinned import Pinned
from turnout.settings import Settings
from turnout.types import Call, LeftOut, Options, Reason, Scope, Secret

if TYPE_CHECKING:
    from turnout.routing.base import Strategy, Upstream
    from turnout.types import Plan

BOTH = ("DEEPSEEK_API_KEY", "OPENAI_API_KEY")
TODAY, AFTER_MINI = date(2026, 11, 25), date(2027, 1, 14)
TOOLS = Options(tools=[{"type": "function", "function": {"name": "f"}}])
SCHEMA = Options(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {}}})
JSON = Options(response_format={"type": "json_object"})
TEXT = Options(response_format={"type": "text"})
PLAIN_MODEL = (
    '[models.plain]\nprovider = "openai"\nupstream = "plain"\n'
    "context_window = 1000\nmax_output = 100\ndefault_output = 10\n"
    '[tiers]\nchat = ["plain", "gpt-4o"]\n'
)
GONE = '[models.gpt-4o]\nretires_on = 2026-11-25\n[tiers]\nchat = ["gpt-4o", "gpt-6-luna"]\n'
NO_DEEPSEEK_KEY = "no key for DeepSeek: set DEEPSEEK_API_KEY"
NO_OPENAI_KEY = "no key for OpenAI: set OPENAI_API_KEY"
MINI_RETIRED = "gpt-4o-mini retired on 2027-01-14: gpt-6-luna stands in its place"


def facts(
    home: Path,
    *,
    keys: tuple[str, ...] = BOTH,
    disabled: tuple[str, ...] = (),
    toml: str = "",
    today: date = TODAY,
    least_tokens: int = 0,
    stand_ins: tuple[str, ...] = (),
    health: dict[Upstream, Obstacle] | None = None,
) -> Facts:
    """What a client with these keys and rows knows."""
    settings = Settings(
        home=home,
        keys={name: (Secret("k"),) for name in keys},
        disabled_providers=frozenset(disabled),
        tables=tomllib.loads(toml),
    )
    return Facts(
        registry=registry.load(settings),
        today=today,
        least_tokens=least_tokens,
        stand_ins=stand_ins,
        health=health or {},
    )


def call(**fields: Any) -> Call:
    """A call on behalf of an agent, the dojo unless told otherwise."""
    agent = fields.pop("agent", "dojo")
    options = fields.pop("options", Options())
    return Call(id="c", messages=b"[]", options=options, scope=Scope(agent=agent), **fields)


def names(plan: Plan) -> list[str]:
    """The models of a plan, in order."""
    return [model.name for model in plan.models]


@pytest.mark.parametrize(
    ("agent", "models", "why"),
    [
        ("dojo", ["deepseek-chat", "gpt-4o-mini", "gpt-6-luna"], "agent dojo: tier chat"),
        ("debugger", ["deepseek-reasoner", "gpt-4o-mini", "gpt-6-luna"], "agent debugger: tier reasoning"),
    ],
)
def test_the_tier_of_the_agent_in_order(tmp_path: Path, agent: str, models: list[str], why: str) -> None:
    """With every key the plan is the agent's tier, nobody left out and nothing to say."""
    plan = ByAgent().plan(call(agent=agent), facts(tmp_path))
    assert (names(plan), plan.why, plan.left_out, plan.notices) == (models, why, (), ())


@pytest.mark.parametrize(
    ("told", "asked", "models", "left_out"),
    [
        pytest.param(
            {"keys": ("OPENAI_API_KEY",)},
            {},
            ["gpt-4o-mini", "gpt-6-luna"],
            [LeftOut("deepseek-chat", Reason.NO_API_KEY, NO_DEEPSEEK_KEY, ahead=True)],
            id="no key, ahead",
        ),
        pytest.param(
            {"keys": ("DEEPSEEK_API_KEY",)},
            {},
            ["deepseek-chat"],
            [
                LeftOut("gpt-4o-mini", Reason.NO_API_KEY, NO_OPENAI_KEY),
                LeftOut("gpt-6-luna", Reason.NO_API_KEY, NO_OPENAI_KEY),
            ],
            id="no key, behind",
        ),
        pytest.param(
            {"disabled": ("deepseek",)},
            {},
            ["gpt-4o-mini", "gpt-6-luna"],
            [LeftOut("deepseek-chat", Reason.DISABLED, "DeepSeek is switched off", ahead=True)],
            id="disabled",
        ),
        pytest.param(
            {"disabled": ("deepseek",), "keys": ("OPENAI_API_KEY",)},
            {},
            ["gpt-4o-mini", "gpt-6-luna"],
            [LeftOut("deepseek-chat", Reason.DISABLED, "DeepSeek is switched off", ahead=True)],
            id="disabled is said before the missing key",
        ),
        pytest.param(
            {},
            {"options": SCHEMA},
            ["gpt-4o-mini", "gpt-6-luna"],
            [LeftOut("deepseek-chat", Reason.CAPABILITY, "it cannot do: json_schema", ahead=True)],
            id="json_schema",
        ),
        pytest.param(
            {"toml": PLAIN_MODEL},
            {"options": JSON},
            ["gpt-4o"],
            [LeftOut("plain", Reason.CAPABILITY, "it cannot do: json", ahead=True)],
            id="json_object",
        ),
        pytest.param({"toml": PLAIN_MODEL}, {"options": TEXT}, ["plain", "gpt-4o"], [], id="text"),
        pytest.param(
            {"toml": PLAIN_MODEL},
            {"options": TOOLS, "has_images": True},
            ["gpt-4o"],
            [LeftOut("plain", Reason.CAPABILITY, "it cannot do: tools, vision", ahead=True)],
            id="tools and vision",
        ),
        pytest.param(
            {"toml": '[tiers]\nchat = ["gpt-4o", "deepseek-v4-pro"]\n'},
            {"has_images": True},
            ["gpt-4o"],
            [LeftOut("deepseek-v4-pro", Reason.CAPABILITY, "it cannot do: vision")],
            id="vision, behind",
        ),
        pytest.param(
            {"least_tokens": 128_001},
            {},
            ["deepseek-chat", "gpt-6-luna"],
            [LeftOut("gpt-4o-mini", Reason.CONTEXT_OVERFLOW, "its window of 128,000 tokens is too small")],
            id="window too small",
        ),
        pytest.param(
            {"least_tokens": 128_000},
            {},
            ["deepseek-chat", "gpt-4o-mini", "gpt-6-luna"],
            [],
            id="window full",
        ),
        pytest.param(
            {"toml": GONE},
            {},
            ["gpt-6-luna"],
            [
                LeftOut(
                    "gpt-4o",
                    Reason.MODEL_RETIRED,
                    "retired on 2026-11-25, no successor is named",
                    ahead=True,
                )
            ],
            id="retired without a successor",
        ),
        pytest.param(
            {"toml": GONE, "today": date(2026, 11, 24)}, {}, ["gpt-4o", "gpt-6-luna"], [], id="the day before"
        ),
        pytest.param(
            {"keys": ("OPENAI_API_KEY",), "stand_ins": ("smollm2-135m",)},
            {"options": TOOLS},
            ["gpt-4o-mini", "gpt-6-luna"],
            [
                LeftOut("deepseek-chat", Reason.NO_API_KEY, NO_DEEPSEEK_KEY, ahead=True),
                LeftOut("smollm2-135m", Reason.CAPABILITY, "it cannot do: tools"),
            ],
            id="a stand-in that cannot",
        ),
        pytest.param(
            {"keys": (), "stand_ins": ("scripted",)},
            {},
            ["scripted"],
            [
                LeftOut("deepseek-chat", Reason.NO_API_KEY, NO_DEEPSEEK_KEY, ahead=True),
                LeftOut("gpt-4o-mini", Reason.NO_API_KEY, NO_OPENAI_KEY, ahead=True),
                LeftOut("gpt-6-luna", Reason.NO_API_KEY, NO_OPENAI_KEY, ahead=True),
            ],
            id="only a stand-in",
        ),
        pytest.param(
            {"stand_ins": ("scripted",)},
            {},
            ["deepseek-chat", "gpt-4o-mini", "gpt-6-luna", "scripted"],
            [],
            id="a stand-in behind",
        ),
    ],
)
def test_who_is_left_out(
    tmp_path: Path,
    told: dict[str, Any],
    asked: dict[str, Any],
    models: list[str],
    left_out: list[LeftOut],
) -> None:
    """Each model that cannot serve the call is left out with its reason, and said to be ahead if it was."""
    plan = ByAgent().plan(call(**asked), facts(tmp_path, **told))
    assert names(plan) == models
    assert list(plan.left_out) == left_out
    assert plan.notices == ()


@pytest.mark.parametrize(
    ("today", "models", "notices"),
    [
        (date(2027, 1, 13), ["deepseek-chat", "gpt-4o-mini", "gpt-6-luna"], ()),
        (date(2027, 1, 14), ["deepseek-chat", "gpt-6-luna"], (MINI_RETIRED,)),
        (date(2027, 1, 15), ["deepseek-chat", "gpt-6-luna"], (MINI_RETIRED,)),
    ],
)
def test_the_heir_of_a_retired_model(
    tmp_path: Path, today: date, models: list[str], notices: tuple[str, ...]
) -> None:
    """From its last day on, a model is replaced by its successor, once, and the caller hears so."""
    plan = ByAgent().plan(call(), facts(tmp_path, today=today))
    assert (names(plan), plan.left_out, plan.notices) == (models, (), notices)


def test_the_heir_of_an_heir(tmp_path: Path) -> None:
    """Where the successor has retired too, its own successor serves."""
    toml = '[models.gpt-6-luna]\nretires_on = 2027-01-01\nsuccessor = "gpt-4o"\n'
    plan = Pinned().plan(call(model="gpt-4o-mini"), facts(tmp_path, toml=toml, today=AFTER_MINI))
    assert names(plan) == ["gpt-4o"]
    assert plan.notices == ("gpt-4o-mini retired on 2027-01-14: gpt-4o stands in its place",)


def test_the_heir_cannot_serve_either(tmp_path: Path) -> None:
    """A successor that has retired without one of its own is left out by its own name."""
    toml = '[models.gpt-6-luna]\nretires_on = 2027-01-01\n[tiers]\nchat = ["deepseek-chat", "gpt-4o-mini"]\n'
    plan = ByAgent().plan(call(), facts(tmp_path, toml=toml, today=AFTER_MINI))
    why = "retired on 2027-01-01, no successor is named"
    assert plan.left_out == (LeftOut("gpt-6-luna", Reason.MODEL_RETIRED, why),)


def test_an_unknown_agent_is_served_as_the_default(tmp_path: Path) -> None:
    """An agent nobody registered gets the default agent's plan, and hears so."""
    plan = ByAgent().plan(call(agent="nobody"), facts(tmp_path))
    assert names(plan) == ["deepseek-chat", "gpt-4o-mini", "gpt-6-luna"]
    assert plan.why == "agent dojo: tier chat"
    assert plan.notices == ("there is no agent 'nobody': served as the default agent, dojo",)


def test_a_pinned_model_is_that_one_and_no_other(tmp_path: Path) -> None:
    """A model asked for by name is the whole plan; no stand-in stands behind it."""
    plan = Pinned().plan(call(model="gpt-4o"), facts(tmp_path, stand_ins=("scripted",)))
    assert names(plan) == ["gpt-4o"]
    assert (plan.why, plan.left_out, plan.notices) == ("model gpt-4o was asked for", (), ())


def test_a_pinned_model_that_has_retired(tmp_path: Path) -> None:
    """A retired model asked for by name is its successor, with a notice."""
    plan = Pinned().plan(call(model="gpt-4o-mini"), facts(tmp_path, today=AFTER_MINI))
    assert (names(plan), plan.notices) == (["gpt-6-luna"], (MINI_RETIRED,))


@pytest.mark.parametrize("model", ["gpt-5-maxi", None])
def test_an_unknown_pinned_model_gets_the_agents_plan(tmp_path: Path, model: str | None) -> None:
    """A name nobody registered is served by the agent's tier; the name is the first that was left out."""
    told = facts(tmp_path, keys=("OPENAI_API_KEY",), stand_ins=("scripted",))
    plan = Pinned().plan(call(model=model, agent="nobody"), told)
    notice = f"there is no model {model or ''!r}: agent dojo: tier chat instead"
    assert names(plan) == ["gpt-4o-mini", "gpt-6-luna", "scripted"]
    assert plan.why == notice
    assert plan.notices == (notice, "there is no agent 'nobody': served as the default agent, dojo")
    assert plan.left_out == (
        LeftOut(model or "", Reason.UNKNOWN_MODEL, "nobody registered it", ahead=True),
        LeftOut("deepseek-chat", Reason.NO_API_KEY, NO_DEEPSEEK_KEY, ahead=True),
    )


@pytest.mark.parametrize(
    ("strategy", "asked", "told", "text"),
    [
        (
            ByAgent(),
            {},
            {"keys": ()},
            f"deepseek-chat: {NO_DEEPSEEK_KEY}; gpt-4o-mini: {NO_OPENAI_KEY}; gpt-6-luna: {NO_OPENAI_KEY}",
        ),
        (
            ByAgent(),
            {},
            {"keys": (), "disabled": ("deepseek",)},
            f"deepseek-chat: DeepSeek is switched off; gpt-4o-mini: {NO_OPENAI_KEY}; gpt-6-luna: {NO_OPENAI_KEY}",
        ),
        (Pinned(), {"model": "gpt-4o"}, {"keys": ("DEEPSEEK_API_KEY",)}, f"gpt-4o: {NO_OPENAI_KEY}"),
        (
            Pinned(),
            {"model": "both"},
            {
                "keys": (),
                "toml": (
                    '[endpoints.openai]\nkey_vars = ["A_API_KEY", "B_API_KEY"]\n'
                    + PLAIN_MODEL.replace("models.plain", "models.both").replace('"plain", ', "")
                ),
            },
            "both: no key for OpenAI: set A_API_KEY or B_API_KEY",
        ),
    ],
)
def test_a_key_is_missing(
    tmp_path: Path, strategy: Strategy, asked: dict[str, Any], told: dict[str, Any], text: str
) -> None:
    """When nobody is left for want of a key, the error names each model and the variable to set."""
    with pytest.raises(MissingKey) as caught:
        strategy.plan(call(**asked), facts(tmp_path, **told))
    assert str(caught.value) == f"No key is configured for this provider: no model can be called ({text})"
    assert "put a key in the environment or in .env" in caught.value.hint


@pytest.mark.parametrize(
    ("asked", "told", "text"),
    [
        (
            {"model": "text-embedding-3-small"},
            {},
            "text-embedding-3-small: a model of kind embedding does not chat",
        ),
        ({"model": "deepseek-chat"}, {"disabled": ("deepseek",)}, "deepseek-chat: DeepSeek is switched off"),
        (
            {"model": "deepseek-chat", "options": SCHEMA},
            {},
            "deepseek-chat: it cannot do: json_schema",
        ),
        (
            {"model": "smollm2-135m"},
            {"least_tokens": 4_097},
            "smollm2-135m: its window of 4,096 tokens is too small",
        ),
        ({"model": "gpt-4o"}, {"toml": GONE}, "gpt-4o: retired on 2026-11-25, no successor is named"),
    ],
)
def test_nobody_can_serve_it(tmp_path: Path, asked: dict[str, Any], told: dict[str, Any], text: str) -> None:
    """When no key would help, the error says of each model why it cannot serve the call."""
    with pytest.raises(ConfigError) as caught:
        Pinned().plan(call(**asked), facts(tmp_path, **told))
    assert str(caught.value) == f"The configuration cannot be used: no model can serve this call ({text})"
    assert caught.value.hint == "see `turnout models` for what each can do"


@pytest.mark.parametrize("strategy", [ByAgent(), Pinned()])
@pytest.mark.parametrize("model", ["gpt-4o-mini", "nobody"])
def test_the_same_inputs_give_the_same_plan(tmp_path: Path, strategy: Strategy, model: str) -> None:
    """A plan depends on the call and the facts alone, also when both are made anew."""
    plans = [
        strategy.plan(
            call(model=model, agent="nobody"),
            facts(tmp_path, keys=("OPENAI_API_KEY",), today=AFTER_MINI, stand_ins=("scripted",)),
        )
        for _ in range(3)
    ]
    assert plans[0] == plans[1] == plans[2]


FLASH, MINI, LUNA = ("deepseek", "deepseek-flash"), ("openai", "gpt-4o-mini"), ("openai", "gpt-6-luna")
BUSY = Obstacle(Reason.BUSY, "7 calls are in flight")


def opened(seconds: float) -> Obstacle:
    """A circuit that is open for so long."""
    return Obstacle(Reason.CIRCUIT_OPEN, f"open for {seconds:g} s", seconds)


def benched(seconds: float) -> Obstacle:
    """A rest for so long."""
    return Obstacle(Reason.BENCHED, f"benched for {seconds:g} s", seconds)


@pytest.mark.parametrize(
    ("health", "models", "left_out", "why"),
    [
        pytest.param(
            {FLASH: opened(20)},
            ["gpt-4o-mini", "gpt-6-luna"],
            [LeftOut("deepseek-chat", Reason.CIRCUIT_OPEN, "open for 20 s", ahead=True)],
            "",
            id="open, ahead",
        ),
        pytest.param(
            {LUNA: benched(3)},
            ["deepseek-chat", "gpt-4o-mini"],
            [LeftOut("gpt-6-luna", Reason.BENCHED, "benched for 3 s")],
            "",
            id="benched, behind",
        ),
        pytest.param(
            {FLASH: BUSY},
            ["gpt-4o-mini", "gpt-6-luna", "deepseek-chat"],
            [LeftOut("deepseek-chat", Reason.BUSY, "7 calls are in flight", ahead=True)],
            "",
            id="busy goes behind",
        ),
        pytest.param(
            {FLASH: BUSY, MINI: BUSY, LUNA: BUSY},
            ["deepseek-chat", "gpt-4o-mini", "gpt-6-luna"],
            [],
            "",
            id="all busy",
        ),
        pytest.param(
            {FLASH: opened(1), MINI: BUSY, LUNA: benched(1)},
            ["gpt-4o-mini"],
            [
                LeftOut("deepseek-chat", Reason.CIRCUIT_OPEN, "open for 1 s", ahead=True),
                LeftOut("gpt-6-luna", Reason.BENCHED, "benched for 1 s"),
            ],
            "",
            id="busy is better than ill",
        ),
        pytest.param(
            {FLASH: opened(20), MINI: opened(30), LUNA: benched(9)},
            ["gpt-6-luna"],
            [
                LeftOut("deepseek-chat", Reason.CIRCUIT_OPEN, "open for 20 s", ahead=True),
                LeftOut("gpt-4o-mini", Reason.CIRCUIT_OPEN, "open for 30 s", ahead=True),
            ],
            "; nobody is well, so gpt-6-luna is asked though benched for 9 s",
            id="the soonest free stays",
        ),
        pytest.param(
            {FLASH: opened(9), MINI: opened(9), LUNA: opened(9)},
            ["deepseek-chat"],
            [
                LeftOut("gpt-4o-mini", Reason.CIRCUIT_OPEN, "open for 9 s"),
                LeftOut("gpt-6-luna", Reason.CIRCUIT_OPEN, "open for 9 s"),
            ],
            "; nobody is well, so deepseek-chat is asked though open for 9 s",
            id="of equals the first stays",
        ),
    ],
)
def test_who_is_not_well(
    tmp_path: Path, health: dict[Upstream, Obstacle], models: list[str], left_out: list[LeftOut], why: str
) -> None:
    """The ill are left out and the busy put behind, each with its reason; of none but ill ones the best stays."""
    plan = ByAgent().plan(call(), facts(tmp_path, health=health))
    assert (names(plan), list(plan.left_out)) == (models, left_out)
    assert plan.why == "agent dojo: tier chat" + why


def test_the_last_that_can_serve_stays_whatever_the_others_are(tmp_path: Path) -> None:
    """A model is the last one standing among those that can serve the call, not among all of the tier."""
    told = facts(tmp_path, keys=("DEEPSEEK_API_KEY",), health={FLASH: opened(20)})
    plan = ByAgent().plan(call(), told)
    assert names(plan) == ["deepseek-chat"]
    assert [out.reason for out in plan.left_out] == [Reason.NO_API_KEY, Reason.NO_API_KEY]


def test_a_pinned_model_is_asked_though_it_is_not_well(tmp_path: Path) -> None:
    """Who was asked for by name is always the last one standing, and the plan says what is known of it."""
    plan = Pinned().plan(call(model="gpt-4o-mini"), facts(tmp_path, health={MINI: opened(20)}))
    assert (names(plan), plan.left_out) == (["gpt-4o-mini"], ())
    assert (
        plan.why
        == "model gpt-4o-mini was asked for; nobody is well, so gpt-4o-mini is asked though open for 20 s"
    )


@cache
def shipped() -> Facts:
    """The shipped rows, read once."""
    return facts(Path(), stand_ins=("scripted",))


@given(
    st.dictionaries(
        st.sampled_from([FLASH, MINI, LUNA, ("scripted", "scripted"), ("moonshot", "nobody")]),
        st.one_of(st.just(BUSY), st.builds(opened, st.floats(0, 300)), st.builds(benched, st.floats(0, 300))),
    )
)
def test_health_never_empties_a_plan(health: dict[Upstream, Obstacle]) -> None:
    """Whoever is ill or busy: somebody is asked, nobody is lost, and the free come first in their order."""
    told = msgspec.structs.replace(shipped(), health=health)
    plan = ByAgent().plan(call(), told)
    tier = names(ByAgent().plan(call(), shipped()))
    assert names(plan)
    assert {*names(plan), *(out.model for out in plan.left_out)} == set(tier)
    free = [model.name for model in plan.models if upstream(model) not in health]
    assert names(plan)[: len(free)] == free == [name for name in tier if name in free]
    assert plan == ByAgent().plan(call(), told)
