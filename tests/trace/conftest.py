"""What trace tests share: a clock that stands still until told, a recorder over memory, and a runtime of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import turnout
from tests.trace.stage import Runtime, Stage
from turnout import current
from turnout.trace.active import move

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _nowhere() -> Iterator[None]:
    """Tests that are not tasks share a context: none begins in another's trace."""
    yield
    move(None)


@pytest.fixture
def stage() -> Stage:
    """A recorder on a clock of its own."""
    return Stage()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """This process's runtime, as far as traces need one."""
    made = Runtime()
    current.forget()
    current.leave(lambda: made)
    yield made
    current.forget()
    current.leave(turnout._wire)
