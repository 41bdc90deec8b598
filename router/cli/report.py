"""`sluice report`: what was spent, rolled up from the ledger."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from policies.load import load_policy
from policies.policy import Policy
from pools.timing import timing_model
from pricing.clock import US_PER_S, SystemClock
from pricing.money import cost_nusd
from pricing.reports.criteria import BASELINE_GPU, Baseline, Judged, criteria_json, criteria_table, judge
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
    criteria: Annotated[
        bool, typer.Option("--criteria", help="Judge media pools by latency, success and saving against the L40S.")
    ] = False,
    policy: Annotated[
        list[Path] | None, typer.Option(help="For --criteria: policy files or folders; else the shipped one.")
    ] = None,
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
    if criteria:
        _print_criteria(judge(ledger, since_us, until_us, expected_baselines(_policy(policy, now_us))), output, since)
        return
    _print(report(ledger, groupings, since_us, until_us, tenant), output)


def _policy(paths: list[Path] | None, now_us: int) -> Policy:
    return load_policy(paths or [], environ={}, now_us=now_us, assume_deployed=True)


def expected_baselines(policy: Policy) -> dict[str, Baseline]:
    """What one picture or clip of each media model should take and cost on the baseline GPU, by model.

    At the size of the catalogue's figures, on the model's first pool there; a model without one is left out.
    """
    found: dict[str, Baseline] = {}
    for name, pool in policy.pools.items():
        timing = timing_model(pool)
        if timing.item_s is not None and pool.gpu.id == BASELINE_GPU:
            nusd = cost_nusd(policy.rates[name].nusd_per_h, round(timing.item_s * US_PER_S))
            found.setdefault(pool.model.id, Baseline(timing.item_s, nusd, measured=False))
    return found


def _print_criteria(found: list[Judged], output: Format, since: str) -> None:
    if output is Format.JSON:
        typer.echo(json.dumps(criteria_json(found), indent=2))
    elif output is Format.CSV:
        raise typer.BadParameter("--criteria prints a table or JSON; use --format json", param_hint="--format")
    else:
        wide_console().print(criteria_table(found, f"since {since}"))


def _print(found: Report, output: Format) -> None:
    if output is Format.JSON:
        typer.echo(json.dumps(as_json(found), indent=2))
    elif output is Format.CSV:
        typer.echo(as_csv(found), nl=False)
    else:
        wide_console().print(as_table(found))
