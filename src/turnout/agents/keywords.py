"""Routing by the words of a query: whole words and phrases, weighted, from the agents' own rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.registry.agents import Agent


class Keywords:
    """Scores a query for every agent; compiled once from the rows."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self._patterns = [
            (agent_id, int(weight), _pattern(words))
            for agent_id, agent in agents.items()
            for weight, words in agent.keywords.items()
            if words
        ]

    def best(self, query: str) -> tuple[str, tuple[str, ...]] | None:
        """The agent with the highest score and the words that spoke for it; `None` when no word did.

        Each word counts once. Of equal scores the one whose word comes first in the query wins.
        """
        scores: dict[str, int] = {}
        found: dict[str, dict[str, int]] = {}
        for agent_id, weight, pattern in self._patterns:
            for match in pattern.finditer(query):
                words = found.setdefault(agent_id, {})
                word = " ".join(match.group().lower().split())
                if word not in words:
                    words[word] = match.start()
                    scores[agent_id] = scores.get(agent_id, 0) + weight
        if not scores:
            return None
        best = max(scores, key=lambda agent_id: (scores[agent_id], -min(found[agent_id].values())))
        return best, tuple(sorted(found[best], key=lambda word: found[best][word]))


def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    phrases = (r"\s+".join(map(re.escape, word.split())) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{'|'.join(phrases)})(?!\w)", re.IGNORECASE)
