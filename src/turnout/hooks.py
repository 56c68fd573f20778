"""What an application may put around every call: change it, refuse it, look at what came of it."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from turnout import logs
from turnout.errors import HookFailed, TurnoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from turnout.types import Call, Reply

Value = TypeVar("Value")


class Hook(Protocol):
    """Both verbs may be plain or `async`; `None` leaves things as they are.

    Raising a `TurnoutError` from `before_call` refuses the call. Any other exception is the hook's own failure: it
    refuses the call too (`HookFailed`), unless `fail_open` is true.
    """

    fail_open: bool

    def before_call(self, call: Call) -> Call | Awaitable[Call | None] | None:
        """The call that is made instead."""
        ...

    def after_call(self, call: Call, reply: Reply) -> Reply | Awaitable[Reply | None] | None:
        """The reply that is given instead."""
        ...


class Hooks:
    """All hooks: `before_call` in order, `after_call` in reverse, so that the first is the outermost."""

    def __init__(self, hooks: Sequence[Hook] = ()) -> None:
        self._hooks = tuple(hooks)

    def __bool__(self) -> bool:
        return bool(self._hooks)

    async def before(self, call: Call) -> Call:
        """The call as the hooks leave it. Raises what a hook refuses it with, or `HookFailed`."""
        if self._hooks:
            # a hook may change in place what it is given, and that is this call's alone
            own = msgspec.structs.replace(call.options, extra=dict(call.options.extra))
            call = msgspec.structs.replace(call, options=own)
        for hook in self._hooks:
            before = call.messages
            call = await _run(hook, "before_call", call.id, call, call)
            if call.messages is not before:
                call = msgspec.structs.replace(call, has_reasoning=True)  # nobody has looked at these
        return call

    async def after(self, call: Call, reply: Reply) -> Reply:
        """The reply as the hooks leave it. Raises as `before` does."""
        for hook in reversed(self._hooks):
            reply = await _run(hook, "after_call", call.id, reply, call, reply)
        return reply


async def _run(hook: Hook, verb: str, trace_id: str, unchanged: Value, *given: Any) -> Value:
    try:
        result = getattr(hook, verb)(*given)
        if inspect.isawaitable(result):
            result = await result
    except TurnoutError:
        raise
    except Exception as error:
        # The one broad handler of turnout: a hook is somebody else's code, and what it may break is declared.
        name = type(hook).__name__
        if not hook.fail_open:
            raise HookFailed(
                f"{name}.{verb}: {type(error).__name__}", hint="see the error it was raised from"
            ) from error
        logs.event(logging.ERROR, "hook failed", trace_id, hook=name, verb=verb, error=type(error).__name__)
        return unchanged
    return unchanged if result is None else result
