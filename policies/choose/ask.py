"""One request as the filters see it: what would otherwise be worked out again for every pool."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from policies.choose.facts import CachedPrefix, Facts, PastAttempt
from policies.policy import Rung
from policies.requirements import Requirements, Tier
from pools.failures.classes import FailureClass
from pools.live.state import PoolState, shape_bucket
from pools.spec import KvCache
from pricing.budgets.store import Room


class Ask(msgspec.Struct, frozen=True):
    """Tokens, seconds and nano-dollars as in `Requirements` and `Facts`.

    `context_tokens` is prompt + output bound of the longest sequence, which a pool's context and the memory of one
    container must be able to hold; `total_tokens` that of all sequences together. `predicted_tokens` is what counts
    beside others that run, `cautious_tokens` the same where running out of memory costs more than a wait
    (`Requirements.kv_tokens`); `too_few_tokens` is the most that was free where this request ran out of memory. `tier`
    is the tier in force, `ahead`, `booting`, `cached` and `now_us` as in `Facts`.
    """

    requirements: Requirements
    tier: Tier
    tier_rank: int
    total_tokens: int
    context_tokens: int
    predicted_tokens: int
    cautious_tokens: int
    too_few_tokens: int
    shape: int
    room: Room
    pool_rooms: Mapping[str, Room]
    chain_left_nusd: int | None
    past: tuple[PastAttempt, ...]
    ladder: tuple[Rung, ...]
    ahead: Mapping[str, int]
    booting: str | None
    cached: CachedPrefix | None
    now_us: int


def ask_of(facts: Facts) -> Ask:
    """Lower the tier one step where a cap's threshold says so; a pinned pool is never lowered."""
    needs = facts.requirements
    tier = needs.tier
    if facts.room.lower_tier and needs.pinned_pool is None:
        tier = tier.below or tier
    total = needs.prompt_tokens + needs.output_bound
    return Ask(
        needs,
        tier,
        tier.rank,
        total,
        needs.context_tokens,
        needs.kv_tokens(KvCache.PAGED),
        needs.kv_tokens(KvCache.CONTIGUOUS),
        _too_few_tokens(facts) if facts.past else -1,
        shape_bucket(total if needs.media is None else needs.total_tokens),
        facts.room,
        facts.pool_rooms,
        facts.chain_left_nusd,
        facts.past,
        facts.request_class.ladder,
        facts.ahead,
        facts.booting,
        facts.cached,
        facts.now_us,
    )


def _too_few_tokens(facts: Facts) -> int:
    ran_out = (past.free_kv_tokens for past in facts.past if past.failure is FailureClass.OUT_OF_MEMORY)
    return max(ran_out, default=-1)


def containers(state: PoolState) -> int:
    """Containers to count on: those that serve, or the one that trying a pool without any would bring up."""
    return state.ready or 1


def kv_tokens_held(rung: Rung, state: PoolState) -> int:
    """KV tokens of a pool's containers: what the catalogue has, or what running out of memory has taught since."""
    held = rung.fit.kv_tokens
    if state.kv_ceiling is not None and state.kv_ceiling < held:
        held = state.kv_ceiling
    return held * containers(state)


def kv_tokens_free(rung: Rung, state: PoolState) -> int:
    """KV tokens of a pool that no request in flight is predicted to take; a cold pool has one container's."""
    held = kv_tokens_held(rung, state)
    free = held - state.kv_tokens_in_flight - rung.sequence_tokens * (state.in_flight + state.foreign_in_flight)
    return free - int(held * state.foreign_kv_share) if state.foreign_in_flight else free


def kv_tokens_too_few(rung: Rung, state: PoolState) -> int:
    """What was free where a request that has just left ran out of memory, so that it needs more elsewhere. 0 where the
    cache is contiguous: there all that ran together was too much, and the request by itself may be small.
    """
    return max(0, kv_tokens_free(rung, state)) if rung.pool.kv_cache is KvCache.PAGED else 0


def holds_kv(rung: Rung) -> bool:
    """False for media models: they keep no KV cache, and the catalogue has no figure for what a request takes."""
    return rung.fit.kv_bytes_per_token > 0
