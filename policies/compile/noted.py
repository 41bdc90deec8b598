"""The pools of a policy as the ledger keeps them: what each was made of and cost, whatever becomes of it later."""

from __future__ import annotations

from dataclasses import replace

from policies.policy import Policy
from pricing.ledger.policy_pools import NotedPool


def noted_pools(policy: Policy) -> tuple[NotedPool, ...]:
    """Each pool at the rate that is in force when the policy is."""
    return tuple(_noted(policy, name) for name in policy.pools)


def _noted(policy: Policy, name: str) -> NotedPool:
    spec, rate = policy.pools[name], policy.rates[name]
    return NotedPool(
        pool=name,
        book=rate.book,
        provider=rate.provider,
        product=rate.product,
        gpu=spec.gpu.id,
        gpu_count=spec.gpu_count,
        cpu_cores=spec.cpu_cores,
        memory_gib=spec.memory_gib,
        region=spec.region,
        gpu_nusd_per_h=rate.gpu_nusd_per_h,
        cpu_nusd_per_h=rate.cpu_nusd_per_h,
        memory_nusd_per_h=rate.memory_nusd_per_h,
        tokens=rate.tokens and replace(rate.tokens, place="", note=""),  # where it stands is of one machine
    )
