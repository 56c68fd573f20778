"""What did it cost? `calculate_cost` prices a usage; `estimate_tokens` counts before anybody was asked."""

from turnout.cost.estimate import estimate_tokens
from turnout.cost.pricing import calculate_cost

__all__ = ["calculate_cost", "estimate_tokens"]
