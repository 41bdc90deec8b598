"""Why a pool cannot serve a request: one filter per reason, each with the numbers it judged by.

A filter's `applies` says once per decision whether it can refuse anything; `refuse` then looks at one pool and returns
the numbers of its refusal, or None. `POOL_FILTERS` need no price and run first, in order; `PRICED_FILTERS` look at the
candidate with its expected money and times. A new filter is one more class here, one more `Reason`, and one sentence
in `policies/explain/sentences.py`.
"""

from __future__ import annotations

from typing import Final, Protocol

from policies.choose.ask import Ask, containers, holds_kv, kv_tokens_free, kv_tokens_held
from policies.choose.decision import Candidate, Numbers, Reason
from policies.choose.failed_before import FailedBefore
from policies.policy import Rung
from policies.requirements import shares_tokens
from pools.live.state import OVERLOADED, BreakerState, PoolState
from pools.media import activation_gib
from pools.spec import KvCache
from pricing.budgets.store import Room

_PAGED: Final = KvCache.PAGED


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


class NotPinned:
    """The client named a pool, and this is another.

    Example: `model: qwen3-vl-8b-fp8-l4` refuses every pool but `qwen3-vl-8b-fp8-l4`.
    """

    reason = Reason.NOT_PINNED

    def applies(self, ask: Ask) -> bool:
        return ask.requirements.pinned_pool is not None

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        pinned = ask.requirements.pinned_pool
        return None if rung.pool.name == pinned else {"pinned_pool": str(pinned)}


class BelowTier:
    """The pool is listed below the tier asked for. A pinned pool serves whatever its tier.

    Example: `tier: standard` refuses the pools under `economy:`.
    """

    reason = Reason.TIER

    def applies(self, ask: Ask) -> bool:
        return ask.tier_rank > 0 and ask.requirements.pinned_pool is None

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        if rung.tier.rank >= ask.tier_rank:
            return None
        return {"pool_tier": rung.tier.value, "needed_tier": ask.tier.value}


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


class LacksFeature:
    """The request needs a feature that the pool was not started with, or was found to lack.

    Example: a request with images, and a pool whose row has `features: [tools]`.
    """

    reason = Reason.FEATURE

    def applies(self, ask: Ask) -> bool:
        return bool(ask.requirements.features)

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        missing = (ask.requirements.features - rung.pool.features) | (ask.requirements.features & state.features_off)
        return {"missing": ", ".join(sorted(missing))} if missing else None


class ContextTooShort:
    """Prompt + output bound is longer than the engine was started for.

    Example: 12,000 prompt tokens + 5,000 of output against `max_model_len: 16384`. Media models have no context.
    """

    reason = Reason.CONTEXT

    def applies(self, ask: Ask) -> bool:
        return ask.total_tokens > 0

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        longest = rung.pool.max_model_len
        if ask.context_tokens <= longest or not longest:
            return None
        return {"needed_tokens": ask.context_tokens, "max_model_len": longest}


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
        return {**numbers, "misconfigured": True} if state.misconfigured else numbers


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


class TooLarge:
    """What a picture or clip takes while it is made, beside the weights, is more than the GPU has.

    Example: four pictures of 1024 × 1024 at once from FLUX.1 on an A100 of 40 GB: 31.5 GiB of weights, 1.5 of overhead
    and 4 × 2.0 are more than 36.3 GiB.
    """

    reason = Reason.TOO_LARGE

    def applies(self, ask: Ask) -> bool:
        return ask.requirements.media is not None

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        media = ask.requirements.media
        if media is None:
            return None
        fit = rung.fit
        needed = fit.weights_gib + fit.overhead_gib + activation_gib(rung.pool, media)
        if needed <= fit.budget_gib:
            return None
        return {"needed_gib": round(needed, 2), "budget_gib": round(fit.budget_gib, 2)}


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


class OverBudget:
    """A cap has less left than the request's expected charge.

    Example: `caps: [{name: day, amount_usd: 5, window: 24h, scope: "tag:x"}]` with $0.0010 left, and an expected charge
    of $0.0024.
    """

    reason = Reason.BUDGET

    def applies(self, ask: Ask) -> bool:
        return ask.room.left_nusd is not None or bool(ask.pool_rooms)

    def refuse(self, ask: Ask, candidate: Candidate) -> Numbers | None:
        charge = candidate.expected_charge_nusd
        if ask.room.left_nusd is not None and charge > ask.room.left_nusd:
            return _short(charge, ask.room)
        if not ask.pool_rooms:
            return None
        own = ask.pool_rooms.get(candidate.pool.name)
        return _short(charge, own) if own and own.left_nusd is not None and charge > own.left_nusd else None


def _short(charge_nusd: int, room: Room) -> Numbers:
    return {"needed_nusd": charge_nusd, "left_nusd": room.left_nusd or 0, "cap": room.cap or ""}


class ChainCost:
    """The attempts of this request would cost more than its limit, counting the boot that this pool would cause.

    Example: `chain_cost_limit_usd: 0.05`, $0.03 spent on a first attempt, and a cold pool whose boot costs $0.04.
    """

    reason = Reason.CHAIN_COST

    def applies(self, ask: Ask) -> bool:
        return ask.chain_left_nusd is not None

    def refuse(self, ask: Ask, candidate: Candidate) -> Numbers | None:
        needed = candidate.expected_charge_nusd + candidate.boot_nusd
        left = ask.chain_left_nusd
        if left is None or needed <= left:
            return None
        return {"needed_nusd": needed, "boot_nusd": candidate.boot_nusd, "left_nusd": left}


class TooLate:
    """The first token cannot come before the deadline.

    Example: `first_byte_deadline_s: 30`, and a cold pool that boots in 40 s. Last, so that what it refuses could serve
    if it were warm.
    """

    reason = Reason.DEADLINE

    def applies(self, ask: Ask) -> bool:
        return True

    def refuse(self, ask: Ask, candidate: Candidate) -> Numbers | None:
        if candidate.wait_s + candidate.ttft_s <= ask.requirements.deadline_s:
            return None
        return {
            "wait_s": round(candidate.wait_s, 3),
            "ttft_s": round(candidate.ttft_s, 3),
            "deadline_s": round(ask.requirements.deadline_s, 3),
        }


class OtherTokenizer:
    """A stream broke that can go on by token ids only, and the pool's model has other tokens; or from its text, which
    an API that is billed by the token would answer instead of going on with.

    Example: `model: chat`, a body with `continue_final_message`, a stream that broke on a Qwen3 pool, and a Qwen2.5
    pool.
    """

    reason = Reason.TOKENIZER

    def applies(self, ask: Ask) -> bool:
        return ask.requirements.continues is not None

    def refuse(self, ask: Ask, rung: Rung, state: PoolState) -> Numbers | None:
        continues, pool = ask.requirements.continues, rung.pool
        if continues is None or shares_tokens(continues, pool) or (continues.by_text and pool.terms is None):
            return None
        numbers: Numbers = {"tokenizer": pool.model.tokenizer}
        return numbers if continues.by_text else {**numbers, "needed_tokenizer": str(continues.tokenizer)}


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
PRICED_FILTERS: Final[tuple[PricedFilter, ...]] = (OverBudget(), ChainCost(), TooLate())
