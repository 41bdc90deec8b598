"""Policy files to a `Policy`: read, checked as one, compiled once. Everything that is wrong is said at once.

The order of work: read the files, add their rows to the catalogue, choose the price book, then check and compile
ladders, aliases, tenants, caps and endpoints. Nothing is half loaded: there is a policy, or a FileProblem.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.compile.access import compile_caps, compile_tenants, known_tags
from policies.compile.classes import compile_aliases, compile_classes, contradictions, defaults_of, listed_pools
from policies.compile.endpoints import (
    Environment,
    compile_drained,
    compile_endpoints,
    compile_modal,
    compile_platform,
    compile_webhooks,
)
from policies.compile.kubernetes import compile_kubernetes
from policies.compile.pools import Books, PoolParts, choose_books, compile_pools, own_books, rate_changes
from policies.compile.predict import compile_prediction
from policies.compile.store import compile_store
from policies.compile.version import made_from, version_of
from policies.fallback import default_payers
from policies.files.fileset import SHIPPED_DEFAULT, FileSet, Placed, read_set
from policies.policy import (
    LOCAL_TENANT,
    Limits,
    Payer,
    Policy,
    PoolEndpoint,
    RateChange,
    StorePolicy,
    Tenant,
    Webhook,
)
from policies.predict.expect import Prediction
from pools.catalog.load import load_catalog
from pools.kubernetes.settings import KubernetesSettings
from pools.modal.settings import ModalSettings
from pools.spec import Catalog, PoolSpec
from pricing.budgets.caps import CapTable, ScopeKind
from pricing.errors import FileProblem

CAPPED_ROUTES = ("/v1/chat/completions", "/v1/completions", "/generate")
"""What a cap's `endpoint:` may name beside a pool: the routes that spend money."""


def load_policy(
    paths: Sequence[Path], *, environ: Mapping[str, str], now_us: int, assume_deployed: bool = False
) -> Policy:
    """Load files or folders as one set; none means the shipped default policy.

    `now_us` (microseconds since the epoch) says which price book is in force. `assume_deployed` is for looking at files
    without serving: environment variables that are not set are no problem then. Raises FileProblem with everything
    that is wrong, each with file:line and what to do.
    """
    files = read_set(paths or [SHIPPED_DEFAULT])
    problems = list(files.mistakes)
    environment = Environment(environ, required=not assume_deployed)
    sections = _check(files, environment, now_us, problems)
    if problems:
        raise FileProblem(list(dict.fromkeys(problems)))
    return _policy(files, sections)


@dataclass(frozen=True, slots=True)
class _Pools:
    """The policy's pools: where ladders list them, what each is (`parts`), what it will cost (`changes`).

    `books` are those in force, the policy's own before those of single pools; none where none could be chosen, and then
    there are no parts either.
    """

    specs: list[PoolSpec]
    listed: Mapping[str, Placed[object]]
    parts: Mapping[str, PoolParts]
    changes: tuple[RateChange, ...]
    books: tuple[Books, ...]


@dataclass(frozen=True, slots=True)
class _Reach:
    """Where pools answer, who runs them, where events are told."""

    endpoints: Mapping[str, PoolEndpoint]
    platform_url: str | None
    modal: ModalSettings | None
    kubernetes: KubernetesSettings | None
    webhooks: tuple[Webhook, ...]
    drained: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Sections:
    """The sections of all files, each compiled as far as it is right."""

    pools: _Pools
    limits: Limits
    reload_poll_s: float
    aliases: Mapping[str, str]
    tenants: Mapping[str, Tenant]
    caps: CapTable
    reach: _Reach
    store: StorePolicy
    prediction: Prediction


def _check(files: FileSet, environment: Environment, now_us: int, problems: list[str]) -> _Sections:
    """Every section, held against the others. What is wrong goes to `problems`, in the order of the sections.

    Raises FileProblem for rows of the catalogue.
    """
    catalog = _catalog(files, problems)
    classes = files.mapping("classes")
    if not classes:
        problems.append(f"{files.first_place}: there are no classes; add one under classes:, see docs/policy-files.md")
    pools = _pools(files, catalog, now_us, problems)
    limits, reload_poll_s = defaults_of(files)
    problems += contradictions(classes, limits)
    aliases = compile_aliases(files, classes, pools.listed, problems)
    tenants = compile_tenants(files, classes, problems)
    caps = _caps(files, tenants, list(classes), pools.specs, problems)
    reach = _reach(files, catalog, environment, problems)
    store = compile_store(files, limits, problems)
    prediction = compile_prediction(files, problems)
    return _Sections(pools, limits, reload_poll_s, aliases, tenants, caps, reach, store, prediction)


