"""What happened? Traces on context variables, kept as events, read back as stories.

    with start_trace(session_id="s1", user_id="alice"):
        with start_span("TOOL_INVOCATION", inputs={"query": "..."}, name="search"):
            ...
        reply = await llm_client.call_with_fallback("debugger", messages)  # is in the trace by itself

Nothing here breaks the code it is put into: a misspelt kind of event raises `InvalidRequest`, whatever else fails is
counted, logged and passed over.
"""

from turnout.trace.harness import (
    end_span,
    end_trace,
    get_session_traces,
    get_trace,
    get_user_traces,
    is_trace_active,
    log_event,
    start_span,
    start_trace,
)

__all__ = [
    "end_span",
    "end_trace",
    "get_session_traces",
    "get_trace",
    "get_user_traces",
    "is_trace_active",
    "log_event",
    "start_span",
    "start_trace",
]
