"""What of a call's texts may be kept: decided, and done, before anything reaches the journal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from turnout.trace.redaction import STARS, Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Capture = Literal["off", "metadata", "full"]
"""`off`: times, models, tokens and money alone. `metadata`: also what the application says about a step, and how
long its texts are. `full`: the texts themselves, keys blotted out."""

LONGEST_METADATA = 2_048
"""Characters of one text."""
LONGEST_BODY = 65_536
QUOTE = 16
"""Characters in a row that are no coincidence."""
SHORT_QUOTE = 6
"""A whole text as short as this counts too."""
_NO_CONTENT = frozenset({"role", "type", "id", "name", "tool_call_id"})
_MARGIN = 4_096
"""Read beyond the cut, so that a key that straddles it is seen whole."""
_OF_A_KEY = re.compile(rf"[A-Za-z0-9._~+/=%-]{{1,{_MARGIN}}}")
_DEEPEST = 12
_MOST_ITEMS = 1_000


class Privacy:
    """Capture levels by agent, and the redaction of everything that is kept.

    `ttl` is how long bodies are kept, in seconds: their events carry the moment they expire.
    """

    def __init__(
        self,
        redact: Redactor | None = None,
        *,
        capture: Capture = "metadata",
        agents: Mapping[str, Capture] | None = None,
        ttl: float = 7 * 86_400,
    ) -> None:
        self.redact = redact or Redactor()
        self.ttl = ttl
        self._capture = capture
        self._agents = dict(agents or {})

    def level(self, agent: str | None) -> Capture:
        """How much is kept of what an agent says and hears."""
        return self._agents.get(agent or "", self._capture)

    def contents(self, agent: str | None, **values: Any) -> dict[str, Any]:
        """Facts for texts of the caller's or a model's, by name: at `full` themselves, together in `body`, which
        a store keeps apart and for a shorter time; at `metadata` the size of each; at `off` nothing.
        """
        level = self.level(agent)
        given = {name: value for name, value in values.items() if value is not None}
        if level == "off" or not given:
            return {}
        if level == "full":
            return {"body": {name: self.body(value) for name, value in given.items()}}
        return {name: _size(value) for name, value in given.items()}

    def metadata(self, facts: Mapping[str, Any], agent: str | None) -> dict[str, Any]:
        """What the application says about a step, as JSON values."""
        if self.level(agent) == "off" or not facts:
            return {}
        return self._mapping(facts, LONGEST_METADATA, _DEEPEST)

    def body(self, value: Any) -> Any:
        """A whole text or message list as JSON values, keys blotted out."""
        return self._plain(value, LONGEST_BODY, _DEEPEST)

    def text(self, text: str, longest: int = LONGEST_METADATA) -> str:
        """A text with keys blotted out and cut to its longest length."""
        window = text[: longest + _MARGIN]
        if not window.isascii():
            window = window.encode("utf-8", "replace").decode()  # half a surrogate pair is no JSON
        if len(window) < len(text):
            cut = _OF_A_KEY.match(window[::-1])  # what the cut went through may be half a key
            window = window[: len(window) - (cut.end() if cut else 0)]
        clean = self.redact(window)
        return clean if len(text) <= longest else f"{clean[:longest]}… ({len(text):,} characters)"

    def _plain(self, value: Any, longest: int, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return _number(value)
        if isinstance(value, str):
            return self.text(str(value), longest)
        if isinstance(value, bytes | bytearray):
            return f"{len(value):,} bytes"
        if depth == 0:
            return "…"
        if isinstance(value, msgspec.Struct):
            value = msgspec.structs.asdict(value)
        if isinstance(value, Mapping):
            return self._mapping(value, longest, depth)
        if isinstance(value, list | tuple | AbstractSet):
            return [self._plain(item, longest, depth - 1) for item in _first(value)]
        return self.text(str(value), longest)

    def _mapping(self, facts: Mapping[Any, Any], longest: int, depth: int) -> dict[str, Any]:
        return {
            self.text(str(name)): STARS
            if self.redact.names_a_secret(str(name))
            else self._plain(value, longest, depth - 1)
            for name, value in _first(facts.items())
        }


def without_quotes(text: str, said: bytes) -> str:
    """The text with what it quotes of a conversation (JSON) left out: some providers repeat it in their errors."""
    texts = list(_texts(msgspec.json.decode(said)))
    for short in texts:
        if SHORT_QUOTE <= len(short) < QUOTE:
            text = text.replace(short, "…")
    heard = "\n".join(texts)
    kept, at = [], 0
    while at < len(text):
        end = at + QUOTE
        if end > len(text) or text[at:end] not in heard:
            kept.append(text[at])
            at += 1
            continue
        while end < len(text) and text[at : end + 1] in heard:
            end += 1
        kept.append("…")
        at = end
    return "".join(kept)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _NO_CONTENT:
                yield from _texts(item)


def _number(value: Any) -> Any:
    """As JSON can say it: NaN, infinity and what needs more than 64 bits become text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or abs(value) < 2**63 else str(value)


def _first(items: Iterable[Any]) -> Iterable[Any]:
    for count, item in enumerate(items):
        if count == _MOST_ITEMS:
            return
        yield item


def _size(value: Any) -> dict[str, Any]:
    """How much there is of a content, in place of the content."""
    if isinstance(value, str):
        return {"characters": len(value)}
    if isinstance(value, bytes | bytearray):
        return {"bytes": len(value)}
    if isinstance(value, Mapping):
        return {"fields": len(value)}
    if isinstance(value, list | tuple | AbstractSet):
        return {"items": len(value)}
    return {"type": type(value).__name__}
