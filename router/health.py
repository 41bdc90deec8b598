"""What a service says of its health. None of it touches a model, a disk or a server."""

from __future__ import annotations

from typing import Any

from policies.policy import OnStoreDown
from pricing.clock import US_PER_S
from pricing.money import usd_number
from router.service import Service


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
    }


def health(service: Service) -> dict[str, Any]:
    """Readiness with all that explains it."""
    return {
        **readiness(service),
        "replica": service.settings.replica,
        "policy": _policy(service),
        "budget_store": _store(service),
        "ledger": _ledger(service),
        "pools": _pools(service),
    }


def _some_class_allows(service: Service) -> bool:
    return any(one.limits.on_store_down is OnStoreDown.ALLOW for one in service.policy.classes.values())


def _policy(service: Service) -> dict[str, Any]:
    state = service.reloader.state()
    return {
        "version": state.version,
        "loaded_at": state.loaded_us / US_PER_S,
        "checked_at": state.checked_us / US_PER_S,
        "problems": list(state.last_error),
    }


def _store(service: Service) -> dict[str, Any]:
    state, shared = service.store.state(), service.parts.shared
    return {
        "kind": "file" if shared is None else "redis",
        "down_since": None if state.down_since_us is None else state.down_since_us / US_PER_S,
        "trouble": state.trouble,
        "endings_kept": state.kept,
        "allowance_left_usd": usd_number(state.allowance_left_nusd),
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
    return {
        name: {
            "ready": state.ready,
            "booting": state.booting,
            "in_flight": state.in_flight,
            "breaker": str(state.breaker),
            "misconfigured": state.breaker_reason if state.misconfigured else None,
            "drained": state.drained,
        }
        for name, state in service.live.states().items()
        if state.deployed
    }
