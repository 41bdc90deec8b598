"""How long one decision takes over 30 pools, on one core; the target is a median below 100 microseconds.

    python benchmarks/bench_decide.py [--rounds 20000]

Two cases: the shipped default policy (30 pools, of which a class lists a few), and the dearest there can be, all 30
pools on one ladder, warm and busy, and all of them candidates.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace

from policies.choose.decide import decide
from policies.choose.facts import Facts
from policies.compile.load import load_policy
from policies.policy import Policy, RequestClass
from policies.requirements import Requirements, Tier
from pools.live.state import PoolState
from pricing.budgets.store import Room
from results import Result, Target

POOLS = 30
BUSY = PoolState(ready=2, in_flight=3, kv_tokens_in_flight=6_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20_000)
    rounds = parser.parse_args().rounds
    policy = load_policy([], environ={}, now_us=1_767_225_600_000_000, assume_deployed=True)
    shipped = facts_for(policy, policy.classes["chat"], dict.fromkeys(policy.pools, BUSY))
    wide_class = widened(policy.classes["chat"])
    wide = facts_for(policy, wide_class, {rung.pool.name: BUSY for rung in wide_class.ladder})
    results = {
        "the shipped default policy": measure(shipped, rounds),
        f"{POOLS} pools on one ladder, all of them candidates": measure(wide, rounds),
    }
    slowest_us = max(result[0] for result in results.values())
    about = f"One call of `decide` over {POOLS} pools, warm and busy; {rounds:,} calls each."
    rows = [(name, *(f"{value:.1f}" for value in result)) for name, result in results.items()]
    target = Target("median of a decision, µs", "below 100", f"{slowest_us:.1f}", slowest_us < 100)
    print(Result("Decide", about, ("case", "median µs", "p99 µs"), rows, [target]).as_json())


def widened(request_class: RequestClass) -> RequestClass:
    """A class whose ladder repeats the given one's pools, under other names, until there are 30."""
    ladder = []
    for order in range(POOLS):
        rung = request_class.ladder[order % len(request_class.ladder)]
        ladder.append(replace(rung, order=order, pool=replace(rung.pool, name=f"{rung.pool.name}-{order}")))
    return replace(request_class, ladder=tuple(ladder))


def facts_for(policy: Policy, request_class: RequestClass, states: Mapping[str, PoolState]) -> Facts:
    needs = Requirements("chat", Tier.ECONOMY, 800, 400, 200, request_class.limits.first_byte_deadline_s)
    room = Room(5_000_000_000, "acme/day", False)
    return Facts(needs, request_class, states, room, {}, 50_000_000, policy.version, (policy.price_book,), 0)


def measure(facts: Facts, rounds: int) -> tuple[float, float]:
    """Microseconds of one call: median and 99th percentile, after a warm-up."""
    for _ in range(rounds // 10):
        decide(facts)
    taken_ns = []
    for _ in range(rounds):
        began_ns = time.perf_counter_ns()
        decide(facts)
        taken_ns.append(time.perf_counter_ns() - began_ns)
    return statistics.median(taken_ns) / 1000, statistics.quantiles(taken_ns, n=100)[98] / 1000


if __name__ == "__main__":
    main()
