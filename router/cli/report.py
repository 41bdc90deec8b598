"""`sluice report`: what was spent, rolled up from the ledger."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from pricing.clock import SystemClock
from pricing.reports.render import as_csv, as_json, as_table
from pricing.reports.report import DIMENSIONS, Report, check_groupings, report
from pricing.reports.spans import FORMS, parse_instant
from router.cli.options import DEFAULT_LEDGER, LedgerOption, wide_console

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@app.command(name="report")
def report_command(
    by: Annotated[str, typer.Option(help=f"Groupings, joined by commas: {', '.join(DIMENSIONS)}.")] = "tenant,pool",
    since: Annotated[str, typer.Option(help=f"The begin; {FORMS}.")] = "24h",
    until: Annotated[str, typer.Option(help="The end, in the same forms.")] = "now",
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's requests.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    ledger: LedgerOption = DEFAULT_LEDGER,
) -> None:
    """Roll the ledger up: requests, tokens, what was charged, what boot and idle cost, what was saved."""
    now_us = SystemClock().wall_us()
    try:
        groupings = check_groupings([name.strip() for name in by.split(",") if name.strip()])
        since_us, until_us = parse_instant(since, now_us), parse_instant(until, now_us)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if since_us >= until_us:
        raise typer.BadParameter(f"--since {since} is not before --until {until}")
    _print(report(ledger, groupings, since_us, until_us, tenant), output)


def _print(found: Report, output: Format) -> None:
    if output is Format.JSON:
        typer.echo(json.dumps(as_json(found), indent=2))
    elif output is Format.CSV:
        typer.echo(as_csv(found), nl=False)
    else:
        wide_console().print(as_table(found))
