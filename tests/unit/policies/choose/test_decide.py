"""`decide`: capable first, then by objective; tiers, deadlines, warming."""

from __future__ import annotations

import pytest

from policies.choose.decide import decide
from policies.choose.decision import Decision, Reason
from policies.policy import Limits, Objective
from policies.requirements import Tier
from pools.live.state import BreakerState, PoolState, shape_bucket
from pricing.budgets.store import Room
from support.choosing import NO_LIMIT, USD, WARM, facts, ladder, needs, rung, shipped
from support.values import replace

T4, L4, A10, L40S, A100 = (
    "qwen3-vl-8b-awq-t4",
    "qwen3-vl-8b-fp8-l4",
    "qwen3-vl-8b-fp8-a10",
    "qwen3-vl-8b-bf16-l40s",
    "qwen3-vl-8b-bf16-a100-80",
)
VISION = needs("vision", Tier.ECONOMY, prompt=4_000)


def order(decision: Decision) -> list[str]:
    return [candidate.pool.name for candidate in decision.candidates]


def reasons(decision: Decision) -> dict[str, Reason]:
    return {one.pool: one.reason for one in decision.rejected}


def test_all_cold_the_cheapest_gpu_comes_first() -> None:
    """With everything asleep the order is that of the rates: T4, L4, A10, L40S, A100."""
    assert order(decide(facts(VISION))) == [T4, L4, A10, L40S, A100]


def test_a_warm_dear_pool_beats_a_cold_cheap_one() -> None:
    """A warm pool adds little to the bill, a cold one a boot and a whole window."""
    chosen = decide(facts(VISION, states={L40S: WARM})).chosen
    assert chosen is not None
    assert (chosen.pool.name, chosen.cold, chosen.wait_s) == (L40S, False, 0.0)


def test_a_pool_serves_its_tier_and_those_below() -> None:
    """A standard request passes over the economy pools and may use the premium ones."""
    decision = decide(facts(replace(VISION, tier=Tier.STANDARD)))
    assert reasons(decision)[T4] is Reason.TIER
    assert order(decision) == [L4, A10, L40S, A100]


def test_a_budget_threshold_lowers_the_tier_by_one_step() -> None:
    """`lower_tier` turns standard into economy, and economy stays what it is."""
    lowering = replace(NO_LIMIT, lower_tier=True)
    decision = decide(facts(replace(VISION, tier=Tier.STANDARD), room=lowering))
    assert (decision.tier, decision.requirements.tier) == (Tier.ECONOMY, Tier.STANDARD)
    assert order(decision)[0] == T4
    assert decide(facts(VISION, room=lowering)).tier is Tier.ECONOMY


def test_a_pinned_pool_is_never_lowered_and_never_replaced() -> None:
    """The pool that the client named is the only candidate, whatever its tier and whatever the budget says."""
    pinned = replace(VISION, tier=Tier.PREMIUM, pinned_pool=T4)
    decision = decide(facts(pinned, room=replace(NO_LIMIT, lower_tier=True)))
    assert decision.tier is Tier.PREMIUM
    assert order(decision) == [T4]
    assert set(reasons(decision).values()) == {Reason.NOT_PINNED}


def test_pools_of_other_classes_are_rejected_too() -> None:
    """Every pool in the states is accounted for, on the ladder or not."""
    decision = decide(facts(VISION, states={"elsewhere": WARM}))
    assert reasons(decision) == {"elsewhere": Reason.CLASS}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (PoolState(drained=True), Reason.DRAINED),
        (PoolState(deployed=False), Reason.NOT_DEPLOYED),
        (PoolState(breaker=BreakerState.OPEN), Reason.BREAKER),
        (PoolState(ready=1, shapes_open=frozenset({shape_bucket(4_500)})), Reason.SHAPE),
        (PoolState(ready=1, in_flight=3, kv_tokens_in_flight=10**6), Reason.MEMORY),
        (PoolState(ready=1, in_flight=64), Reason.SATURATED),
        (PoolState(ready=1, booting=1, in_flight=64), Reason.SATURATED),
        (PoolState(ready=2, in_flight=3, most_in_flight=3), Reason.SATURATED),
    ],
)
def test_a_pool_that_cannot_serve_now_is_rejected(state: PoolState, reason: Reason) -> None:
    """Each thing that can be wrong with a pool has its own reason."""
    assert reasons(decide(facts(VISION, states={T4: state})))[T4] is reason


def test_a_half_open_breaker_lets_the_probe_through() -> None:
    """The endpoint hands out the one probe, so `decide` keeps the pool."""
    assert T4 in order(decide(facts(VISION, states={T4: PoolState(breaker=BreakerState.HALF_OPEN)})))


def test_a_shape_that_ran_out_of_memory_bars_only_its_own_size() -> None:
    """A smaller request still goes to the pool where a larger one failed."""
    state = PoolState(shapes_open=frozenset({shape_bucket(16_000)}))
    assert T4 in order(decide(facts(VISION, states={T4: state})))