def _catalog(files: FileSet, problems: list[str]) -> Catalog:
    """The shipped rows and the files' own. Raises FileProblem: without its rows, nothing else could be judged."""
    try:
        return load_catalog(files.catalogue_rows())
    except FileProblem as error:
        raise FileProblem([*problems, *error.problems]) from None


def _pools(files: FileSet, catalog: Catalog, now_us: int, problems: list[str]) -> _Pools:
    books = choose_books(files, now_us, problems)
    listed = listed_pools(files.mapping("classes"), catalog.pools, problems)
    specs = _configured(files, catalog, listed)
    own = own_books(files, specs, now_us, problems)
    if books is None:
        return _Pools(specs, listed, {}, (), ())
    parts = compile_pools(specs, catalog.gpus, books, listed, problems, own)
    changes = rate_changes(specs, books, problems, own)
    return _Pools(specs, listed, parts, changes, (books, *own.values()))


def _configured(files: FileSet, catalog: Catalog, listed: Iterable[str]) -> list[PoolSpec]:
    """The pools of this policy: on a ladder, with a row of the files' own, or with an endpoint."""
    own = (name for _, shape in files.files for name in (shape.pools or {}))
    names = dict.fromkeys([*listed, *own, *files.mapping("endpoints")])
    return [catalog.pools[name] for name in names if name in catalog.pools]


def _caps(
    files: FileSet, tenants: Mapping[str, Tenant], classes: list[str], specs: list[PoolSpec], problems: list[str]
) -> CapTable:
    pools = [spec.name for spec in specs]
    known = {
        ScopeKind.TENANT: dict.fromkeys(tenants) or [LOCAL_TENANT],
        ScopeKind.KEY: dict.fromkeys(key.id for tenant in tenants.values() for key in tenant.keys),
        ScopeKind.CLASS: classes,
        ScopeKind.POOL: pools,
        ScopeKind.TAG: known_tags(tenants),
        ScopeKind.ENDPOINT: [*CAPPED_ROUTES, *pools],
    }
    return compile_caps(files, tenants, known, problems)


def _reach(files: FileSet, catalog: Catalog, environment: Environment, problems: list[str]) -> _Reach:
    endpoints = compile_endpoints(files, catalog.pools, environment, problems)
    return _Reach(
        endpoints,
        compile_platform(files, environment, problems),
        compile_modal(files, problems),
        compile_kubernetes(files, catalog.pools, endpoints, environment, problems),
        compile_webhooks(files, environment, problems),
        compile_drained(files, catalog.pools, problems),
    )


def _policy(files: FileSet, sections: _Sections) -> Policy:
    """Sections without a problem as one policy."""
    pools, reach, tenants = sections.pools, sections.reach, sections.tenants
    used = made_from(files, pools.books)
    return Policy(
        version=version_of(used, pools.books),
        price_book=pools.books[0].current.id,
        classes=compile_classes(files.mapping("classes"), sections.limits, pools.parts),
        aliases=sections.aliases,
        pools={spec.name: spec for spec in pools.specs},
        rates={name: part.rate for name, part in pools.parts.items()},
        rate_changes=pools.changes,
        fits={name: part.fit for name, part in pools.parts.items()},
        boots_s={name: part.boot_s for name, part in pools.parts.items()},
        tenants=tenants,
        keys={key.sha256: key for tenant in tenants.values() for key in tenant.keys},
        caps=sections.caps,
        failed_attempts=_payers(files),
        endpoints=reach.endpoints,
        drained=reach.drained,
        platform_url=reach.platform_url,
        modal=reach.modal,
        kubernetes=reach.kubernetes,
        reload_poll_s=sections.reload_poll_s,
        store=sections.store,
        prediction=sections.prediction,
        webhooks=reach.webhooks,
        files=tuple(str(path) for path in used),
    )


def _payers(files: FileSet) -> dict[str, Payer]:
    chosen = {name: placed.value for name, placed in files.mapping("failed_attempts").items()}
    return {**default_payers(), **chosen}
