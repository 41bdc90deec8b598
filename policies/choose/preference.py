"""After a failed attempt, which of the pools that may still serve come first.

0 comes first. The rules of `policies/fallback.py` that only prefer (they refuse nothing) are worked out here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from policies.choose.ask import Ask, holds_kv
from policies.choose.decision import Candidate
from policies.choose.facts import PastAttempt
from policies.choose.failed_before import had_no_room
from policies.choose.price import ANY_SCORE, price
from policies.fallback import FALLBACK, Next
from policies.policy import Rung
from policies.requirements import shares_tokens
from pools.live.state import COLD_AND_HEALTHY, PoolState

Preference = Callable[[Rung, float], int]
"""(rung, seconds until its answer would be complete) -> 0 first, more later."""

TRIED_BEFORE = 2  # comes after every pool that was not tried, slower ones included
INEXACT = 4  # comes after every pool that goes on with a broken stream exactly, those that were tried included


def preference_of(ask: Ask, states: Mapping[str, PoolState]) -> Preference:
    """A function of the attempts made so far. Pools tried before come last, but for those that could go on with a
    broken stream only from its text; see `_after` for the rest."""
    tried = {past.pool for past in ask.past}
    rules = [_after(past, ask, states) for past in ask.past]
    continues = ask.requirements.continues

    def preference(rung: Rung, seconds: float) -> int:
        again = TRIED_BEFORE if rung.pool.name in tried else 0
        inexact = INEXACT if continues is not None and not shares_tokens(continues, rung.pool) else 0
        return again + inexact + max((rule(rung, seconds) for rule in rules), default=0)

    return preference


def before_boot(ask: Ask, candidate: Candidate) -> int:
    """Its preference against pools that are asleep: to have had no room is no reason to boot another one instead."""
    past = [one for one in ask.past if one.pool == candidate.pool.name]
    return candidate.preference - TRIED_BEFORE if past and all(map(had_no_room, past)) else candidate.preference


def _after(past: PastAttempt, ask: Ask, states: Mapping[str, PoolState]) -> Preference:
    """What one failed attempt prefers.

    - timeout: pools that are expected to be done sooner than the one that timed out, because they are faster or warmer.
    - out of memory, media models: GPUs with more memory to spare. What a picture or clip takes is in no catalogue, so
      that smaller ones are not refused, only tried later; text pools are refused by their free KV tokens.
    """
    failed = next((rung for rung in ask.ladder if rung.pool.name == past.pool), None)
    wish = FALLBACK[past.failure].next
    if failed is None:
        return _indifferent
    if wish is Next.FASTER_FIRST:
        was = price(ask, failed, states.get(past.pool, COLD_AND_HEALTHY), ANY_SCORE, None)
        limit = was.wait_s + was.expected_s
        return lambda rung, seconds: 0 if seconds < limit else 1
    if wish is Next.MORE_MEMORY and not holds_kv(failed):
        spare = _spare_gib(failed)
        return lambda rung, seconds: 0 if _spare_gib(rung) > spare else 1
    return _indifferent


def _indifferent(rung: Rung, seconds: float) -> int:
    return 0


def _spare_gib(rung: Rung) -> float:
    """GPU memory of one container beyond weights and overhead."""
    return rung.fit.budget_gib - rung.fit.weights_gib - rung.fit.overhead_gib