def test_features_and_context_are_judged_by_the_pool_row() -> None:
    """A feature that was found missing, and a prompt longer than max_model_len, rule a pool out."""
    tools = replace(VISION, features=frozenset({"tools"}))
    assert (
        reasons(decide(facts(tools, states={T4: PoolState(features_off=frozenset({"tools"}))})))[T4] is Reason.FEATURE
    )
    long = decide(facts(needs("vision", Tier.ECONOMY, prompt=40_000)))
    assert reasons(long) == {T4: Reason.CONTEXT, L4: Reason.CONTEXT, A10: Reason.CONTEXT}


def test_money_rules_pools_out_one_by_one() -> None:
    """What is left in the caps, in a pool's own cap, and of the chain's limit are compared with each pool's numbers."""
    charges = {one.pool.name: one.expected_charge_nusd for one in decide(facts(VISION)).candidates}
    left = sorted(charges.values())[2]
    decision = decide(facts(VISION, room=Room(left, "acme/day", False)))
    assert {name for name, reason in reasons(decision).items() if reason is Reason.BUDGET} == {
        name for name, charge in charges.items() if charge > left
    }
    pool_cap = decide(facts(VISION, pool_rooms={T4: Room(0, "pool:t4/day", False)}))
    assert reasons(pool_cap) == {T4: Reason.BUDGET}
    chain = decide(facts(VISION, states={L40S: WARM}, chain_left_nusd=USD // 50))
    assert set(reasons(chain).values()) == {Reason.CHAIN_COST}
    assert order(chain) == [L40S]


def test_the_cheapest_is_warmed_when_only_boots_stand_in_the_way() -> None:
    """A deadline that no boot can meet leaves no candidate and names the cheapest pool to wake."""
    decision = decide(facts(replace(VISION, deadline_s=20.0)))
    assert decision.candidates == ()
    assert set(reasons(decision).values()) == {Reason.DEADLINE}
    assert (decision.warm, round(decision.warm_s)) == (T4, round(rung(T4).boot_s))


def test_a_boot_under_way_is_waited_for() -> None:
    """A booting pool is counted with what is left of its boot, and costs no second boot."""
    booting = PoolState(booting=1, boot_left_s=5.0)
    decision = decide(facts(replace(VISION, deadline_s=20.0), states={L40S: booting}))
    assert order(decision) == [L40S]
    assert (decision.candidates[0].wait_s, decision.candidates[0].boot_nusd) == (5.0, 0)


def test_nothing_is_warmed_for_a_deadline_that_no_warm_pool_meets() -> None:
    """Warming helps only where the first token would be in time afterwards."""
    assert decide(facts(replace(VISION, deadline_s=0.001))).warm is None


def test_nothing_is_warmed_that_is_not_affordable() -> None:
    """A pool that the budget refuses is not woken either."""
    decision = decide(facts(replace(VISION, deadline_s=20.0), room=Room(0, "acme/day", False)))
    assert decision.warm is None
    assert set(reasons(decision).values()) == {Reason.BUDGET}


@pytest.mark.parametrize(
    ("objective", "first"),
    [(Objective.LISTED, L40S), (Objective.CHEAPEST, T4), (Objective.FASTEST, A100), (Objective.BALANCED, T4)],
)
def test_objectives_order_differently(objective: Objective, first: str) -> None:
    """The list, the bill, the seconds, and the bill plus what waiting is worth."""
    rungs = [rung(name) for name in (L40S, A100, A10, T4)]
    assert order(decide(facts(VISION, ladder(*rungs, objective=objective))))[0] == first


def test_dear_waiting_turns_balanced_into_fastest() -> None:
    """With waiting at $1,000 an hour the fastest pool wins, at nothing an hour the cheapest."""
    rungs = [rung(name) for name in (L40S, A100, A10, T4)]
    for usd, objective in ((1_000.0, Objective.FASTEST), (0.0, Objective.CHEAPEST)):
        balanced = ladder(*rungs, objective=Objective.BALANCED, limits=Limits(waiting_usd_per_hour=usd))
        expected = order(decide(facts(VISION, ladder(*rungs, objective=objective))))
        assert order(decide(facts(VISION, balanced))) == expected


def test_a_busy_pool_shares_its_cost_and_takes_longer() -> None:
    """Beside others a request is slower and pays a smaller share of the container."""
    alone = decide(facts(VISION, states={L40S: WARM})).candidates[0]
    busy = decide(facts(VISION, states={L40S: PoolState(ready=1, in_flight=3, kv_tokens_in_flight=9_000)})).candidates
    beside = next(one for one in busy if one.pool.name == L40S)
    assert beside.expected_s > alone.expected_s
    assert beside.share_nusd_per_h < alone.share_nusd_per_h == rung(L40S).rate.nusd_per_h


def test_the_decision_names_what_it_was_made_from() -> None:
    """Policy version, price books and instant are those of the facts."""
    given = facts(VISION)
    decision = decide(given)
    assert (decision.policy_version, decision.price_books) == ("test", ("modal-2026-10",))
    assert (decision.decided_us, decision.objective) == (given.now_us, shipped().classes["vision"].objective)
