"""Structured logs on the standard library's logger `turnout`: an event's name and its facts, the trace id first.

Nothing is printed unless the application configures logging; `turnout.logs.JsonLines` is a formatter for it, and
`TURNOUT_LOG=json` (or `text`) does it for the command line. Texts, messages and keys are never facts.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

LOGGER = logging.getLogger("turnout")
# Without a handler of its own a library's warnings go to stderr by logging's last resort.
LOGGER.addHandler(logging.NullHandler())


def event(level: int, name: str, trace_id: str, **facts: Any) -> None:
    """Log one event; costs a comparison while the level is off.

    A handler or filter of the application's that raises takes no call with it, and no thread of ours: as logging's own
    handlers do, it prints why on stderr, unless `logging.raiseExceptions` is off.
    """
    if not LOGGER.isEnabledFor(level):
        return
    try:
        LOGGER.log(level, "%s", name, extra={"trace_id": trace_id, "facts": facts})
    except Exception:  # noqa: BLE001 - the application's code, and nobody's call
        if logging.raiseExceptions and sys.stderr is not None:
            traceback.print_exc(file=sys.stderr)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, trace_id, then the event's facts."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "trace_id": getattr(record, "trace_id", None),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class Text(logging.Formatter):
    """The same for people: event, facts as name=value, trace id."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        facts = " ".join(f"{name}={value}" for name, value in getattr(record, "facts", {}).items())
        return f"{record.levelname.lower()}: {record.getMessage()} {facts} trace_id={getattr(record, 'trace_id', None)}"


def to_stderr(form: str) -> None:
    """Send the events to stderr, as `json` or `text`."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else Text())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
