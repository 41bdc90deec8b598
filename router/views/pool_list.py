"""The pools as `GET /v1/pools` lists them: what the files say, what the router believes now, and what the ledger says
of the last hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policies.policy import Policy
from pools.live.state import BreakerState, PoolState
from pools.spec import PoolSpec
from pricing.clock import US_PER_S
from pricing.ledger.recent import Lately
from pricing.money import usd_number
from pricing.prices.rates import ContainerRate
from pricing.prices.token_price import TokenPrice

WINDOW_S: Final = 3600
_NOTHING: Final = Lately()


def ladders_of(policy: Policy, classes: frozenset[str] | None) -> dict[str, dict[str, str]]:
    """By pool, the tier it is listed in by class, of these classes (None: of all); in the files' order."""
    found: dict[str, dict[str, str]] = {}
    for name, request_class in policy.classes.items():
        if classes is None or name in classes:
            for rung in request_class.ladder:
                found.setdefault(rung.pool.name, {})[name] = rung.tier.value
    return found


def pool_json(
    spec: PoolSpec, ladders: Mapping[str, str], rate: ContainerRate, state: PoolState, lately: Lately | None
) -> dict[str, Any]:
    """Times are seconds, `price_usd_per_hour` that of one container. Null where there is nothing to tell from; of pools
    that are billed by the token `price_usd_per_million_tokens` says what they cost.
    """
    seen = lately or _NOTHING
    return {
        "object": "pool",
        "pool": spec.name,
        "classes": ladders,
        "model": spec.model.id,
        "quantization": spec.quantization,
        "gpu": spec.gpu.id,
        "gpu_count": spec.gpu_count,
        "price_usd_per_hour": usd_number(rate.nusd_per_h) if rate.tokens is None else None,
        "price_usd_per_million_tokens": None if rate.tokens is None else _tokens_json(rate.tokens),
        "state": state_word(state),
        "ready": state.ready,
        "booting": state.booting,
        "boot_left_s": None if state.boot_left_s is None else round(state.boot_left_s, 1),
        "max_containers": spec.max_containers,
        "in_flight": state.in_flight,
        "drained": state.drained,
        "breaker": state.breaker.value,
        "breaker_reason": state.breaker_reason if state.breaker is not BreakerState.CLOSED else None,
        "breaker_retry_s": round(state.breaker_retry_s, 1) if state.breaker is BreakerState.OPEN else None,
        "misconfigured": state.misconfigured,
        "utilisation": None if seen.utilisation is None or rate.tokens else round(seen.utilisation, 4),
        "first_token_p50_s": None if seen.ttft_p50_us is None else seen.ttft_p50_us / US_PER_S,
        "window_s": WINDOW_S,
    }


def state_word(state: PoolState) -> str:
    """One word for people: why it takes no requests, or else how far its containers are."""
    if not state.deployed:
        return "not_deployed"
    if state.drained:
        return "drained"
    if state.breaker is BreakerState.OPEN:
        return "misconfigured" if state.misconfigured else "failing"
    if state.ready:
        return "ready"
    return "booting" if state.booting else "asleep"


def _tokens_json(price: TokenPrice) -> dict[str, float]:
    return {
        "input": usd_number(price.input_nusd),
        "cached_input": usd_number(price.cached_input_nusd),
        "output": usd_number(price.output_nusd),
    }
