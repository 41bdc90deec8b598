"""Whether a request does better to wait in line for a pool that is full than for a container that is to boot. Pure.

A pool with room and a ready container is never passed by for a line. But where every candidate is asleep, a full pool
may have room long before one of them serves, and what is served there buys no boot and no window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policies.choose.ask import Ask, ask_of
from policies.choose.decision import Candidate, Rejection
from policies.choose.facts import Facts
from policies.choose.filters import PRICED_FILTERS
from policies.choose.objectives import score_of
from policies.choose.price import ANY_SCORE, price
from policies.fallback import FALLBACK, SamePool
from policies.policy import Rung
from pools.live.state import PoolState


def sooner_than_boot(facts: Facts, boots: Candidate, full: Sequence[Rejection], ahead: Mapping[str, int]) -> bool:
    """Whether one of the full pools is expected to have room before `boots` has a container, and is no worse by the
    class's objective. `ahead`: how many in each pool's line come before this request.
    """
    ask = ask_of(facts)
    score = score_of(facts.request_class.objective, facts.request_class.limits)
    for one in full:
        rung = next(rung for rung in facts.request_class.ladder if rung.pool.name == one.pool)
        state = facts.states[one.pool]
        served = _served(ask, rung, state)
        if served is None:
            continue
        pause_s = float(one.numbers.get("retry_s", 0))
        line_s = max(pause_s, _line_s(served.expected_s, state, ahead.get(one.pool, 0)))
        waits_s = line_s + served.expected_s
        if line_s < boots.wait_s and score(rung.order, served.expected_bill_nusd, waits_s) <= boots.score:
            return True
    return False


def _served(ask: Ask, rung: Rung, state: PoolState) -> Candidate | None:
    """What the pool would cost and take if it had room; None where that would not help."""
    tried = any(
        past.pool == rung.pool.name and FALLBACK[past.failure].same_pool is not SamePool.WHEN_IT_HAS_ROOM
        for past in ask.past
    )
    if tried or not state.ready:
        return None
    served = price(ask, rung, state, ANY_SCORE, None)
    refused = any(one.applies(ask) and one.refuse(ask, served) is not None for one in PRICED_FILTERS)
    return None if refused else served


def _line_s(service_s: float, state: PoolState, ahead: int) -> float:
    """Until there is room: the requests that run leave, as many take their places, and so on. Each round is counted as
    long as a whole service, as if all had begun just now.
    """
    return service_s * (ahead // max(1, state.company) + 1)
