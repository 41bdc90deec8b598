"""What a service says of its health. None of it touches a model, a disk or a server."""

from __future__ import annotations

from typing import Any

from policies.choose.names import resolve
from policies.policy import Limits, OnStoreDown, RequestClass
from policies.requirements import Tier
from pools.live.state import BreakerState, PoolState
from pricing.clock import US_PER_S
from pricing.money import usd_number
from router.service.service import Service


def readiness(service: Service) -> dict[str, Any]:
    """Ready to serve: not stopping, no loop has died, and the store is up or lets some requests through without it.

    `degraded` is ready all the same: requests of some classes pass on this replica's allowance, the others are refused.
    """
    state, dead = service.store.state(), service.loops.dead
    passes = state.up or (_some_class_allows(service) and state.allowance_left_nusd > 0)
    return {
        "ready": passes and not service.stopping and not dead,
        "degraded": passes and not state.up,
        "stopping": service.stopping,
        "loops_dead": dead,
        "store": "up" if state.up else "down",
        "policy_version": service.policy.version,
        "price_book": service.policy.price_book,
        "simulated": service.settings.simulated is not None,
    }


def public_health(service: Service) -> dict[str, Any]:
    """Readiness, and for how many reasons changed files were refused: no name of a tenant, pool or host."""
    return {**readiness(service), "policy_problems": len(service.reloader.state().last_error)}


def health(service: Service) -> dict[str, Any]:
    """The same with all that explains it."""
    return {
        **public_health(service),
        "replica": service.settings.replica,
        "policy": _policy(service),
        "budget_store": _store(service),
        "ledger": _ledger(service),
        "pools": _pools(service),
    }


def health_of(service: Service, model: str, *, with_pools: bool) -> dict[str, Any]:
    """Of what a client may send as `model`: whether a request would be served, and how soon, as the router believes.

    `status` is `ready` (a container is), `booting`, `asleep` (a request would boot one) or `unavailable`. Raises
    UnknownModel.
    """
    meant = resolve(service.policy, model)
    request_class = service.policy.classes[meant.request_class]
    tier = meant.tier or request_class.default_tier
    pools = _may_serve(service, request_class, tier, meant.pinned_pool)
    usable = {name: state for name, state in pools.items() if _usable(state)}
    ready_in_s = min((_ready_in_s(service, name, state) for name, state in usable.items()), default=None)
    if not usable or not _takes_requests(service, request_class.limits):
        status, ready_in_s = "unavailable", None
    elif any(state.ready for state in usable.values()):
        status = "ready"
    else:
        status = "booting" if any(state.booting for state in usable.values()) else "asleep"
    report = {
        "status": status,
        "ready_in_s": ready_in_s,
        "class": request_class.name,
        "tier": None if meant.pinned_pool else tier.value,
    }
    return {**report, "pools": {name: _pool(state) for name, state in pools.items()}} if with_pools else report


def _may_serve(service: Service, request_class: RequestClass, tier: Tier, pinned: str | None) -> dict[str, PoolState]:
    """Pools with an endpoint that a request of this class and tier may get, in the ladder's order."""
    states = service.live.states()
    names = [rung.pool.name for rung in request_class.ladder if pinned or rung.tier.rank >= tier.rank]
    return {name: states[name] for name in names if name in states and states[name].deployed and pinned in (None, name)}


def _usable(state: PoolState) -> bool:
    startable = state.wakeable or state.alive > 0
    return startable and not state.drained and state.breaker is not BreakerState.OPEN


def _ready_in_s(service: Service, name: str, state: PoolState) -> float:
    if state.ready:
        return 0.0
    return state.boot_left_s if state.booting and state.boot_left_s is not None else service.policy.boots_s[name]


def _takes_requests(service: Service, limits: Limits) -> bool:
    """Whether requests of a class with these limits are let in at all."""
    state = service.store.state()
    passes = state.up or (limits.on_store_down is OnStoreDown.ALLOW and state.allowance_left_nusd > 0)
    return passes and not service.stopping and not service.loops.dead


def _some_class_allows(service: Service) -> bool:
    return any(one.limits.on_store_down is OnStoreDown.ALLOW for one in service.policy.classes.values())


def _policy(service: Service) -> dict[str, Any]:
    state = service.reloader.state()
    return {
        "version": state.version,
        "loaded_at": state.loaded_us / US_PER_S,
        "checked_at": state.checked_us / US_PER_S,
        "problems": list(state.last_error),
        "replaced": list(service.policy.replaced),
    }


def _store(service: Service) -> dict[str, Any]:
    state, shared = service.store.state(), service.parts.shared
    return {
        "kind": "file" if shared is None else "redis",
        "down_since": None if state.down_since_us is None else state.down_since_us / US_PER_S,
        "trouble": state.trouble,
        "endings_kept": state.kept,
        "allowance_left_usd": usd_number(state.allowance_left_nusd),
        "clock_skew_s": 0.0 if shared is None else round(shared.store.skew_s, 3),
        "weaker_than_promised": [] if shared is None else list(shared.weaknesses),
    }


def _ledger(service: Service) -> dict[str, Any]:
    """Where rows wait for PostgreSQL: how many, and why, if they do not move. A file is written with each step."""
    shared = service.parts.shared
    if shared is None:
        return {"kind": "file"}
    backlog = shared.backlog
    waiting = (
        None if backlog is None else {"entries": backlog.entries, "bytes": backlog.bytes, "age_s": backlog.oldest_s}
    )
    poison = 0 if backlog is None else backlog.poison
    return {"kind": "postgresql", "trouble": shared.ledger_problem or "", "waiting": waiting, "poison": poison}


def _pools(service: Service) -> dict[str, dict[str, Any]]:
    """The pools that have an endpoint, as the router believes them to be."""
    return {name: _pool(state) for name, state in service.live.states().items() if state.deployed}


def _pool(state: PoolState) -> dict[str, Any]:
    return {
        "ready": state.ready,
        "booting": state.booting,
        "in_flight": state.in_flight,
        "breaker": str(state.breaker),
        "misconfigured": state.breaker_reason if state.misconfigured else None,
        "drained": state.drained,
        "engine": _engine(state),
    }


def _engine(state: PoolState) -> dict[str, Any] | None:
    """What the pool's engine said of itself within the last half minute; None where it was not asked, or did not say.

    `containers` is for how many it spoke; `foreign` are requests that they run beyond those sent from here.
    """
    load = state.engine
    if load is None:
        return None
    return {
        "running": load.running,
        "waiting": load.waiting,
        "kv_usage": load.kv_usage,
        "preemptions": load.preemptions,
        "containers": load.containers,
        "foreign": state.foreign_in_flight,
    }
