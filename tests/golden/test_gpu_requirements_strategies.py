"""The three strategies of the GPU requirements document: the GPU of its tables, and the next where that is gone."""

from __future__ import annotations

import pytest

from policies.choose.decide import decide
from policies.choose.facts import PastAttempt
from policies.policy import Objective, Policy
from policies.requirements import Requirements, Tier
from pools.failures.classes import FailureClass
from pools.live.state import BreakerState, PoolState, shape_bucket
from support.choosing import facts, shipped
from support.values import replace

# (GPU of the document's table, GPU that serves when that one is gone), by strategy and system.
TABLES = {
    "gpu-requirements-cost-optimized": {
        "flux-schnell": ("T4", "A10"),
        "flux-dev": ("L40S", "A100-40GB"),
        "instantid": ("A10", "L40S"),
        "lora": ("T4", "A10"),
        "wan2.1": ("L40S", "A100-40GB"),
        "seedvr2": ("A10", "L40S"),
    },
    "gpu-requirements-performance": {
        "flux-schnell": ("A10", "L40S"),
        "flux-dev": ("L40S", "A100-40GB"),
        "instantid": ("L40S", "A10"),
        "lora": ("A10", "L40S"),
        "wan2.1": ("A100-80GB", "L40S"),
        "seedvr2": ("L40S", "A10"),
    },
    "gpu-requirements-hybrid": {
        "flux-schnell": ("T4", "A10"),
        "flux-dev": ("L40S", "A100-40GB"),
        "instantid": ("A10", "L40S"),
        "lora": ("T4", "A10"),
        "wan2.1": ("L40S", "A100-40GB"),
        "seedvr2": ("A10", "L40S"),
    },
}
CASES = [
    pytest.param(strategy, system, first, second, id=f"{strategy.removeprefix('gpu-requirements-')}-{system}")
    for strategy, table in TABLES.items()
    for system, (first, second) in table.items()
]


def gpu_chosen(policy: Policy, system: str, states: dict[str, PoolState], *past: PastAttempt) -> tuple[str, str]:
    """(GPU, pool) for one item of a system. A system counts items: it has no tokens."""
    request_class = policy.classes[system]
    wanted = Requirements(system, request_class.default_tier, 0, 0, 0, request_class.limits.first_byte_deadline_s)
    chosen = decide(facts(wanted, request_class, states, past=past)).chosen
    assert chosen is not None
    return chosen.pool.gpu.id, chosen.pool.name


@pytest.mark.parametrize(("strategy", "system", "first", "second"), CASES)
def test_the_gpu_of_the_table_serves_and_then_the_next(strategy: str, system: str, first: str, second: str) -> None:
    """With all pools up the document's GPU is chosen; down, out of memory or failed, the next alternative is."""
    policy = shipped(strategy)
    gpu, pool = gpu_chosen(policy, system, {})
    assert gpu == first
    gone = {
        "breaker open": PoolState(breaker=BreakerState.OPEN, breaker_retry_s=15.0),
        "drained": PoolState(drained=True),
        "not deployed": PoolState(deployed=False),
        "out of memory lately": PoolState(shapes_open=frozenset({shape_bucket(0)}), shapes_retry_s=300.0),
    }
    for why, state in gone.items():
        assert gpu_chosen(policy, system, {pool: state})[0] == second, why
    for failure in (FailureClass.OUT_OF_MEMORY, FailureClass.UNAVAILABLE):
        assert gpu_chosen(policy, system, {}, PastAttempt(pool, failure))[0] == second, failure


@pytest.mark.parametrize("strategy", TABLES)
def test_strategies_choose_by_the_list_and_not_by_price(strategy: str) -> None:
    """All six systems are there, with objective `listed`, and a warm pool further down changes nothing."""
    policy = shipped(strategy)
    assert set(policy.classes) == set(TABLES[strategy])
    assert {one.objective for one in policy.classes.values()} == {Objective.LISTED}
    for system, (first, _) in TABLES[strategy].items():
        others = [rung.pool.name for rung in policy.classes[system].ladder[1:]]
        assert gpu_chosen(policy, system, dict.fromkeys(others, PoolState(ready=1)))[0] == first


def test_two_of_the_three_strategies_are_the_same() -> None:
    """Cost-optimized and hybrid name the same GPU for all six systems: the document has two strategies, not three."""
    cost, hybrid = shipped("gpu-requirements-cost-optimized"), shipped("gpu-requirements-hybrid")
    ladders = [{n: [r.pool.name for r in c.ladder] for n, c in policy.classes.items()} for policy in (cost, hybrid)]
    assert ladders[0] == ladders[1]
    assert TABLES["gpu-requirements-cost-optimized"] == TABLES["gpu-requirements-hybrid"]


@pytest.mark.parametrize("tier", Tier)
def test_every_tier_may_use_a_strategy(tier: Tier) -> None:
    """The document knows no tiers, so a request of any tier gets the same pool."""
    policy = shipped("gpu-requirements-hybrid")
    request_class = replace(policy.classes["instantid"], default_tier=tier)
    wanted = Requirements("instantid", tier, 0, 0, 0, 120.0)
    chosen = decide(facts(wanted, request_class)).chosen
    assert chosen is not None
    assert chosen.pool.name == "instantid-fp16-a10"
