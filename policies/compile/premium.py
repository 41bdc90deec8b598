"""The premium pools of a policy's classes, as the ledger keeps them: what recorded baselines would have needed."""

from __future__ import annotations

from policies.policy import Policy
from pricing.ledger.policy_history import PremiumPool


def premium_of(policy: Policy) -> tuple[PremiumPool, ...]:
    """Each of them once, with its classes."""
    classes: dict[str, list[str]] = {}
    for each in policy.classes.values():
        classes.setdefault(each.premium_pool, []).append(each.name)
    return tuple(_premium(policy, pool, names) for pool, names in classes.items())


def _premium(policy: Policy, pool: str, classes: list[str]) -> PremiumPool:
    spec = policy.pools[pool]
    return PremiumPool(pool, spec.gpu.id, spec.gpu_count, policy.rates[pool].nusd_per_h, tuple(classes))
