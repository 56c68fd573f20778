"""`turnout doctor`: every check in each of its states, its exit codes, and never a key."""

from __future__ import annotations

import json
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from llmock.testing import LLMockServer

from tests.toxic import ToxicThread, refused_url
from turnout import registry
from turnout.cli import doctor
from turnout.cli.doctor import Check
from turnout.clock import Clock
from turnout.errors import ConfigError
from turnout.registry.endpoints import Endpoint
from turnout.settings import Settings, load_settings
from turnout.storage import address
from turnout.storage.record import DiskRecord
from turnout.types import Event, Kind, Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from tests.conftest import Turnout

CANARY = "sk-canary-1f2e3d4c5b6a"
TODAY = date(2026, 11, 25)
KEYS = {"DEEPSEEK_API_KEY": CANARY, "OPENAI_API_KEY": CANARY}
SOUND = "[models.gpt-4o-mini]\nretires_on = 9999-01-01\n[calendars.china]\ncovers = [{years}]\n"
FRESH = (
    '[[prices]]\nmodels = ["deepseek-chat", "deepseek-reasoner", "deepseek-v4-pro", "gpt-4o-mini", "gpt-4o", '
    '"gpt-6-luna", "text-embedding-3-small"]\nfrom = 2020-01-01T00:00:00Z\ninput = "1"\noutput = "1"\n'
    'source = "this test"\nchecked = 9998-01-01\n'
)
MYSTERY = (
    '[models.mystery]\nprovider = "openai"\nupstream = "m"\ncontext_window = 1000\nmax_output = 10\n'
    "default_output = 10\nretires_on = 2020-01-01\n"
)


@pytest.fixture
def sound(tmp_path: Path) -> str:
    """A turnout.toml with which no check depends on the day of the test."""
    years = ", ".join(map(str, range(2026, 2200)))
    text = SOUND.format(years=years) + FRESH
    (tmp_path / "turnout.toml").write_text(text)
    return text


def checks(done: CompletedProcess[str]) -> dict[str, Check]:
    """What `doctor --json` printed, by name."""
    assert done.stderr == ""
    return {row["name"]: Check(**row) for row in json.loads(done.stdout)["checks"]}


def rows(tmp_path: Path, text: str = "", **env: str) -> tuple[Settings, registry.Registry]:
    """Settings and registry of a turnout.toml."""
    (tmp_path / "turnout.toml").write_text(text)
    settings = load_settings(environ={"TURNOUT_HOME": str(tmp_path / "home"), **env}, folder=tmp_path)
    return settings, registry.load(settings)


def endpoint(*, key_vars: tuple[str, ...] = ("VENDOR_API_KEY",), **fields: object) -> Endpoint:
    """A vendor's row."""
    row = Endpoint(
        name="my-vendor", title="V", base_url="https://v.example", codec="openai", key_vars=key_vars
    )
    return msgspec.structs.replace(row, **fields)


def test_all_is_well(turnout: Turnout, sound: str) -> None:
    """With keys and a fresh registry every line is ✓, nothing is to fix, and even --strict ends with 0."""
    done = turnout("doctor", "--strict", **KEYS)
    assert done.returncode == 0, done.stdout
    assert {line[0] for line in done.stdout.splitlines()} == {"✓"}
    document = json.loads(turnout("doctor", "--json", **KEYS).stdout)
    assert document["state"] == "ok"
    assert set(document["checks"][0]) == {"name", "state", "what", "fix"}
    assert [row["name"] for row in document["checks"]] == [
        "python",
        "configuration",
        "provider:deepseek",
        "provider:openai",
        "other providers",
        "local model",
        "prices",
        "model:deepseek-chat",
        "model:gpt-4o-mini",
        "model:gpt-6-luna",
        "model:deepseek-reasoner",
        "calendar:china",
        "home",
        "record",
        "versions",
    ]


def test_a_warning(turnout: Turnout, sound: str) -> None:
    """A missing key is a warning with its fix: exit code 0, and 7 with --strict."""
    done = turnout("doctor", OPENAI_API_KEY=CANARY)
    assert done.returncode == 0
    line = "! provider:deepseek        not callable: DEEPSEEK_API_KEY is not set\n    fix: read -rs DEEPSEEK_API_KEY"
    assert line in done.stdout
    strict = turnout("doctor", "--strict", "--json", OPENAI_API_KEY=CANARY)
    assert strict.returncode == 7
    assert json.loads(strict.stdout)["state"] == "warn"


