"""The baselines that a policy can state for a report: the premium pools of its classes, or one pool by name."""

from __future__ import annotations

from policies.compile.premium import premium_of
from policies.policy import Policy
from pools.fit.timing import timing_of
from pricing.nearest import nearest
from pricing.reports.baseline import AS_RECORDED, Baseline, BaselinePool

PREMIUM = "premium"


def stated_baseline(policy: Policy, name: str = PREMIUM) -> Baseline:
    """`premium`, with the policy's pools for requests of its own version; or all requests on the pool of that name.

    Raises ValueError for one that cannot be a baseline.
    """
    if name == PREMIUM:
        return Baseline(AS_RECORDED.title, stated={policy.version: premium_of(policy)})
    if name not in policy.pools:
        raise ValueError(
            f"no pool '{name}' to be the baseline{nearest(name, policy.pools)};"
            f" name a pool of the policy, or '{PREMIUM}'"
        )
    if policy.pools[name].model.seconds_per_item is not None:
        raise ValueError(f"pool '{name}' makes pictures or clips; a baseline needs one that writes text")
    return Baseline(f"all on pool {name} as policy {policy.version} has it", _pool(policy, name))


def _pool(policy: Policy, name: str) -> BaselinePool:
    spec = policy.pools[name]
    model, target = timing_of(spec), spec.target_concurrency

    def seconds(prompt_tokens: float, output_tokens: float) -> float:
        return model.estimate(round(prompt_tokens), round(output_tokens), target - 1).total_s / target

    rate = policy.rates[name]
    return BaselinePool(name, spec.gpu.id, spec.gpu_count, rate.nusd_per_h, seconds, rate.tokens)
