"""What each fault of `tests.toxic` is expected to come to, plain and streamed; one row for each outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.journeys.oracle import Outcome
from tests.toxic import SENTENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = {"gzip-bomb": "gzip-bomb-40m", "huge": "huge-1m", "stream-tiny": "stream-tiny-2000"}
"""Smaller counts for faults that are large: the full ones are for `make prove`."""


def answers(text: str = SENTENCE, *calls: str) -> Outcome:
    """The faulty provider itself answers."""
    return Outcome("answers", text=text, calls=calls)


def falls(reason: str) -> Outcome:
    """It fails before the first token, and another model answers."""
    return Outcome("falls", reason)


def breaks(reason: str) -> Outcome:
    """It fails after the first token: an error, and nobody else is asked."""
    return Outcome("breaks", reason)


STOPS = Outcome("stops", "rejected")
"""The request itself is refused: an error, and nobody else is asked."""
SOUND, MALFORMED, TRUNCATED = answers(), falls("malformed_reply"), falls("truncated")
TIMEOUT, SERVER = falls("timeout"), falls("server_error")

ROWS: list[tuple[Outcome, Outcome, str]] = [
    (SOUND, SOUND, "ok plain-for-stream finish-length finish-content-filter finish-unknown"),
    (SOUND, SOUND, "reasoning reasoning-empty-first reasoning-vllm duplicate-id other-model"),
    (SOUND, SOUND, "usage-missing usage-null usage-zero usage-negative usage-nan usage-huge usage-text"),
    (SOUND, SOUND, "usage-twice usage-on-finish usage-deepseek gzip deflate 103 100 close-delimited"),
    (SOUND, SOUND, "reset-once-on-reuse close-on-reuse stale stale-2ms extra-response blank-lines"),
    (SOUND, SOUND, "stream-no-done stream-crlf stream-cr stream-bom stream-multi-line stream-no-space"),
    (SOUND, SOUND, "stream-fields stream-glued stream-byte-by-byte stream-split-utf8 stream-comments"),
    (SOUND, SOUND, "stream-comments-openrouter slow-stream stream-late-end together"),
    (answers("", '{"city": "Zürich"}'), answers("", '{"city": "Zürich"}'), "tool-call"),
    (
        answers("", '{"city": "Bern"}', '{"city": "Basel"}'),
        answers("", '{"city": "Bern"}', '{"city": "Basel"}'),
        "tool-call-two",
    ),
    (answers("", '{"city": '), answers("", '{"city": '), "tool-call-junk"),
    # sound in one mode only
    (MALFORMED, SOUND, "stream-for-plain"),
    (SOUND, MALFORMED, "wrong-type"),
    (SOUND, TRUNCATED, "stream-type-early"),
    (TRUNCATED, SOUND, "chunks-unended"),
    (TIMEOUT, SOUND, "stream-open-after-done"),
    # an answer that is none
    (falls("html_reply"), falls("html_reply"), "html-200"),
    (falls("html_reply"), TRUNCATED, "html-as-json stream-html-early"),
    (falls("blank_reply"), TRUNCATED, "empty-200 stream-eof-early"),
    (falls("blank_reply"), falls("blank_reply"), "blank-content blank-content-spaces null-content"),
    (falls("blank_reply"), breaks("blank_reply"), "reasoning-only"),
    (MALFORMED, MALFORMED, "malformed-json not-an-answer-list not-an-answer-null not-an-answer-text"),
    (MALFORMED, TRUNCATED, "not-an-answer no-choices stream-done-early"),
    (MALFORMED, MALFORMED, "stream-bad-json-early stream-bad-chunk-early"),
    (MALFORMED, breaks("malformed_reply"), "truncated-json gzip-short stream-bad-json-mid"),
    (MALFORMED, breaks("malformed_reply"), "stream-bad-chunk-mid"),
    (MALFORMED, breaks("truncated"), "finish-missing stream-eof-mid stream-done-mid stream-html-mid"),
    (MALFORMED, breaks("truncated"), "stream-type-mid"),
    (SERVER, SERVER, "error-200"),
    (SERVER, breaks("server_error"), "finish-insufficient"),
    (MALFORMED, SERVER, "stream-error-early stream-error-done-early"),
    (MALFORMED, breaks("server_error"), "stream-error-mid stream-error-done-mid"),
    # a status
    (STOPS, STOPS, "400 400-echo 400-reasoning 404 413 422"),
    (falls("model_retired"), falls("model_retired"), "400-unknown-model 404-model"),
    (falls("context_overflow"), falls("context_overflow"), "400-overflow 400-overflow-llama"),
    (falls("auth_error"), falls("auth_error"), "401 401-echo 403 451"),
    (falls("payment_required"), falls("payment_required"), "402 429-quota"),
    (falls("misconfigured"), falls("misconfigured"), "404-html 204 301 302 303 307 308"),
    (TIMEOUT, TIMEOUT, "408"),
    (SERVER, SERVER, "409 500 500-echo 500-html 500-empty 502 503 503-retry-after 504 529"),
    (falls("rate_limit"), falls("rate_limit"), "429 429-retry-after 429-retry-after-date"),
    (falls("rate_limit"), falls("rate_limit"), "429-retry-after-past 429-retry-after-zero"),
    (falls("rate_limit"), falls("rate_limit"), "429-retry-after-float 429-retry-after-negative"),
    (falls("rate_limit"), falls("rate_limit"), "429-retry-after-junk 429-retry-after-huge"),
    (falls("rate_limit"), falls("rate_limit"), "429-retry-after-ms"),
    # the connection and HTTP's framing
    (falls("connect_error"), falls("connect_error"), "reset close"),
    (TIMEOUT, TIMEOUT, "hang stall-headers stall-first-byte trickle-headers trickle-body slow-loris"),
    (TIMEOUT, TIMEOUT, "stream-stall-early"),
    (TIMEOUT, breaks("timeout"), "stall-body stream-stall-mid stream-endless"),
    (TRUNCATED, TRUNCATED, "stream-reset-early stream-close-early"),
    (TRUNCATED, breaks("truncated"), "short-body reset-mid-body stream-reset-mid stream-close-mid"),
    (MALFORMED, MALFORMED, "header-bomb header-flood bad-status-line bad-status-code bad-header"),
    (MALFORMED, MALFORMED, "cl-te-conflict cl-twice cl-negative cl-junk bad-chunk-size"),
    (MALFORMED, MALFORMED, "brotli zstd gzip-bad gzip-not"),
    # size
    (falls("oversized_reply"), falls("oversized_reply"), "gzip-bomb"),
    (answers("x" * 2**20), answers("x" * 2**20), "huge-1m stream-long-line"),
    (answers("x" * 10 * 2**20), answers("x" * 10 * 2**20), "huge"),
    (answers("x" * 2_000), answers("x" * 2_000), "stream-tiny-2000"),
    (answers("x" * 100_000), answers("x" * 100_000), "stream-tiny"),
    (falls("oversized_reply"), falls("oversized_reply"), "gzip-bomb-40m"),
]


def _by_name() -> Iterator[tuple[str, dict[str, Outcome]]]:
    for plain, stream, names in ROWS:
        for name in names.split():
            yield name, {"plain": plain, "stream": stream}


EXPECTED = dict(_by_name())
AIOHTTP = {
    "gzip-bad": {"plain": TRUNCATED, "stream": TRUNCATED},
    "gzip-not": {"plain": TRUNCATED, "stream": TRUNCATED},
    "gzip-short": {"plain": MALFORMED, "stream": breaks("truncated")},
    "stream-bad-chunk-mid": {"plain": MALFORMED, "stream": MALFORMED},
}
"""Where the other transport comes to something else."""
