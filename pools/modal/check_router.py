"""What speaks against running the router on Modal as a policy says: refused before anything is deployed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pools.modal.check import NAME_AT_MOST, REGIONS
from pools.modal.declare import app_name
from pools.modal.router import NAME, STORES, TOKEN, router_app
from pools.modal.settings import ModalSettings, RouterSettings
from pricing.nearest import nearest


def router_problems(settings: ModalSettings, router: RouterSettings, asked: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with `platform: modal: router:`, "path:line: what; what to do" each. `asked` are the environment
    variables that the policy's files name, each with its place.
    """
    for sentence in (*_scaling(router), *_region(router), *_variables(router), *_name(settings)):
        yield f"{router.place}: {sentence}"
    for name, place in asked.items():
        if name not in router.variables:
            yield f"{place}: ${{{name}}} is in no Secret of the router; put it into one, and list it at {router.place}"


def pool_name_problems(pools: Iterable[str], settings: ModalSettings, place: str) -> Iterator[str]:
    """Pools whose App would have the router's name."""
    for pool in pools:
        if app_name(pool, settings) == router_app(settings):
            yield f"{place}: pool '{pool}' would be deployed as '{router_app(settings)}', the router's App; rename it"


def _scaling(router: RouterSettings) -> Iterator[str]:
    if router.min_containers < 1:
        yield (
            "min_containers is 0: without a container Modal answers 503 by itself, and nobody extends holds, counts "
            "idle seconds, or takes back wakes; make it at least 1, or 2 so that one can be lost"
        )
    if router.min_containers > router.max_containers:
        yield f"min_containers {router.min_containers} is above max_containers {router.max_containers}; lower it"
    if router.target_concurrency > router.max_concurrency:
        yield (
            f"target_concurrency {router.target_concurrency} is above max_concurrency {router.max_concurrency}: Modal "
            "would refuse requests before it adds a container; lower it"
        )


def _region(router: RouterSettings) -> Iterator[str]:
    if router.region is not None and router.region not in REGIONS:
        yield f"Modal has no region '{router.region}'{nearest(router.region, REGIONS) or ': ' + ', '.join(REGIONS)}"


def _variables(router: RouterSettings) -> Iterator[str]:
    if missing := [name for name in STORES if name not in router.variables]:
        yield (
            f"no Secret holds {' and '.join(missing)}: on Modal budgets are in Redis and the ledger is in PostgreSQL. "
            "A file would have to lie in a Volume, which has no locks and keeps what was last committed, so that "
            "settled charges are lost with a container, and a deployment runs two at once; list the variables of the "
            "Secret that has them"
        )
    if missing := [name for name in TOKEN if name not in router.variables]:
        yield f"no Secret holds {' and '.join(missing)}, by which the router asks Modal who is alive; list them too"
    counts = [name for names in router.secrets.values() for name in names]
    for name in sorted({name for name in counts if counts.count(name) > 1}):
        yield f"{name} is in more than one Secret, and which one counts is open; list it once"


def _name(settings: ModalSettings) -> Iterator[str]:
    if len(app := router_app(settings)) > NAME_AT_MOST:
        yield f"'{app}' is longer than {NAME_AT_MOST}; shorten app_prefix (the App's own part is '{NAME}')"
