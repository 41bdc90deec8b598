"""The router that `platform: modal: router:` asks for: checked, declared, and priced."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.compile.endpoints import compile_modal, variables_of
from policies.compile.load import load_policy
from policies.compile.pools import choose_books
from policies.files.fileset import SHIPPED_DEFAULT, FileSet, outside_paths, read_set
from policies.policy import Policy
from pools.modal.check_router import pool_name_problems, router_problems
from pools.modal.router import FOLDER, Release, RouterDeclaration, RouterFile, declare_router
from pools.modal.settings import ModalSettings, RouterSettings
from pricing.errors import FileProblem, UnknownPrice
from pricing.prices.rates import plain_container_rate


@dataclass(frozen=True, slots=True)
class WantedRouter:
    """A router that may be deployed. `rate_nusd_per_h` is one container's; `notes` what to know before it serves."""

    declaration: RouterDeclaration
    settings: ModalSettings
    rate_nusd_per_h: int
    book: str
    notes: tuple[str, ...]

    @property
    def idle_nusd_per_h(self) -> int:
        """What it costs while nobody asks."""
        return self.rate_nusd_per_h * self.declaration.min_containers


def wanted_router(paths: Sequence[Path], release: Release, now_us: int) -> WantedRouter:
    """The router of a policy's files. Raises FileProblem with everything that speaks against deploying it, each with
    file:line and what to do: what is wrong with the policy itself, too.
    """
    files = read_set(paths or [SHIPPED_DEFAULT])
    problems = list(files.mistakes)
    settings = compile_modal(files, problems)
    if settings is None or settings.router is None:
        text = "nothing here asks for a router on Modal; add platform: modal: router:, see docs/modal.md"
        raise FileProblem([*problems, f"{_place(files, settings)}: {text}"])
    router = settings.router
    policy = _policy(paths, now_us, problems)
    problems += router_problems(settings, router, variables_of(files))
    problems += _absolute(files)
    if policy is not None:
        problems += _open(policy, router)
        problems += pool_name_problems(policy.pools, settings, router.place)
    rate_nusd_per_h, book = _rate(files, router, now_us, problems)
    if problems or policy is None:
        raise FileProblem(list(dict.fromkeys(problems)))
    own, beside = _files(files, paths)
    drain_s = max(each.limits.max_total_s for each in policy.classes.values())
    declaration = declare_router(settings, router, release, policy.version, own, beside, drain_s)
    return WantedRouter(declaration, settings, rate_nusd_per_h, book, tuple(_notes(policy)))


def _place(files: FileSet, settings: ModalSettings | None) -> str:
    return files.first_place if settings is None else settings.place


def _policy(paths: Sequence[Path], now_us: int, problems: list[str]) -> Policy | None:
    """As a router would load it, but for variables, whose values only Modal's Secrets have."""
    try:
        return load_policy(paths, environ={}, now_us=now_us, assume_deployed=True)
    except FileProblem as error:
        problems += error.problems
        return None


def _open(policy: Policy, router: RouterSettings) -> Iterator[str]:
    """Without tenants a router serves its own machine alone, which on Modal may be whoever its proxy speaks for."""
    if not policy.tenants:
        yield f"{router.place}: no tenants are configured, and this router is reached from outside; add tenants:"


def _absolute(files: FileSet) -> Iterator[str]:
    """Files that are named by a place of this machine."""
    predict = files.single("predict")
    for placed in files.listing("price_books"):
        if Path(placed.value).is_absolute():
            yield placed.problem(f"'{placed.value}' is a place of this machine; name it relative to this file")
    if predict is not None and predict.value.file is not None and Path(predict.value.file).is_absolute():
        text = f"'{predict.value.file}' is a place of this machine; name it relative to this file"
        yield predict.problem(text, "file")


def _rate(files: FileSet, router: RouterSettings, now_us: int, problems: list[str]) -> tuple[int, str]:
    """A container's nano-dollars an hour at the book in force; what is wrong with the books is told by the policy."""
    books = choose_books(files, now_us, [])
    if books is None:
        return 0, ""
    try:
        rate = plain_container_rate(
            books.current, router.cpu_cores, router.memory_gib, router.region, nonpreemptible=router.nonpreemptible
        )
    except UnknownPrice as error:
        problems.append(f"{router.place}: {error}")
        return 0, books.current.id
    return rate.nusd_per_h, books.current.id


def _files(files: FileSet, paths: Sequence[Path]) -> tuple[list[RouterFile], list[RouterFile]]:
    """The set's files in their order, and the price books and the model that they name, under one folder."""
    own = [_plain(document.path) for document, _ in files.files]
    outside = [_plain(path) for named in outside_paths(paths or [SHIPPED_DEFAULT]) for path in _inside(named)]
    beside = [path for path in dict.fromkeys(outside) if path not in own]
    root = os.path.commonpath([path.parent for path in (*own, *beside)])
    remote = {path: f"{FOLDER}/{path.relative_to(root).as_posix()}" for path in (*own, *beside)}
    made: Mapping[Path, RouterFile] = {
        path: RouterFile(path, place, hashlib.sha256(path.read_bytes()).hexdigest()) for path, place in remote.items()
    }
    return [made[path] for path in own], [made[path] for path in beside]


def _inside(named: Path) -> list[Path]:
    return sorted(named.glob("*.yaml")) if named.is_dir() else [named]


def _plain(path: Path) -> Path:
    """Where its folder really is, so that `..` means here what it will mean there; the file keeps its name, also where
    it is a link.
    """
    return path.parent.resolve() / path.name


def _notes(policy: Policy) -> Iterator[str]:
    if not policy.endpoints:
        yield "No pool has an endpoint: `sluice pools deploy` prints the part of the policy that is missing."
