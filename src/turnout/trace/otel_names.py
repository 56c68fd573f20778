"""OpenTelemetry's names for what turnout exports, all in this table.

The GenAI conventions are in Development: every `gen_ai.*` name may still move (open-telemetry's repository
semantic-conventions-genai, first release 0.1.0, read 2026-11-23).
Only `error.type`, `http.*` and `server.*` are stable.
"""

from __future__ import annotations

VERSION = "genai-0.1.0"
"""Which state of the conventions the names below are from; on every span's scope as `turnout.semconv`."""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
CONVERSATION = "gen_ai.conversation.id"
AGENT = "gen_ai.agent.name"
TOOL = "gen_ai.tool.name"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"

SESSION = "session.id"
USER = "user.id"
ERROR_TYPE = "error.type"
HTTP_STATUS = "http.response.status_code"

# No convention has these.
KIND = "turnout.kind"
COST = "turnout.cost.usd"
UNPRICED = "turnout.cost.unpriced"
PRICE = "turnout.price.id"
CALL = "turnout.call.id"
ATTEMPTS = "turnout.attempts"
ATTEMPT = "turnout.attempt.number"
ATTEMPT_MODEL = "turnout.attempt.model"
ATTEMPT_PROVIDER = "turnout.attempt.provider"
ATTEMPT_COST = "turnout.attempt.cost.usd"
OUTCOME = "turnout.outcome"
FALLBACK_FROM = "turnout.fallback.from"
FALLBACK_TO = "turnout.fallback.to"
FALLBACK_REASON = "turnout.fallback.reason"
LEFT_OPEN = "turnout.left_open"
METADATA = "turnout.metadata."

OPERATIONS = {
    "SESSION_START": "invoke_workflow",
    "AGENT_ROUTING": "invoke_agent",
    "AGENT_ACTIVITY_START": "invoke_agent",
    "TOOL_INVOCATION": "execute_tool",
}
"""The operation of a span of each kind; the others have none."""
CHAT = "chat"
EMBEDDINGS = "embeddings"