def test_a_failure(inside: Turnout, sound: str, tmp_path: Path) -> None:
    """A home folder that cannot be made fails: exit code 1, in strict mode too, and nothing is made."""
    (tmp_path / "file").write_text("")
    for args in (("doctor",), ("doctor", "--strict")):
        done = inside(*args, TURNOUT_HOME=str(tmp_path / "file" / "home"))
        assert done.returncode == 1
        assert (
            f"✗ home                     {tmp_path / 'file'} is no folder we may write\n    fix: "
            in done.stdout
        )
    inside("doctor")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("text", "env", "says", "known"),
    [
        ("timeout = ", {}, "is not TOML", "provider:deepseek"),
        ('[models.gpt-4o]\nupstrem = "x"', {}, "did you mean 'upstream'?", "provider:openai"),
        ("", {"TURNOUT_TIMEOUT": "soon"}, "'soon' is not a time", "provider:openai"),
        ("", {"DEEPSEEK_BASE_URL": "ftp://h"}, "is not an address", "provider:openai"),
        ('[endpoints.openai]\ncodec = "opneai"', {}, "no codec 'opneai'", "provider:openai"),
    ],
)
def test_a_configuration_that_does_not_load(
    inside: Turnout, tmp_path: Path, text: str, env: dict[str, str], says: str, known: str
) -> None:
    """The error stands in its line with the fix, what can be known is checked all the same, and the exit code is 3."""
    (tmp_path / "turnout.toml").write_text(text)
    done = inside("doctor", "--json", "--reach", **KEYS, **env)
    assert done.returncode == 3
    found = checks(done)
    assert found["configuration"].state == "fail"
    assert says in found["configuration"].what + found["configuration"].fix
    assert found["configuration"].fix.endswith("; then: turnout config check")
    assert {found[name].state for name in ("python", "local model", "home", "versions", known)} == {"ok"}
    assert "prices" not in found
    assert not any(name.startswith("reach") for name in found)


def test_nothing_can_be_known(turnout: Turnout, tmp_path: Path) -> None:
    """Where even the home's own turnout.toml is broken, the machine's own checks are left."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "turnout.toml").write_text("timeout = ")
    done = turnout("doctor", "--json")
    assert done.returncode == 3
    assert list(checks(done)) == ["python", "configuration", "local model", "versions"]


def test_python() -> None:
    """3.11 will do; anything older fails."""
    assert doctor.python((3, 11, 0)).state == "ok"
    old = doctor.python((3, 10, 14))
    assert (old.state, old.what) == ("fail", "3.10.14 is older than 3.11")
    assert old.fix


def test_configuration() -> None:
    """The file that was read is named."""
    settings = Settings(home=Path("home"), file=Path("turnout.toml"))
    assert doctor.configuration(settings, None) == Check("configuration", "ok", "turnout.toml")
    broken = doctor.configuration(None, ConfigError("bad", hint="mend it"))
    assert broken.fix == "mend it; then: turnout config check"


def test_provider() -> None:
    """A provider is callable with keys that are counted or not needed, or has none, or is switched off."""
    secrets = (Secret(CANARY), Secret("sk-two"))
    whole = doctor.provider(endpoint(keys=secrets, base_url="https://u:p@v.example/v1"))
    what = "callable at https://v.example/v1, keys: 2 in VENDOR_API_KEY"
    assert whole == Check("provider:my-vendor", "ok", what)
    assert doctor.provider(endpoint(needs_key=False)).what.endswith("keys: none needed")
    missing = doctor.provider(endpoint(key_vars=("A_API_KEY", "B_API_KEY")))
    assert (missing.state, missing.what) == ("warn", "not callable: A_API_KEY or B_API_KEY is not set")
    assert missing.fix == "read -rs A_API_KEY && export A_API_KEY"
    known = doctor.provider(endpoint(keys_at="https://v.example/keys"))
    assert known.fix.endswith("export VENDOR_API_KEY  # https://v.example/keys")
    unnamed = doctor.provider(endpoint(key_vars=()))
    assert unnamed.what == "not callable: its row names no key_vars"
    assert unnamed.fix.endswith('write key_vars = ["OF_YOURS_API_KEY"]')
    off = doctor.provider(endpoint(enabled=False))
    assert off.what == "not callable: it is switched off"
    assert off.fix == "under [endpoints.my-vendor] in turnout.toml write enabled = true"


def test_providers(tmp_path: Path) -> None:
    """A provider without a key that no tier names is no warning; it is named among the others."""
    _, known = rows(tmp_path)
    rest = endpoint()
    found = list(doctor.providers([known.endpoints["openai"], rest], known))
    assert [(check.name, check.state) for check in found] == [
        ("provider:openai", "warn"),
        ("other providers", "ok"),
    ]
    assert found[1].what.endswith("in no tier: my-vendor")
    called = endpoint(keys=(Secret(CANARY),))
    assert [check.name for check in doctor.providers([called], known)] == ["provider:my-vendor"]
    assert [check.name for check in doctor.providers([rest], None)] == ["provider:my-vendor"]


def test_deepseek_switched_off(inside: Turnout) -> None:
    """ENABLE_DEEPSEEK=false is said, with the way back."""
    found = checks(inside("doctor", "--json", ENABLE_DEEPSEEK="false", **KEYS))["provider:deepseek"]
    assert (found.state, found.what) == ("warn", "not callable: it is switched off")
    assert found.fix.endswith("export ENABLE_DEEPSEEK=true")


def test_local_model() -> None:
    """What keeps the local model from running is split into what is wrong and what to do."""
    assert doctor.local_model(None).state == "ok"
    missing = doctor.local_model('The local model needs xllamacpp: pip install "turnout[local]".')
    assert missing.what == "The local model needs xllamacpp"
    assert missing.fix == 'pip install "turnout[local]"'


def test_prices(tmp_path: Path) -> None:
    """A callable model's newest price may be 90 days old; keyless models and stand-ins do not count."""
    _, keyless = rows(tmp_path)
    assert doctor.prices(keyless, date(2036, 1, 1)).state == "ok"
    _, keyed = rows(tmp_path, MYSTERY, OPENAI_API_KEY=CANARY)
    newest = max(row.checked for row in keyed.prices.rows("gpt-4o"))
    found = doctor.prices(keyed, date.fromordinal(newest.toordinal() + 90))
    assert found.what == "stale or unknown: mystery (no price)"
    found = doctor.prices(keyed, date.fromordinal(newest.toordinal() + 91))
    assert f"gpt-4o (checked {newest})" in found.what
    assert "deepseek" not in found.what
    assert "smollm2" not in found.what
    assert "[[prices]]" in found.fix


