"""`sluice check`: are these policy files right? Each argument is a set of its own: a file, or a folder as one set.

In a folder, files that say `standalone: true` are sets of their own too. Price books, by file or folder, are checked as
what they are. Where a policy has `platform: modal:`, what no deployment there would take is wrong as well. Exit status
0 when everything is right, 1 when something in the files is wrong, 2 for a path that is not there, as for any wrong
command line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from policies.compile.load import load_policy
from policies.deploy.pools import wanted_pools
from policies.files.fileset import SHIPPED_FOLDER, policy_files, set_files
from policies.files.schema import PolicyFile
from policies.policy import Policy
from pools.catalog.load import load_catalog
from pools.fit.memory import fit
from pools.spec import CaseSpec
from pricing.clock import SystemClock
from pricing.errors import FileProblem
from pricing.files.document import read_yaml
from pricing.prices.book import is_book, load_books
from router.cli.options import policy_paths

ALL = "all"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One set that was checked. `version` is None for price books and where something is wrong.

    `files` are those of a folder's set; `books` counts price books, which are no part of a set. `notes` say what is
    right and may surprise.
    """

    name: str
    version: str | None
    classes: int
    pools: int
    problems: tuple[str, ...]
    files: tuple[str, ...] = ()
    books: int = 0
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.name,
            "files": list(self.files),
            "ok": not self.problems,
            "policy_version": self.version,
            "classes": self.classes,
            "pools": self.pools,
            "price_books": self.books,
            "problems": list(self.problems),
            "notes": list(self.notes),
        }


@app.command()
def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files and folders; else SLUICE_POLICY, else the shipped policies.")
    ] = None,
    case: Annotated[
        str | None, typer.Option(help="Check a placement that a source document states: its name, or all.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of policy files.")] = False,
    no_environment: Annotated[
        bool, typer.Option("--no-environment", help="Accept environment variables that are not set here.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether policy, price and pool files are right; every problem with its file, line and remedy."""
    if schema:
        typer.echo(json.dumps(PolicyFile.model_json_schema(), indent=2))
        return
    asked = [*policy_paths(paths)]
    for path in asked:
        try:
            path.stat()
        except OSError as error:
            raise FileProblem([f"{path}:1: cannot read this file: {error.strerror}"]) from None
    verdicts = _cases(case) if case else [_verdict(one, no_environment) for one in _sets(asked or [SHIPPED_FOLDER])]
    if as_json:
        typer.echo(json.dumps([verdict.as_json() for verdict in verdicts], indent=2))
    else:
        _print(verdicts)
    if any(verdict.problems for verdict in verdicts):
        raise typer.Exit(1)


def _sets(paths: Sequence[Path]) -> Iterable[Path]:
    """What to check one by one: each path, and the standalone files of a folder by themselves."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        files = policy_files([path])
        if all(_has_book(file) for file in files):
            yield path
            continue
        together = set_files(path)
        if together:
            yield path
        yield from (file for file in files if file not in together)


def _has_book(path: Path) -> bool:
    """False for a file that cannot be read: reading it as a policy says why."""
    try:
        return is_book(read_yaml(path).data)
    except FileProblem:
        return False


def _verdict(path: Path, no_environment: bool) -> Verdict:
    if all(_has_book(file) for file in policy_files([path])):
        return _books_verdict(path)
    now_us = SystemClock().wall_us()
    try:
        files = tuple(str(file) for file in set_files(path)) if path.is_dir() else ()
        policy = load_policy([path], environ=os.environ, now_us=now_us, assume_deployed=no_environment)
        if policy.modal is not None:
            wanted_pools([path], [], now_us)  # raises what a deployment would be refused for
    except FileProblem as error:
        return Verdict(str(path), None, 0, 0, tuple(error.problems), files)
    pools = len(policy.pools)
    return Verdict(str(path), policy.version, len(policy.classes), pools, (), files, notes=_of_billing(policy))


def _of_billing(policy: Policy) -> tuple[str, ...]:
    """What the books of its pools, in force and to come, do not bill, and what meters do not follow; once each."""
    rates = [*policy.rates.values(), *(rate for change in policy.rate_changes for rate in change.rates.values())]
    free = dict.fromkeys(text for rate in rates for text in rate.not_billed)
    other = dict.fromkeys(text for rate in rates for text in rate.not_applied)
    return (*free, *(f"{text}; `sluice reconcile` brings the ledger to the bill" for text in other))


def _books_verdict(path: Path) -> Verdict:
    try:
        return Verdict(str(path), None, 0, 0, (), books=len(load_books(path)))
    except FileProblem as error:
        return Verdict(str(path), None, 0, 0, tuple(error.problems))


def _cases(wanted: str) -> list[Verdict]:
    """Placements of the source documents. Raises FileProblem for a name that is none."""
    catalog = load_catalog()
    if wanted != ALL and wanted not in catalog.cases:
        raise FileProblem([f"there is no case '{wanted}'; cases are {', '.join(sorted(catalog.cases))}, and {ALL}"])
    chosen = catalog.cases.values() if wanted == ALL else [catalog.cases[wanted]]
    return [_case_verdict(case) for case in chosen]


def _case_verdict(case: CaseSpec) -> Verdict:
    memory = fit(case.pool, load_catalog().gpus)
    name = f"{case.name} ({case.document}: {case.claim})"
    if memory.loads:
        return Verdict(name, "loads", 0, 1, ())
    instead = f"; shipped instead: {', '.join(case.instead)}" if case.instead else ""
    remedy = f"; {memory.remedy}" if memory.remedy else ""
    return Verdict(name, None, 0, 1, (f"{case.place}: cannot load: {memory.problem}{remedy}{instead}",))


def _print(verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        for file in verdict.files:
            own = [problem for problem in verdict.problems if problem.startswith(f"{file}:")]
            _print_one(file, own, "read")
        others = [one for one in verdict.problems if not one.startswith(tuple(f"{file}:" for file in verdict.files))]
        if verdict.version or others or not verdict.files:
            _print_one(verdict.name, others, _summary(verdict))
        for note in verdict.notes:
            typer.echo(f"  note: {note}")


def _summary(verdict: Verdict) -> str:
    if verdict.books:
        return _count(verdict.books, "price book")
    held = f"{_count(verdict.classes, 'class', 'es')}, {_count(verdict.pools, 'pool')}"
    return f"{held}, version {verdict.version}"


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{'' if number == 1 else plural}"


def _print_one(name: str, problems: Sequence[str], what: str) -> None:
    if not problems:
        typer.echo(f"{name}: ok ({what})")
        return
    typer.echo(f"{name}: {_count(len(problems), 'problem')}")
    for problem in problems:
        typer.echo(f"  {problem}")
