"""`sluice reconcile`: the ledger beside what the provider billed, and rows that make them equal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from policies.compile.load import load_policy
from policies.policy import Policy
from pools.modal.settings import ModalSettings
from pricing.clock import SystemClock
from pricing.ledger.place import LedgerPlace
from pricing.money import US_PER_HOUR
from pricing.prices.resources import Pricing
from pricing.reconcile.adjust import adjustments, alone, write_rows
from pricing.reconcile.bill import Bill, PoolOf
from pricing.reconcile.booked import Booked, read_booked
from pricing.reconcile.compare import Comparison, compare
from pricing.reconcile.csv_bill import read_csv_bill
from pricing.reconcile.edits import edits
from pricing.reconcile.render import as_csv, as_json
from pricing.reconcile.table import as_table
from pricing.reports.spans import FORMS, parse_window
from router.cli.options import DEFAULT_LEDGER, LedgerOption, policy_paths, wide_console
from router.views.priced import known_books, pricing_of

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A window of whole hours, and where the bill comes from: a file, or None for Modal."""

    since_us: int
    until_us: int
    bill: Path | None
    threshold: Fraction
    now_us: int


@app.command(name="reconcile")
def reconcile_command(
    since: Annotated[str, typer.Option(help=f"The begin; {FORMS}.")] = "7d",
    until: Annotated[str, typer.Option(help="The end, in the same forms.")] = "now",
    bill: Annotated[Path | None, typer.Option(help="A bill as CSV, by the hour.")] = None,
    modal: Annotated[bool, typer.Option("--modal", help="Ask Modal for its billing report.")] = False,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="The share of each day's bill that the ledger should have.")
    ] = 0.9,
    write: Annotated[bool, typer.Option("--write", help="Add rows so that the ledger is the bill.")] = False,
    factors: Annotated[
        bool, typer.Option("--factors", help="Print the lines of policy and price book to edit instead.")
    ] = False,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    policy: Annotated[
        list[Path] | None,
        typer.Option(help="Whose pools these are: file or folder; SLUICE_POLICY where none is given."),
    ] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
) -> None:
    """Compare the ledger with a bill, by hour, pool and resource; status 1 where a day is below the threshold."""
    if (bill is None) is not modal:
        raise typer.BadParameter("name the bill: --bill FILE.csv, or --modal to ask for it")
    asked = _asked(since, until, bill, threshold)
    named = policy_paths(policy)
    rules = load_policy(named, environ={}, now_us=asked.now_us, assume_deployed=True)
    pricing = pricing_of(rules, known_books(named))
    with alone(ledger) if write else nullcontext():
        booked, found = _compared(ledger, asked, rules, pricing)
        rows = adjustments(found, booked) if write else []
        write_rows(ledger, rows)
    if factors:
        labels = booked.labels()
        typer.echo(edits(found, {pool: pricing(pool, labels[pool].price_books) for pool in found.factors}), nl=False)
    else:
        _print(found, output)
    if write:
        total = sum(row.amount_nusd for row in rows)
        counted = "1 row" if len(rows) == 1 else f"{len(rows):,} rows"
        typer.echo(f"{counted} written, {total:,} nano-dollars in all", err=output is not Format.TABLE)
    if found.below or found.is_of_nothing:
        raise typer.Exit(1)


def _asked(since: str, until: str, bill: Path | None, threshold: float) -> _Asked:
    now_us = SystemClock().wall_us()
    try:
        window = parse_window(since, until, now_us)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    since_us, until_us = (at_us // US_PER_HOUR * US_PER_HOUR for at_us in window)
    if since_us >= until_us:
        raise typer.BadParameter("bills are by the hour, and the window holds no whole hour of UTC; name a longer one")
    return _Asked(since_us, until_us, bill, Fraction(str(threshold)), now_us)


def _compared(ledger: LedgerPlace, asked: _Asked, policy: Policy, pricing: Pricing) -> tuple[Booked, Comparison]:
    booked = read_booked(ledger, asked.since_us, asked.until_us, pricing)
    bill = _bill(asked, policy, _pool_of(policy, booked))
    window = (asked.since_us, asked.until_us)
    return booked, compare(booked, bill, pricing, window, asked.threshold)


def _bill(asked: _Asked, policy: Policy, pool_of: PoolOf) -> Bill:
    """Raises FileProblem, and ModalTrouble."""
    environment = policy.modal.environment if policy.modal else None
    if asked.bill is not None:
        return read_csv_bill(asked.bill, pool_of, asked.since_us, asked.until_us, environment)
    from pools.modal.billing import modal_bill

    return asyncio.run(modal_bill(pool_of, asked.since_us, asked.until_us, asked.now_us, environment=environment))


def _pool_of(policy: Policy, booked: Booked) -> PoolOf:
    """By the tag `pool`, by the App's name as pools are deployed, or by the pool's own name."""
    known = {*policy.pools, *(pool for pool, _ in booked.hours)}
    prefix = f"{(policy.modal or ModalSettings()).app_prefix}-"

    def pool_of(name: str, tags: Mapping[str, str]) -> str | None:
        candidates = (tags.get("pool", ""), name, name.removeprefix(prefix))
        return next((each for each in candidates if each in known), None)

    return pool_of


def _print(found: Comparison, output: Format) -> None:
    if output is Format.JSON:
        typer.echo(json.dumps(as_json(found), indent=2))
    elif output is Format.CSV:
        typer.echo(as_csv(found), nl=False)
    else:
        wide_console().print(as_table(found))