@pytest.mark.parametrize(
    ("day", "state", "what"),
    [
        (date(2027, 1, 14), "warn", "retired on 2027-01-14; successor: gpt-6-luna"),
        (date(2027, 1, 13), "warn", "retires on 2027-01-14; successor: gpt-6-luna"),
        (date(2026, 10, 16), "warn", "retires on 2027-01-14; successor: gpt-6-luna"),
        (date(2026, 10, 15), "ok", "ends on 2027-01-14"),
    ],
)
def test_retirements(tmp_path: Path, day: date, state: str, what: str) -> None:
    """From 90 days before its end a model of a tier is a warning, with the tiers as they should be."""
    text = '[models.gpt-4o-mini]\nretires_on = 2027-01-14\nsuccessor = "gpt-6-luna"\n'
    text += '[tiers]\nchat = ["deepseek-chat", "gpt-4o-mini", "gpt-6-luna"]\nreasoning = ["gpt-4o-mini"]\n'
    text += 'long = ["gpt-6-luna"]\n'
    found = {check.name: check for check in doctor.retirements(rows(tmp_path, text)[1], day)}
    assert found["model:deepseek-chat"] == Check("model:deepseek-chat", "ok", "has no end")
    ends = found["model:gpt-4o-mini"]
    assert (ends.state, ends.what) == (state, what)
    lines = 'chat = ["deepseek-chat", "gpt-6-luna"] and reasoning = ["gpt-6-luna"]'
    assert ends.fix == ("" if state == "ok" else f"under [tiers] in turnout.toml write {lines}")


def test_a_retirement_without_successor(tmp_path: Path) -> None:
    """A model that ends without an heir leaves its tiers; an empty tier wants another model."""
    text = MYSTERY + '[tiers]\nchat = ["mystery", "gpt-6-luna"]\nreasoning = ["mystery"]\n'
    found = next(doctor.retirements(rows(tmp_path, text)[1], TODAY))
    assert found.what == "retired on 2020-01-01; successor: none"
    assert found.fix.endswith('chat = ["gpt-6-luna"] and reasoning = [a model that stays]')


def test_calendars(tmp_path: Path) -> None:
    """A calendar covers this year or is a warning, the user's own included."""
    text = "[calendars.china]\ncovers = [2026]\n[calendars.mine]\ncovers = [2025]\nholidays = []\n"
    settings, _ = rows(tmp_path, text)
    china, mine = doctor.calendars(settings, TODAY)
    assert china == Check("calendar:china", "ok", "covers 2026")
    assert (mine.name, mine.state, mine.what) == ("calendar:mine", "warn", "does not cover 2026")
    assert "[calendars.mine]" in mine.fix


