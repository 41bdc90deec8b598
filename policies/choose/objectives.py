"""What a class prefers among the pools that can serve: a score for each, the lowest first.

Equal scores keep the ladder's order. `seconds` is what the client waits: boot, first token and all the rest.
"""

from __future__ import annotations

from collections.abc import Callable

from policies.policy import Limits, Objective
from pricing.money import NUSD_PER_USD, S_PER_HOUR

Score = Callable[[int, int, float], float]
"""(order on the ladder, expected bill in nano-dollars, expected seconds until the answer is complete) -> score."""


def listed(order: int, bill_nusd: int, seconds: float) -> float:
    """The file's order: the first capable pool serves.

    Example: `objective: listed`, `standard: [flux-schnell-q4-t4, flux-schnell-fp8-a10]`: the A10 serves when the T4
    cannot.
    """
    return order


def cheapest(order: int, bill_nusd: int, seconds: float) -> float:
    """What the provider's bill is expected to grow by, nano-dollars.

    Example: a warm L40S at $0.0130 comes before a cold T4 at $0.0170.
    """
    return bill_nusd


def fastest(order: int, bill_nusd: int, seconds: float) -> float:
    """Seconds until the answer is complete, a boot included.

    Example: a warm L4 that takes 20 s comes before a cold H100 that boots for 60 s and takes 3 s.
    """
    return seconds


def balanced(waiting_usd_per_hour: float) -> Score:
    """The bill plus what a client's waiting is worth, nano-dollars.

    Example: `waiting_usd_per_hour: 1.00`; 100 s of waiting weigh as much as $0.0278 of bill.
    """
    nusd_per_s = waiting_usd_per_hour * NUSD_PER_USD / S_PER_HOUR

    def score(order: int, bill_nusd: int, seconds: float) -> float:
        return bill_nusd + nusd_per_s * seconds

    return score


def score_of(objective: Objective, limits: Limits) -> Score:
    """The scoring function of a class."""
    if objective is Objective.CHEAPEST:
        return cheapest
    if objective is Objective.LISTED:
        return listed
    if objective is Objective.FASTEST:
        return fastest
    return balanced(limits.waiting_usd_per_hour)
