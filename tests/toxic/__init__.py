"""An OpenAI-compatible server that misbehaves on demand: every fault is one row of `FAULTS`."""

from tests.toxic.exchange import Fault, Seen
from tests.toxic.faults import FAULTS, UnknownFaultError
from tests.toxic.server import Toxic, ToxicThread, last_words, refused_url
from tests.toxic.wire import CACHED_TOKENS, PROMPT_TOKENS, SENTENCE

__all__ = [
    "CACHED_TOKENS",
    "FAULTS",
    "PROMPT_TOKENS",
    "SENTENCE",
    "Fault",
    "Seen",
    "Toxic",
    "ToxicThread",
    "UnknownFaultError",
    "last_words",
    "refused_url",
]