def test_home(tmp_path: Path) -> None:
    """A folder that is there is writable; one that is not can be made below the nearest that is."""
    assert doctor.home(tmp_path).what == f"{tmp_path} is writable"
    assert doctor.home(Path("a/b")).what == f"{tmp_path / 'a' / 'b'} can be made"
    (tmp_path / "a").write_text("")
    assert doctor.home(Path("a/b")).state == "fail"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_versions() -> None:
    """A package we need and do not find fails; the local model's library is optional."""
    assert doctor.installed("msgspec") == msgspec.__version__
    assert doctor.installed("no-such-package-of-anybody") is None
    fine = doctor.versions({"turnout": "0.1.0", "xllamacpp": None})
    assert (fine.state, fine.what) == ("ok", "turnout 0.1.0, xllamacpp not installed")
    assert doctor.versions({"turnout": "0.1.0", "aiohttp": None}).fix == "pip install aiohttp"


def test_worst_and_exit_code() -> None:
    """The whole is as its worst part; a configuration that does not load outweighs any other failure."""
    ok, warn = Check("a", "ok", ""), Check("b", "warn", "")
    fail, broken = Check("c", "fail", ""), Check("configuration", "fail", "")
    assert [doctor.worst(some) for some in ([ok], [warn, ok], [ok, fail, warn])] == ["ok", "warn", "fail"]
    assert [doctor.exit_code(some, strict=False) for some in ([ok], [warn], [fail], [broken, fail])] == [
        0,
        0,
        1,
        3,
    ]
    assert [doctor.exit_code(some, strict=True) for some in ([ok], [warn], [fail])] == [0, 7, 1]


def test_nothing_is_contacted_without_reach(inside: Turnout) -> None:
    """Without --reach no connection is opened."""
    with ToxicThread() as server:
        found = checks(inside("doctor", "--json", DEEPSEEK_BASE_URL=server.url, **KEYS))
        assert server.connections == 0
    assert found["provider:deepseek"].what.startswith(f"callable at {server.url}/v1")


def test_reach(inside: Turnout, sound: str) -> None:
    """--reach asks each callable provider for its models once, with its key; an answer is ✓."""
    with ToxicThread() as first, LLMockServer() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.base_url()}
        done = inside("doctor", "--json", "--reach", "--strict", **env, **KEYS)
        (seen,) = first.requests
    assert done.returncode == 0, done.stdout
    assert (seen.method, seen.path, seen.body) == ("GET", "/v1/models", b"")
    assert seen.headers["authorization"] == f"Bearer {CANARY}"
    found = checks(done)
    assert found["reach:deepseek"].what.startswith("HTTP 200 in 0.")
    assert found["reach:openai"].state == "ok"


def test_reach_any_status(inside: Turnout) -> None:
    """A provider that answers with an error, or with 401 to nobody's key, is reachable."""
    with ToxicThread() as server:
        server.script("500")
        env = {"DEEPSEEK_BASE_URL": server.url, "OPENAI_BASE_URL": server.url_of("401")}
        found = checks(inside("doctor", "--json", "--reach", **env))
        assert all("authorization" not in seen.headers for seen in server.requests)
    assert sorted(found[name].what[:8] for name in ("reach:deepseek", "reach:openai")) == [
        "HTTP 401",
        "HTTP 500",
    ]


def test_reach_nobody(inside: Turnout) -> None:
    """Without a key there is nobody to ask."""
    assert checks(inside("doctor", "--json", "--reach"))["reach"].what == "no provider to ask"


def test_reach_refused_key_and_hang(inside: Turnout) -> None:
    """A refused key fails with the way to a new one; silence fails in time; a query's fields are sent, not shown."""
    with ToxicThread() as server:
        Path("turnout.toml").write_text(
            f'[endpoints.slow]\ntitle = "S"\nbase_url = "{server.url_of("hang")}/v1"\ncodec = "openai"\n'
            'query = { version = "2026", token = "t0ken" }\n'
        )
        env = {"DEEPSEEK_BASE_URL": server.url_of("401-echo"), "OPENAI_BASE_URL": server.url_of("403")}
        began = time.monotonic()
        done = inside("doctor", "--json", "--reach", **env, **KEYS)
        seconds = time.monotonic() - began
        paths = {seen.path for seen in server.requests}
    assert done.returncode == 1
    assert "/toxic/hang/v1/models?version=2026&token=t0ken" in paths
    found = checks(done)
    assert found["reach:deepseek"].what == "key refused: HTTP 401"
    assert found["reach:deepseek"].fix.startswith("read -rs DEEPSEEK_API_KEY")
    assert found["reach:openai"].what == "key refused: HTTP 403"
    assert found["reach:slow"].what.startswith("The provider took too long: ")
    assert found["reach:slow"].fix == f"curl -sS -m 3 {server.url_of('hang')}/v1/models?***"
    assert "t0ken" not in done.stdout
    assert seconds < 5  # the promise is 3


