"""Whom `decide` lets into a pool's memory: by its kind of cache, by what it ran out of before, by who came first."""

from __future__ import annotations

import pytest

from policies.choose.decide import decide
from policies.choose.decision import Decision, Numbers, Reason
from policies.choose.facts import Facts, PastAttempt
from policies.policy import Rung
from policies.requirements import Requirements
from pools.failures.classes import FailureClass
from pools.live.state import PoolState
from pools.spec import KvCache
from support.choosing import facts, ladder, needs, rung
from support.values import replace

A10, L40S = "qwen3-vl-8b-fp8-a10", "qwen3-vl-8b-bf16-l40s"
HELD = 20_000
ASKS = replace(needs("vision", prompt=1_000, output=4_000), expected_output_tokens=100, running_output_tokens=600)


def holding(cache: KvCache, name: str = A10, tokens: int = HELD) -> Rung:
    one = rung(name)
    return replace(one, pool=replace(one.pool, kv_cache=cache), fit=replace(one.fit, kv_tokens=tokens))


def busy(tokens: int, *, requests: int = 10, ceiling: int | None = None) -> PoolState:
    return PoolState(ready=1, in_flight=requests, kv_tokens_in_flight=tokens, kv_ceiling=ceiling)


def decided(one: Rung, state: PoolState, asks: Requirements = ASKS) -> Decision:
    return decide(facts(asks, ladder(one), {one.pool.name: state}))


def numbers(decision: Decision) -> Numbers:
    [found] = decision.rejected
    assert found.reason is Reason.MEMORY
    return found.numbers


@pytest.mark.parametrize(("cache", "takes"), [(KvCache.PAGED, 1_100), (KvCache.CONTIGUOUS, 1_600)])
def test_a_contiguous_cache_counts_what_runs_a_paged_one_what_is_likely(cache: KvCache, takes: int) -> None:
    """At exactly that much free the request is let in, at one token less it is not."""
    one = holding(cache)
    assert decided(one, busy(HELD - takes)).chosen is not None
    assert numbers(decided(one, busy(HELD - takes + 1)))["needed_kv_tokens"] == takes


def test_where_nothing_is_known_of_answers_the_bound_counts() -> None:
    """The first requests of a tenant are let in as if all answers were as long as they may be."""
    unknown = replace(ASKS, running_output_tokens=None)
    assert numbers(decided(holding(KvCache.CONTIGUOUS), busy(HELD - 4_999), unknown))["needed_kv_tokens"] == 5_000


def test_what_ran_out_of_memory_before_holds_less() -> None:
    """A ceiling counts where it is below the catalogue's figure; an idle pool takes a request all the same."""
    one = holding(KvCache.CONTIGUOUS)
    assert numbers(decided(one, busy(4_000, ceiling=5_000)))["kv_tokens"] == 5_000
    assert decided(one, busy(4_000, ceiling=2 * HELD)).chosen is not None
    assert decided(one, PoolState(ready=1, kv_ceiling=1_000)).chosen is not None


def test_a_larger_pool_that_is_busy_is_waited_for_after_out_of_memory() -> None:
    """Refused for memory, which passes, and not for good; with as much free as failed elsewhere it is too early."""
    larger = holding(KvCache.PAGED, L40S, 50_000)
    past = [PastAttempt(A10, FailureClass.OUT_OF_MEMORY, free_kv_tokens=15_000)]
    of = ladder(holding(KvCache.PAGED), larger)

    def after(free: int) -> Decision:
        return decide(facts(ASKS, of, {L40S: busy(50_000 - free), A10: PoolState(ready=1)}, past=past))

    assert after(15_001).chosen is not None
    assert {one.pool: one.reason for one in after(15_000).rejected} == {
        A10: Reason.ALREADY_FAILED,
        L40S: Reason.MEMORY,
    }


def test_who_came_later_goes_elsewhere_or_waits() -> None:
    """A pool that others wait for is no candidate, however much room it has; others are."""
    of = ladder(holding(KvCache.PAGED), holding(KvCache.PAGED, L40S))
    warm = {A10: PoolState(ready=1), L40S: PoolState(ready=1)}
    asked: Facts = replace(facts(ASKS, of, warm), ahead={A10: 3})
    decision = decide(asked)
    assert [one.pool.name for one in decision.candidates] == [L40S]
    assert [(one.reason, dict(one.numbers)) for one in decision.rejected] == [(Reason.QUEUED, {"waiting": 3})]
