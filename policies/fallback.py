"""What each failure class means: who is next, what the breaker does, who pays, whether to go on at all.

This is the one table of the project about it; `decide` reads `next`, the endpoint reads the rest.

| class | next candidate | breaker | payer | goes on | same pool |
|---|---|---|---|---|---|
| context_overflow | only a larger `max_model_len` | none | tenant | yes | no |
| out_of_memory | only more free memory, never the same pool | shape | house | yes | no |
| timeout | faster or warmer first | pool | house | yes | no |
| cold | others first | none | house | yes | once more |
| overloaded | others first | short cooldown | house | yes | when it has room |
| unavailable | others first | pool | house | yes | once more |
| misconfigured | others | a minute | house | yes | no |
| bad_output | only a higher tier | none | tenant | yes | no |
| client_error | none: the answer is passed on | none | tenant | no | no |
| client_gone | none: nobody waits | none | tenant | no | no |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from policies.policy import Payer
from pools.failures.classes import FailureClass


class Next(StrEnum):
    """Which pools may be tried after a failure, or come first."""

    LARGER_CONTEXT = "larger_context"
    MORE_MEMORY = "more_memory"
    FASTER_FIRST = "faster_first"
    HIGHER_TIER = "higher_tier"
    OTHERS = "others"
    NONE = "none"


class BreakerEffect(StrEnum):
    """What a failure does to the breaker of its pool."""

    NONE = "none"
    SHAPE = "shape"  # this shape cools down for `shape_cooldown_s`
    POOL = "pool"  # one more failure on the pool's count
    SHORT_COOLDOWN = "short_cooldown"  # as long as the pool asked (`Retry-After`), or a second
    A_MINUTE = "a_minute"  # our files are wrong about it, most likely; one request looks again then


class SamePool(StrEnum):
    """Whether the pool that failed may serve the same request all the same."""

    NO = "no"
    ONCE_MORE = "once more"
    WHEN_IT_HAS_ROOM = "when it has room"  # it refused the moment, not the request; as often as `max_attempts` allows


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table. `same_pool`: the pool that failed may be tried again, after all others."""

    next: Next
    breaker: BreakerEffect
    payer: Payer
    goes_on: bool = True
    same_pool: SamePool = SamePool.NO


FALLBACK: Final[Mapping[FailureClass, Rule]] = MappingProxyType(
    {
        FailureClass.CONTEXT_OVERFLOW: Rule(Next.LARGER_CONTEXT, BreakerEffect.NONE, Payer.TENANT),
        FailureClass.OUT_OF_MEMORY: Rule(Next.MORE_MEMORY, BreakerEffect.SHAPE, Payer.HOUSE),
        FailureClass.TIMEOUT: Rule(Next.FASTER_FIRST, BreakerEffect.POOL, Payer.HOUSE),
        FailureClass.COLD: Rule(Next.OTHERS, BreakerEffect.NONE, Payer.HOUSE, same_pool=SamePool.ONCE_MORE),
        FailureClass.OVERLOADED: Rule(
            Next.OTHERS, BreakerEffect.SHORT_COOLDOWN, Payer.HOUSE, same_pool=SamePool.WHEN_IT_HAS_ROOM
        ),
        FailureClass.UNAVAILABLE: Rule(Next.OTHERS, BreakerEffect.POOL, Payer.HOUSE, same_pool=SamePool.ONCE_MORE),
        FailureClass.MISCONFIGURED: Rule(Next.OTHERS, BreakerEffect.A_MINUTE, Payer.HOUSE),
        FailureClass.BAD_OUTPUT: Rule(Next.HIGHER_TIER, BreakerEffect.NONE, Payer.TENANT),
        FailureClass.CLIENT_ERROR: Rule(Next.NONE, BreakerEffect.NONE, Payer.TENANT, goes_on=False),
        FailureClass.CLIENT_GONE: Rule(Next.NONE, BreakerEffect.NONE, Payer.TENANT, goes_on=False),
    }
)

MOST_TRIES_ON_ONE_POOL: Final = 2  # those that it had no room for left out


def default_payers() -> dict[str, Payer]:
    """Who pays each failure class where a policy file does not say."""
    return {str(failure): rule.payer for failure, rule in FALLBACK.items()}