def test_reach_refused(inside: Turnout) -> None:
    """A provider where nobody listens fails with the command that shows it."""
    with refused_url() as url:
        done = inside("doctor", "--reach", DEEPSEEK_BASE_URL=url)
    assert done.returncode == 1
    assert "✗ reach:deepseek           The provider could not be reached" in done.stdout
    assert f"fix: curl -sS -m 3 {url}/v1/models" in done.stdout


def places(server: ToxicThread) -> Iterator[dict[str, str]]:
    """Environments in which a key could slip into an error."""
    yield {}
    yield {"TURNOUT_TIMEOUT": CANARY}
    yield {"DEEPSEEK_API_KEY": f"{CANARY}\r\nx"}
    yield {"DEEPSEEK_BASE_URL": f"https://{CANARY}@h"}
    yield {"DEEPSEEK_BASE_URL": f"ftp://h/{CANARY}"}
    yield {"DEEPSEEK_BASE_URL": f"{server.url}/{CANARY}"}
    yield {"DEEPSEEK_BASE_URL": server.url_of("401-echo")}
    yield {"DEEPSEEK_BASE_URL": server.url_of("bad-status-line")}
    yield {"TURNOUT_CONFIG": CANARY}


def written(tmp_path: Path) -> Path:
    """A database that one call is in; the file that remembers it."""
    settings = load_settings(environ={"TURNOUT_HOME": str(tmp_path / "home")}, folder=tmp_path)
    kept = DiskRecord(settings, address.read(None, settings.home), Clock())
    kept.append(Event(id="e1", trace="t", kind=Kind.USER_INPUT, at=1))
    kept.close()
    (memory,) = (tmp_path / "home" / "spool").glob("*.json")
    return memory


def test_a_lost_database(inside: Turnout, tmp_path: Path) -> None:
    """A database that is gone is a warning, one that was made anew in its place too, until somebody has settled it."""
    memory = written(tmp_path)
    database = tmp_path / "home" / "turnout.db"
    assert checks(inside("doctor", "--json"))["record"].state == "ok"
    for file in (tmp_path / "home").glob("turnout.db*"):
        file.unlink()
    gone = checks(inside("doctor", "--json"))["record"]
    assert (gone.state, f"{database} is not there any more" in gone.what) == ("warn", True)
    written(tmp_path)
    anew = checks(inside("doctor", "--json"))["record"]
    assert (anew.state, "was lost and made anew on" in anew.what) == ("warn", True)
    assert anew.fix.endswith(f"rm {memory}")
    memory.unlink()
    assert checks(inside("doctor", "--json"))["record"] == Check("record", "ok", f"sqlite:///{database}")


@pytest.mark.parametrize("name", ["refused.jsonl", "o.00000001.jnl.damaged"])
def test_what_is_in_no_table(inside: Turnout, tmp_path: Path, name: str) -> None:
    """What could not be put into the tables is told, with its name."""
    spool = written(tmp_path).with_suffix("")
    (spool / name).write_text("x")
    told = checks(inside("doctor", "--json"))["record"]
    assert (told.state, name in told.what, told.fix.endswith(f"rm {spool / name}")) == ("warn", True, True)


def test_a_store_that_is_no_address(inside: Turnout) -> None:
    """A database address that cannot be read is a failure, and its password is not repeated."""
    done = inside("doctor", "--json", TURNOUT_DATABASE_URL=f"mysql://u:{CANARY}@h/d")
    told = checks(done)["record"]
    assert (told.state, "no store of the kind 'mysql'" in told.what) == ("fail", True)
    assert CANARY not in done.stdout
    assert checks(inside("doctor", "--json", TURNOUT_DATABASE_URL="sqlite://"))["record"].what.startswith(
        "in memory"
    )


@pytest.mark.parametrize("args", [(), ("--json",), ("--reach",), ("--reach", "--json", "--strict")])
def test_canary(inside: Turnout, args: tuple[str, ...]) -> None:
    """A key is in no output of any mode, neither where it belongs nor where it strayed, and nothing crashes."""
    with ToxicThread() as server:
        for env in places(server):
            done = inside("doctor", *args, **{"DEEPSEEK_API_KEY": CANARY, **env})
            assert done.returncode in {0, 1, 3, 7}
            assert done.stderr == ""
            assert CANARY[3:] not in done.stdout
