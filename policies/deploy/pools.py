"""What is to be deployed: pools of a policy, or any of the catalogue, with what they cost and where they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.compile.classes import listed_pools
from policies.compile.endpoints import compile_modal
from policies.compile.pools import Books, choose_books, rate_of
from policies.files.fileset import SHIPPED_DEFAULT, FileSet, read_set
from pools.catalog.engine_args import NoServer
from pools.catalog.load import load_catalog
from pools.fit.timing import boot_seconds
from pools.modal.check import name_problems, pool_problems
from pools.modal.check_router import pool_name_problems
from pools.modal.declare import Declaration, declare
from pools.modal.plan import PoolCost
from pools.modal.settings import ModalSettings, Watched
from pools.spec import Catalog, PoolSpec
from pricing.errors import FileProblem, UnknownPrice
from pricing.nearest import nearest


@dataclass(frozen=True, slots=True)
class Wanted:
    """Checked pools, what each is declared as and costs.

    `left_out` says, a line each, which pools of a policy nothing here can serve; none that was named is among them.
    """

    pools: Mapping[str, PoolSpec]
    declarations: tuple[Declaration, ...]
    costs: Mapping[str, PoolCost]
    settings: ModalSettings
    book: str
    left_out: tuple[str, ...] = ()

    def watched(self) -> Mapping[str, Watched]:
        """The pools as Modal's control plane is asked about them."""
        return {
            each.pool: Watched(each.app, each.server, each.min_containers, self.costs[each.pool].boot_s)
            for each in self.declarations
        }


def wanted_pools(paths: Sequence[Path], names: Sequence[str], now_us: int) -> Wanted:
    """The named pools of a policy's files and of the catalogue; without names, all that the policy uses.

    Raises FileProblem with everything that speaks against deploying them, each with file:line and what to do.
    """
    files = read_set(paths or [SHIPPED_DEFAULT])
    problems = list(files.mistakes)
    catalog = load_catalog(files.catalogue_rows())
    settings = compile_modal(files, problems) or ModalSettings(place=files.first_place)
    books = choose_books(files, now_us, problems)
    left_out: list[str] = []
    pools = _deployable(_chosen(files, catalog, names, problems), files, problems if names else left_out)
    for pool in pools:
        problems += pool_problems(pool, catalog.gpus)
    declarations = _declared(pools, settings, problems, problems if names else left_out)
    problems += name_problems(declarations)
    if settings.router is not None:
        problems += pool_name_problems([pool.name for pool in pools], settings, settings.router.place)
    costs = _costs(pools, books, problems) if books is not None else {}
    if problems or books is None:
        raise FileProblem(list(dict.fromkeys(problems)))
    declared = {each.pool for each in declarations}
    kept = {pool.name: pool for pool in pools if pool.name in declared}
    return Wanted(kept, declarations, costs, settings, books.current.id, tuple(left_out))


def modal_settings(paths: Sequence[Path]) -> ModalSettings:
    """What the files say of Modal, whatever else is wrong with them: what is deployed must be stoppable.

    Raises FileProblem where that part is wrong, or a file cannot be read.
    """
    files = read_set(paths or [SHIPPED_DEFAULT])
    problems: list[str] = []
    settings = compile_modal(files, problems)
    if problems:
        raise FileProblem(problems)
    return settings or ModalSettings(place=files.first_place)


def known_pools(paths: Sequence[Path]) -> list[str]:
    """Names of the catalogue's pools and of the files' own rows, whether right or wrong. Raises FileProblem."""
    files = read_set(paths or [SHIPPED_DEFAULT])
    own = (name for _, shape in files.files if isinstance(shape.pools, Mapping) for name in shape.pools)
    return [*load_catalog().pools, *own]


def _chosen(files: FileSet, catalog: Catalog, names: Sequence[str], problems: list[str]) -> list[PoolSpec]:
    """By name: rows of pools, and documents' cases, which are refused with their arithmetic afterwards."""
    if not names:
        used = dict.fromkeys(listed_pools(files.mapping("classes"), catalog.pools, problems))
        own = (name for _, shape in files.files for name in (shape.pools or {}))
        names = list(dict.fromkeys([*used, *own]))
    rows = {**{name: case.pool for name, case in catalog.cases.items()}, **catalog.pools}
    for name in names:
        if name not in rows:
            hint = nearest(name, catalog.pools) or "; rows are in pools/catalog/pools.yaml and the policy's pools:"
            problems.append(f"{files.first_place}: no pool '{name}'{hint}")
    return [rows[name] for name in dict.fromkeys(names) if name in rows]


def _deployable(pools: Sequence[PoolSpec], files: FileSet, refused: list[str]) -> list[PoolSpec]:
    """Those that could run on Modal: not what is billed by the token, nor what the files say runs elsewhere."""
    platform = files.single("platform")
    kubernetes = None if platform is None else platform.value.kubernetes
    deployments = () if kubernetes is None else kubernetes.deployments
    always_on = {name for name, placed in files.mapping("endpoints").items() if placed.value.always_on}
    kept = []
    for pool in pools:
        if pool.terms is not None:
            refused.append(f"{pool.place}: pool '{pool.name}': it is billed by the token; nothing of it is deployed")
        elif pool.name in deployments:
            refused.append(
                f"{pool.place}: pool '{pool.name}': it is a Deployment of Kubernetes (platform: kubernetes:)"
            )
        elif pool.name in always_on:
            refused.append(f"{pool.place}: pool '{pool.name}': it is a plain server, always_on under endpoints:")
        else:
            kept.append(pool)
    return kept


def _declared(
    pools: Sequence[PoolSpec], settings: ModalSettings, problems: list[str], left_out: list[str]
) -> tuple[Declaration, ...]:
    declarations = []
    for pool in pools:
        try:
            declarations.append(declare(pool, settings))
        except NoServer as error:
            left_out += error.problems
        except FileProblem as error:
            problems += error.problems
    return tuple(declarations)


def _costs(pools: Sequence[PoolSpec], books: Books, problems: list[str]) -> dict[str, PoolCost]:
    costs = {}
    for pool in pools:
        try:
            rate = rate_of(pool, books.current)
            costs[pool.name] = PoolCost(rate.nusd_per_h, boot_seconds(pool), rate.billed)
        except UnknownPrice as error:
            problems.append(f"{pool.place}: pool '{pool.name}': {error}")
    return costs
