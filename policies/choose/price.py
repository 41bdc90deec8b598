"""What a request would cost on one pool, and how long it would take: service-time model and quote, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policies.choose.affinity import cache_saves_s
from policies.choose.ask import Ask
from policies.choose.decision import Candidate
from policies.choose.objectives import Score, listed
from policies.choose.price_tokens import price_by_tokens
from policies.policy import Rung
from pools.live.state import PoolState
from pricing.prices import quote

ANY_SCORE: Final[Score] = listed  # for callers that only want times


def price(
    ask: Ask, rung: Rung, state: PoolState, score: Score, preference: Callable[[Rung, float], int] | None
) -> Candidate:
    """The candidate of one pool. `preference` is None while nothing has failed.

    A pool without a ready container is waited for: until its booting container serves, or for a whole boot.
    """
    if rung.rate.tokens is not None:
        return price_by_tokens(ask, rung, rung.rate.tokens, score, preference)
    pool, needs = rung.pool, ask.requirements
    ready, alive, company = state.ready, state.ready + state.booting, state.in_flight + state.foreign_in_flight
    beside = company // (ready or 1)  # the platform hands a request to the least busy container
    if needs.media is None:
        time = rung.timing.estimate(needs.prompt_tokens, needs.expected_output_tokens, beside, needs.media_items)
    else:
        time = rung.timing.estimate_media(needs.media, beside)
    wait_s = 0.0 if ready else _boot_left_s(rung, state)
    rate = rung.rate.nusd_per_h
    boots = quote.boots_one(alive, company, pool.target_concurrency, pool.max_containers)
    bill = _bill_nusd(rung, state, boots, time.total_s)
    saves_s, saves_nusd = 0.0, 0
    if ask.cached is not None and ask.cached.pool == pool.name:
        saves_s = cache_saves_s(ask, ask.cached, rung, state)
        saves_nusd = bill - _bill_nusd(rung, state, boots, time.total_s - saves_s)
    share = quote.share_nusd_per_h(rate, ready, state.in_flight, pool.target_concurrency)  # others have no meter here
    seconds = wait_s + time.total_s
    return Candidate(
        pool,
        rung.tier,
        bill,
        quote.expected_charge_nusd(share, time.total_s),
        time.total_s,
        time.ttft_s,
        time.ttft_p95_s,
        wait_s,
        not ready,
        share,
        score(rung.order, bill - saves_nusd, seconds - saves_s),
        quote.cost_up_nusd(rung.rate.boot_nusd_per_h, rung.boot_s) if boots else 0,
        preference(rung, seconds) if preference is not None else 0,
        saves_s,
        saves_nusd,
    )


def _bill_nusd(rung: Rung, state: PoolState, boots: bool, service_s: float) -> int:
    """What the provider's bill grows by when this pool serves a request for that long."""
    pool = rung.pool
    added_s = quote.added_alive_s(
        service_s,
        pool.scaledown_window_s,
        alive=state.ready + state.booting,
        in_flight=state.in_flight + state.foreign_in_flight,
        target_concurrency=pool.target_concurrency,
        idle_s=state.idle_s,
        min_containers=pool.min_containers,
        max_containers=pool.max_containers,
        bills_idle=rung.rate.billed.idle,
    )
    boots_billed = boots and rung.rate.billed.boot
    return quote.expected_bill_nusd(rung.rate.nusd_per_h, 1.0 if boots_billed else 0.0, rung.boot_s, added_s)


def _boot_left_s(rung: Rung, state: PoolState) -> float:
    """Seconds until the first container serves: what is left of the boot under way, or a whole one."""
    if state.booting and state.boot_left_s is not None:
        return state.boot_left_s
    return rung.boot_s
