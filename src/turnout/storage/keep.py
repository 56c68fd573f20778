"""For how long things are kept; apart from what deletes them, which loads SQLAlchemy."""

from __future__ import annotations

import msgspec


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """For how many days rows are kept; bodies say so themselves."""

    events: int = 30
    costs: int = 400
