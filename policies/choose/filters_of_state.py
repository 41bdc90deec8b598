"""What a pool cannot do for a request just now: filters that judge it by its state, which changes by itself."""

from __future__ import annotations

from typing import Final

from policies.choose.ask import Ask, containers, holds_kv, kv_tokens_free, kv_tokens_held
from policies.choose.decision import Numbers, Reason
from policies.policy import Rung
from pools.live.state import OVERLOADED, BreakerState, PoolState
from pools.spec import KvCache

_PAGED: Final = KvCache.PAGED


class Drained:
    """Operators took the pool out.

    Example: `drained: [qwen3-vl-8b-fp8-l4]` in a policy file.
    """

    reason = Reason.DRAINED

    def applies(self, ask: Ask) -> bool:
        return True

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        return {"in_flight": state.in_flight} if state.drained else None


class NotDeployed:
    """The pool has no endpoint, or no container and nobody who starts one when it is asked for.

    Example: a pool on a ladder that `endpoints:` does not name; a Deployment at 0 Pods without `scale_to_zero`.
    """

    reason = Reason.NOT_DEPLOYED

    def applies(self, ask: Ask) -> bool:
        return True

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        if not state.deployed:
            return {"endpoints": 0}
        return None if state.wakeable or state.alive else {"containers": 0}


class Overloaded:
    """The pool refused a request a moment ago, since it had too many.

    Example: a 429 with `Retry-After: 2`, one second ago.
    """

    reason = Reason.OVERLOADED

    def applies(self, ask: Ask) -> bool:
        return True

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        return {"retry_s": round(state.breaker_retry_s, 1)} if state.breaker_reason == OVERLOADED else None


class BreakerOpen:
    """The pool failed too often lately. Half open is let through: the endpoint hands out the one probe at dispatch.

    Example: `breaker: {failures: 5, window_s: 30, half_open_after_s: 15}`, and five resets within 30 s.
    """

    reason = Reason.BREAKER

    def applies(self, ask: Ask) -> bool:
        return True

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        if state.breaker is not BreakerState.OPEN:
            return None
        numbers: Numbers = {"retry_s": round(state.breaker_retry_s, 1), "cause": state.breaker_reason or "failures"}
        if state.misconfigured:
            return {**numbers, "misconfigured": True}
        return {**numbers, "probed": True} if state.probed else numbers


class ShapeOpen:
    """Requests of this size ran out of memory there and the shape is still cooling down.

    Example: `shape_cooldown_s: 300`, and a request of 12,500 tokens (shape 14: 8,193 to 16,384) failed 100 s ago.
    """

    reason = Reason.SHAPE

    def applies(self, ask: Ask) -> bool:
        return True

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        if ask.shape not in state.shapes_open:
            return None
        return {"up_to_tokens": 1 << ask.shape, "retry_s": round(state.shapes_retry_s, 1)}


class MemoryShort:
    """The request does not fit the pool's KV cache, alone in one container or beside what is running.

    Example: 12,500 tokens, and 38,000 − 30,000 free. A pool that nothing runs on takes what fits alone by the
    catalogue, also where less is believed of it since it ran out of memory.
    """

    reason = Reason.MEMORY

    def applies(self, ask: Ask) -> bool:
        return ask.total_tokens > 0

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        fit = rung.fit
        alone = ask.context_tokens + rung.sequence_tokens
        if alone > fit.kv_tokens:
            return {"needed_kv_tokens": alone, "kv_tokens": fit.kv_tokens} if holds_kv(rung) else None
        paged = rung.pool.kv_cache is _PAGED
        needed = (ask.predicted_tokens if paged else ask.cautious_tokens) + rung.sequence_tokens
        if needed <= ask.too_few_tokens:
            needed = ask.too_few_tokens + 1
        if not (state.in_flight or state.foreign_in_flight) or needed <= (free := kv_tokens_free(rung, state)):
            return None
        return {
            "needed_kv_tokens": needed,
            "free_kv_tokens": free,
            "kv_tokens": kv_tokens_held(rung, state),
            **_company(state),
        }


class Saturated:
    """The platform would answer 429: as many requests run as the containers that serve take. One that boots takes none.
    Or as many as ran when the pool last refused one more (`pools.live.crowding`).

    Example: `max_concurrency: 32`, two containers that serve and one that boots, 64 requests in flight.
    """

    reason = Reason.SATURATED

    def applies(self, ask: Ask) -> bool:
        return True

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        count, most = containers(state), state.most_in_flight
        if most is not None and state.in_flight >= most:
            return {**_company(state), "most_in_flight": most}
        if state.in_flight + state.foreign_in_flight < rung.pool.max_concurrency * count:
            return None
        return {**_company(state), "max_concurrency": rung.pool.max_concurrency, "containers": count}


def _company(state: PoolState) -> Numbers:
    """Requests in flight, and those of others where its engine told of any."""
    if not state.foreign_in_flight:
        return {"in_flight": state.in_flight}
    return {"in_flight": state.in_flight, "foreign_in_flight": state.foreign_in_flight}


class Queued:
    """Others wait for room in the pool and came first: to go ahead would let small requests starve large ones.

    Example: a request of 200 tokens, 900 free, and one of 1,500 that has waited for 3 s.
    """

    reason = Reason.QUEUED

    def applies(self, ask: Ask) -> bool:
        return bool(ask.ahead)

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        waiting = ask.ahead.get(rung.pool.name)
        return None if waiting is None else {"waiting": waiting}
