"""The filter of a chain's own past: which pools a failed attempt rules out for the rest of the request."""

from __future__ import annotations

from collections import Counter

from policies.choose.ask import Ask, holds_kv, kv_tokens_held
from policies.choose.decision import Numbers, Reason
from policies.choose.facts import PastAttempt
from policies.fallback import FALLBACK, MOST_TRIES_ON_ONE_POOL, Next, SamePool
from policies.policy import Rung
from pools.live.state import PoolState


class FailedBefore:
    """An attempt of this request failed in a way that rules the pool out (`policies/fallback.py`).

    Example: after `out_of_memory` on a pool with 18,000 KV tokens free, a pool that holds 15,000 is refused. One that
    holds more, but has no more free just now, is waited for (`policies.choose.filters_of_state.MemoryShort`).
    """

    reason = Reason.ALREADY_FAILED

    def applies(self, ask: Ask) -> bool:
        return bool(ask.past)

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        tries = Counter(past.pool for past in ask.past if not had_no_room(past))
        for past in ask.past:
            rule = FALLBACK[past.failure]
            if not rule.goes_on:
                return _failure(past)
            if past.pool == rung.pool.name:
                again = rule.same_pool is not SamePool.NO and tries[past.pool] < MOST_TRIES_ON_ONE_POOL
                if not again and not had_no_room(past):
                    return {**_failure(past), "tries": tries[past.pool]}
                continue
            short = _falls_short(rule.next, ask, past, rung, state)
            if short is not None:
                return {**_failure(past), **short}
        return None


def had_no_room(past: PastAttempt) -> bool:
    """It refused the moment, and has not tried the request."""
    return FALLBACK[past.failure].same_pool is SamePool.WHEN_IT_HAS_ROOM


def _failure(past: PastAttempt) -> dict[str, float | int | str]:
    return {"failed_pool": past.pool, "failure": past.failure.value}


def _falls_short(wish: Next, ask: Ask, past: PastAttempt, rung: Rung, state: PoolState) -> Numbers | None:
    """How another pool falls short of what the failure calls for."""
    if wish is Next.LARGER_CONTEXT and rung.pool.max_model_len <= past.max_model_len:
        return {"max_model_len": rung.pool.max_model_len, "failed_max_model_len": past.max_model_len}
    if wish is Next.MORE_MEMORY and holds_kv(rung):
        held = kv_tokens_held(rung, state)
        if held <= past.free_kv_tokens:
            return {"kv_tokens": held, "failed_free_kv_tokens": past.free_kv_tokens}
    if wish is Next.HIGHER_TIER:
        failed = next((other for other in ask.ladder if other.pool.name == past.pool), None)
        if failed is not None and rung.tier.rank <= failed.tier.rank:
            return {"pool_tier": rung.tier.value, "failed_tier": failed.tier.value}
    return None
