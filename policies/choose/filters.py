"""Why a pool cannot serve a request: one filter per reason, each with the numbers it judged by.

A filter's `applies` says once per decision whether it can refuse anything; `refuse` then looks at one pool and returns
the numbers of its refusal, or None. `POOL_FILTERS` need no price and run first, in order; `PRICED_FILTERS` look at the
candidate with its expected money and times. A new filter is one more class in the module of its kind, one more entry
here, one more `Reason`, and one sentence in `policies/explain/sentences.py`.
"""

from __future__ import annotations

from typing import Final, Protocol

from policies.choose.ask import Ask
from policies.choose.decision import Candidate, Numbers, Reason
from policies.choose.failed_before import FailedBefore
from policies.choose.filters_of_files import (
    BelowTier,
    ContextTooShort,
    LacksFeature,
    NotPinned,
    OtherTokenizer,
    TooLarge,
)
from policies.choose.filters_of_price import ChainCost, OverBudget, TooLate
from policies.choose.filters_of_state import (
    BreakerOpen,
    Drained,
    MemoryShort,
    NotDeployed,
    Overloaded,
    Queued,
    Saturated,
    ShapeOpen,
)
from policies.policy import Rung
from pools.live.state import PoolState


class PoolFilter(Protocol):
    """Judges a pool by the files and its state."""

    @property
    def reason(self) -> Reason: ...

    def applies(self, ask: Ask) -> bool: ...

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None: ...


class PricedFilter(Protocol):
    """Judges a pool that could serve by what it would cost and take."""

    @property
    def reason(self) -> Reason: ...

    def applies(self, ask: Ask) -> bool: ...

    def refuse(self, ask: Ask, candidate: Candidate) -> Numbers | None: ...


POOL_FILTERS: Final[tuple[PoolFilter, ...]] = (
    NotPinned(),
    BelowTier(),
    Drained(),
    NotDeployed(),
    LacksFeature(),
    ContextTooShort(),
    OtherTokenizer(),
    FailedBefore(),
    Overloaded(),
    BreakerOpen(),
    ShapeOpen(),
    MemoryShort(),
    TooLarge(),
    Saturated(),
    Queued(),
)
MONEY_FILTERS: Final[tuple[PricedFilter, ...]] = (OverBudget(), ChainCost())
PRICED_FILTERS: Final[tuple[PricedFilter, ...]] = (*MONEY_FILTERS, TooLate())
