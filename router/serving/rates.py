"""What a request counts against rate limits, and what of it is given back at its end."""

from __future__ import annotations

from typing import Final

from pricing.budgets.caps import Dimension
from pricing.budgets.store import RateStanding, Standing
from pricing.errors import RateLimited
from router.serving.chain import Chain

_SERVED: Final = "served"


def more_tokens(chain: Chain, outcome: str) -> int:
    """How many tokens more the request took than its first hold counted; negative gives back.

    As `usage` says, or as was counted where nothing was said. Nothing was taken by a request whose attempts the house
    paid for.
    """
    counted = chain.counted_tokens
    if counted is None:
        return 0
    if outcome != _SERVED and not chain.charged_nusd:
        return -counted
    if chain.prompt_tokens is None:
        return 0
    return chain.prompt_tokens + (chain.completion_tokens or 0) - counted


def standing_of_refusal(limited: RateLimited) -> Standing:
    """What a refused request is told of the limit that refused it."""
    if limited.dimension == Dimension.IN_FLIGHT:
        return Standing()
    stands = RateStanding(limited.limit, limited.remaining, limited.retry_after_s or 0.0)
    return Standing(tokens=stands) if limited.dimension == Dimension.TOKENS else Standing(requests=stands)
