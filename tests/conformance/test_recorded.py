"""Vendors that cannot be run here: bodies written after what each `source` shows, read by the row's own codec.

None of them was recorded from a live account.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from turnout import errors, registry, wiring
from turnout.settings import Settings
from turnout.types import Model

if TYPE_CHECKING:
    from turnout.providers.base import Codec
    from turnout.registry.endpoints import Endpoint

RECORDED: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text(encoding="utf-8"))
    for file in sorted((Path(__file__).parent / "recorded").glob("*.json"))
}
ANSWERS = [name for name, case in RECORDED.items() if "error" not in case["expect"]]
FAILURES = [name for name, case in RECORDED.items() if "error" in case["expect"]]


@pytest.fixture
def endpoints(tmp_path: Path) -> dict[str, Endpoint]:
    """The shipped rows."""
    return registry.load(Settings(home=tmp_path)).endpoints


def spoken_by(case: dict[str, Any], endpoints: dict[str, Endpoint]) -> tuple[Codec, Model]:
    """The codec of the case's row, and a model of it."""
    row = Model(
        name="probe",
        provider=case["endpoint"],
        upstream="probe-1",
        context_window=1_000,
        max_output=100,
        default_output=10,
    )
    return wiring.SHIPPED_CODECS[endpoints[case["endpoint"]].codec], row


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer(endpoints: dict[str, Endpoint], name: str) -> None:
    """Each fact that the recording names is read out of its body: text, thinking, calls, finish, tokens."""
    case = RECORDED[name]
    codec, row = spoken_by(case, endpoints)
    answer = codec.decode(msgspec.json.encode(case["body"]), row)
    usage = msgspec.structs.asdict(answer.usage)
    said = json.loads(msgspec.json.encode(answer))
    expected = dict(case["expect"])
    assert usage | expected.pop("usage", {}) == usage
    assert said | expected == said


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure(endpoints: dict[str, Endpoint], name: str) -> None:
    """Each error is the one its vendor means by it, with the time to wait and the request's id where they came."""
    case = RECORDED[name]
    codec, row = spoken_by(case, endpoints)
    body = msgspec.json.encode(case["body"])
    if status := case.get("status"):
        found = codec.failure(status, case.get("headers", {}), body, row)
    else:
        with pytest.raises(errors.ProviderError) as caught:
            codec.decode(body, row)
        found = caught.value
    expected = case["expect"]
    assert type(found).__name__ == expected["error"]
    assert found.provider == case["endpoint"]
    assert (found.retry_after, found.request_id) == (expected.get("retry_after"), expected.get("request_id"))


@pytest.mark.parametrize("name", RECORDED)
def test_each_says_where_its_shape_is_from(name: str) -> None:
    """A page or thread, with the year it was read, so that it can be looked at again."""
    assert "2026" in RECORDED[name]["source"]
    assert RECORDED[name]["expect"]
