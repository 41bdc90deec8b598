"""`sluice ledger`: does the ledger agree with the budgets and the meter, and what was written last."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich import box
from rich.table import Table

from pricing.clock import SystemClock
from pricing.ledger.read import recent_rows
from pricing.ledger.rows import LedgerRow
from pricing.ledger.verify import Verification, verify
from pricing.money import format_usd
from pricing.reports.spans import instant_text
from router.cli.options import DEFAULT_LEDGER, LedgerOption, wide_console

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def ledger() -> None:
    """Verify that budgets, ledger and meter agree, or show the newest rows."""


@app.command("verify")
def verify_ledger(
    ledger_path: LedgerOption = DEFAULT_LEDGER,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that everything in the file agrees; exit status 1 when something does not."""
    found = verify(ledger_path, SystemClock().wall_us())
    if as_json:
        typer.echo(json.dumps(_verification_json(ledger_path, found), indent=2))
    else:
        _print(ledger_path, found)
    if not found.agrees:
        raise typer.Exit(1)


@app.command("show")
def show(
    ledger_path: LedgerOption = DEFAULT_LEDGER,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many rows, newest first.")] = 20,
    tenant: Annotated[str | None, typer.Option(help="Only rows that this tenant asked for.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the newest rows of money."""
    rows = recent_rows(ledger_path, limit, tenant)
    if as_json:
        typer.echo(json.dumps([msgspec.structs.asdict(row) for row in rows], indent=2))
    elif rows:
        wide_console().print(_rows_table(rows))
    else:
        typer.echo(f"{ledger_path} has no rows{f' of tenant {tenant}' if tenant else ''} yet.")


def _verification_json(path: Path, found: Verification) -> dict[str, object]:
    return {"ledger": str(path), "agrees": found.agrees, **dataclasses.asdict(found)}


def _print(path: Path, found: Verification) -> None:
    counts = f"{found.rows:,} rows, {found.requests:,} requests, {found.open_holds:,} open holds"
    typer.echo(f"{path}: {counts}, {format_usd(found.total_nusd, 9)} in all")
    for problem in found.problems:
        typer.echo(f"  {problem}")
    typer.echo("everything agrees" if found.agrees else f"{len(found.problems)} things do not agree")


def _rows_table(rows: list[LedgerRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("at", "row", "account", "pool", "outcome"):
        table.add_column(name, overflow="fold")
    for name in ("seconds", "metered", "amount"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            instant_text(row.at_us),
            row.row_id,
            row.account,
            row.pool,
            row.outcome + (" (estimated)" if row.estimated else ""),
            f"{row.duration_us / 1e6:.1f}",
            format_usd(row.metered_nusd, 6),
            format_usd(row.amount_nusd, 6),
        )
    return table
