"""What the same requests would have cost with every class on its premium pool: boots and idle time included.

Each premium pool serves the requests of the classes whose premium pool it is, at the instants at which they came.
Only requests that were answered are counted, on both sides: a refused request cost nothing, and would have cost
nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from policies.policy import Policy
from pools.fit.alone import Arrival, serve_alone
from pricing.clock import US_PER_S
from router.demo.load import Outcome
from router.demo.verdict import Verdict


def baseline_nusd(policy: Policy, outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Nano-dollars by premium pool."""
    arrivals: defaultdict[str, list[Arrival]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.judged.verdict in (Verdict.SERVED, Verdict.BROKEN):
            planned = outcome.planned
            output_tokens = min(planned.output_tokens, planned.max_tokens or planned.output_tokens)
            arrival = Arrival(round(planned.at_s * US_PER_S), planned.input_tokens, output_tokens)
            arrivals[policy.classes[planned.request_class].premium_pool].append(arrival)
    return {pool: _alone_nusd(policy, pool, served) for pool, served in arrivals.items()}


def _alone_nusd(policy: Policy, name: str, arrivals: list[Arrival]) -> int:
    rungs = (rung for request_class in policy.classes.values() for rung in request_class.ladder)
    rung = next(rung for rung in rungs if rung.pool.name == name)
    time = serve_alone(rung.pool, rung.timing, rung.boot_s, arrivals)
    return rung.rate.cost_nusd(boot_us=time.boot_us, busy_us=time.busy_us, idle_us=time.idle_us)
