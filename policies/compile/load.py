"""Policy files to a `Policy`: read, checked as one, compiled once. Everything that is wrong is said at once.

The order of work: read the files, add their rows to the catalogue, choose the price book, then check and compile
ladders, aliases, tenants, caps and endpoints. Nothing is half loaded: there is a policy, or a FileProblem.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
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
from policies.compile.pools import Books, choose_books, compile_pools, own_books, rate_changes
from policies.compile.predict import compile_prediction
from policies.compile.store import compile_store
from policies.fallback import default_payers
from policies.files.fileset import SHIPPED_DEFAULT, FileSet, model_path, read_set
from policies.policy import ApiKey, Payer, Policy, Tenant
from pools.catalog.load import SHIPPED as CATALOGUE_FILES
from pools.catalog.load import load_catalog
from pools.spec import Catalog, PoolSpec
from pricing.budgets.caps import CapTable, ScopeKind
from pricing.errors import FileProblem

VERSION_DIGITS = 12

CAPPED_ROUTES = ("/v1/chat/completions", "/v1/completions", "/generate")
"""What a cap's `endpoint:` may name beside a pool: the routes that spend money."""

LOCAL_TENANT = "local"
"""Who requests from this machine belong to while a policy names no tenants."""


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
    catalog = _catalog(files, problems)
    classes = files.mapping("classes")
    if not classes:
        problems.append(f"{files.first_place}: there are no classes; add one under classes:, see docs/policy-files.md")
    books = choose_books(files, now_us, problems)
    places = listed_pools(classes, catalog.pools, problems)
    specs = _configured(files, catalog, places)
    own = own_books(files, specs, now_us, problems)
    parts = compile_pools(specs, catalog.gpus, books, places, problems, own) if books else {}
    changes = rate_changes(specs, books, problems, own) if books else ()
    limits, reload_poll_s = defaults_of(files)
    problems += contradictions(classes, limits)
    aliases = compile_aliases(files, classes, places, problems)
    tenants = compile_tenants(files, classes, problems)
    caps = _caps(files, tenants, list(classes), specs, problems)
    environment = Environment(environ, required=not assume_deployed)
    endpoints = compile_endpoints(files, catalog.pools, environment, problems)
    platform_url = compile_platform(files, environment, problems)
    modal = compile_modal(files, problems)
    kubernetes = compile_kubernetes(files, catalog.pools, endpoints, environment, problems)
    webhooks = compile_webhooks(files, environment, problems)
    drained = compile_drained(files, catalog.pools, problems)
    store = compile_store(files, limits, problems)
    prediction = compile_prediction(files, problems)
    if problems or books is None:
        raise FileProblem(list(dict.fromkeys(problems)))
    used = _files(files, [books, *own.values()])
    return Policy(
        version=_version(used, [books, *own.values()]),
        price_book=books.current.id,
        classes=compile_classes(classes, limits, parts),
        aliases=aliases,
        pools={spec.name: spec for spec in specs},
        rates={name: part.rate for name, part in parts.items()},
        rate_changes=changes,
        fits={name: part.fit for name, part in parts.items()},
        boots_s={name: part.boot_s for name, part in parts.items()},
        tenants=tenants,
        keys=_keys(tenants),
        caps=caps,
        failed_attempts=_payers(files),
        endpoints=endpoints,
        drained=drained,
        platform_url=platform_url,
        modal=modal,
        kubernetes=kubernetes,
        reload_poll_s=reload_poll_s,
        store=store,
        prediction=prediction,
        webhooks=webhooks,
        files=tuple(str(path) for path in used),
    )


def _catalog(files: FileSet, problems: list[str]) -> Catalog:
    """The shipped rows and the files' own. Raises FileProblem: without its rows, nothing else could be judged."""
    try:
        return load_catalog(files.catalogue_rows())
    except FileProblem as error:
        raise FileProblem([*problems, *error.problems]) from None


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


def _keys(tenants: Mapping[str, Tenant]) -> dict[str, ApiKey]:
    return {key.sha256: key for tenant in tenants.values() for key in tenant.keys}


def _payers(files: FileSet) -> dict[str, Payer]:
    chosen = {name: placed.value for name, placed in files.mapping("failed_attempts").items()}
    return {**default_payers(), **chosen}


def _files(files: FileSet, books: Iterable[Books]) -> list[Path]:
    """The files that this policy was made from, catalogue excluded."""
    model = model_path(files)
    own = [document.path for document, _ in files.files]
    priced = dict.fromkeys(book.path for each in books for book in (each.current, *each.later))
    return [*own, *priced, *([] if model is None else [model])]


def _version(files: Iterable[Path], books: Iterable[Books]) -> str:
    """A short hash over the content of every file, the shipped catalogue included, and the books in force.

    Paths are left out, so that replicas which mount the same files elsewhere agree.
    """
    digest = hashlib.sha256(" ".join(each.current.id for each in books).encode())
    shipped = resources.files("pools") / "catalog"
    for content in (*(path.read_bytes() for path in files), *((shipped / n).read_bytes() for n in CATALOGUE_FILES)):
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:VERSION_DIGITS]
