"""`sluice policy`: which policies were in force, what the one of a row of money said, and what it changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.table import Table

from pricing.ledger.place import LedgerPlace
from pricing.ledger.policy_history import (
    PolicyFile,
    PolicyVersion,
    PremiumPool,
    find_versions,
    policy_versions,
    version_before,
)
from pricing.money import format_usd, usd_number
from pricing.reports.spans import instant_text
from router.cli.options import DEFAULT_LEDGER, LedgerOption, wide_console
from router.views.policy_view import changes_json, file_json

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
LISTED_AT_MOST: Final = 1_000
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def policy() -> None:
    """Show which policies were in force, as the ledger has them, and what each changed. No secret is shown."""


@app.command("history")
def history(
    ledger_place: LedgerOption = DEFAULT_LEDGER,
    limit: Annotated[int, typer.Option(min=1, max=LISTED_AT_MOST, help="How many, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the versions that were put in force last: when, and by which replica."""
    found = policy_versions(ledger_place, limit)
    if as_json:
        typer.echo(json.dumps([_version_json(each) for each in found], indent=2))
    elif found:
        wide_console().print(_table(found))
    else:
        typer.echo(f"{ledger_place} knows of no policy yet; `sluice serve` writes the one that it takes into force.")


@app.command("show")
def show(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="As rows and headers name it, or how it begins.")],
    ledger_place: LedgerOption = DEFAULT_LEDGER,
    diff: Annotated[bool, typer.Option("--diff", help="Only what changed from the version before it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a version: when it was in force, what its files said, and what it changed."""
    found = _find(ledger_place, version)
    before = version_before(ledger_place, found.version, found.latest_us)
    changes = None if before is None else changes_json(before.files, found.files)
    if as_json:
        typer.echo(json.dumps(_shown_json(found, before, changes), indent=2))
        return
    for line in _head(found):
        typer.echo(line)
    if diff:
        _print_changes(before, changes)
    elif found.files is None:
        typer.echo("its files are not kept any more")
    else:
        _print_files(found.files)


def _find(place: LedgerPlace, version: str) -> PolicyVersion:
    """Raises BadParameter where there is none, or several that begin so."""
    found = find_versions(place, version) if version else []
    if not found:
        raise typer.BadParameter(f"no policy '{version}' is in {place}; `sluice policy history` lists those that are")
    if len(found) > 1:
        names = ", ".join(each.version for each in found)
        raise typer.BadParameter(f"several policies begin with '{version}': {names}; write more of it")
    return found[0]


def _head(found: PolicyVersion) -> list[str]:
    first, latest = instant_text(found.first_us), instant_text(found.latest_us)
    lines = [
        f"policy {found.version}, price book {found.price_book}",
        f"first put in force {first} by {found.first_replica}",
    ]
    if (first, found.first_replica) != (latest, found.latest_replica):
        lines.append(f"last put in force {latest} by {found.latest_replica}")
    return [*lines, *(_premium_text(pool) for pool in found.premium or ())]


def _premium_text(pool: PremiumPool) -> str:
    price = f"{format_usd(pool.nusd_per_h, 4)} an hour" if pool.nusd_per_h else "not billed by the hour"
    return f"premium pool of {', '.join(pool.classes)}: {pool.pool} ({pool.gpu_count} × {pool.gpu}, {price})"


def _print_files(files: Sequence[PolicyFile]) -> None:
    for file in files:
        typer.echo(f"\n=== {file.name} (sha256 {file.sha256[:12]}…)")
        typer.echo("too long to be kept, or no text" if file.text is None else file.text.rstrip("\n"))


def _print_changes(before: PolicyVersion | None, changes: Sequence[dict[str, Any]] | None) -> None:
    if before is None:
        typer.echo("no version before it is known")
        return
    typer.echo(f"changed from {before.version}, put in force {instant_text(before.latest_us)}")
    if changes is None:
        typer.echo("the files of one of them are not kept any more")
    elif not changes:
        typer.echo("the same files; another price book had come into force")
    for change in changes or ():
        typer.echo(f"\n=== {change['file']} ({change['change']})")
        hidden = "only what is hidden here has changed"
        typer.echo("too long to be shown, or no text" if change["diff"] is None else change["diff"] or hidden)


def _table(found: Sequence[PolicyVersion]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("version", "price book", "first in force", "by", "last put in force", "by"):
        table.add_column(name, overflow="fold")
    for each in found:
        first, latest = instant_text(each.first_us), instant_text(each.latest_us)
        table.add_row(each.version, each.price_book, first, each.first_replica, latest, each.latest_replica)
    return table


def _version_json(found: PolicyVersion) -> dict[str, Any]:
    return {
        "version": found.version,
        "price_book": found.price_book,
        "first_in_force": instant_text(found.first_us),
        "first_replica": found.first_replica,
        "last_put_in_force": instant_text(found.latest_us),
        "last_replica": found.latest_replica,
    }


def _shown_json(
    found: PolicyVersion, before: PolicyVersion | None, changes: Sequence[dict[str, Any]] | None
) -> dict[str, Any]:
    files = None if found.files is None else [{**file_json(file), "text": file.text} for file in found.files]
    return {
        **_version_json(found),
        "premium": None if found.premium is None else [_premium_json(pool) for pool in found.premium],
        "files": files,
        "previous": None if before is None else before.version,
        "changes": None if changes is None else list(changes),
    }


def _premium_json(pool: PremiumPool) -> dict[str, Any]:
    return {
        "pool": pool.pool,
        "gpu": pool.gpu,
        "gpu_count": pool.gpu_count,
        "usd_per_hour": usd_number(pool.nusd_per_h),
        "classes": list(pool.classes),
    }
