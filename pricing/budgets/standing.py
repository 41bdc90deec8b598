"""What is left to a request after a step: of the tightest of its caps, and of the tightest limit of each rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pricing.budgets.account import Account
from pricing.budgets.caps import Dimension
from pricing.budgets.store import RateStanding, Standing

UNLIMITED: Final = Standing()


def standing_of(accounts: Sequence[Account], wall_us: int) -> Standing:
    """How the scopes of one request stand at an instant."""
    left: int | None = None
    requests: RateStanding | None = None
    tokens: RateStanding | None = None
    for account in accounts:
        for view in account.views:
            here = view.left_nusd(wall_us)
            if here is not None and (left is None or here < left):
                left = here
        if account.rates is not None:
            requests = _tighter(requests, account.rates.standing(Dimension.REQUESTS, wall_us))
            tokens = _tighter(tokens, account.rates.standing(Dimension.TOKENS, wall_us))
    if left is None and requests is None and tokens is None:
        return UNLIMITED
    return Standing(left, requests, tokens)


def _tighter(one: RateStanding | None, other: RateStanding | None) -> RateStanding | None:
    if one is None or other is None:
        return one or other
    return other if other.remaining < one.remaining else one
