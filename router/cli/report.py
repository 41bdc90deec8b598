"""`sluice report`: what was spent, rolled up from the ledger."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from policies.compile.load import load_policy
from policies.policy import Policy
from pools.fit.timing import timing_model
from pricing.clock import US_PER_S, SystemClock
from pricing.money import cost_nusd
from pricing.reports.columns import ColumnSet
from pricing.reports.criteria import BASELINE_GPU, Baseline, Judged, criteria_json, criteria_table, judge
from pricing.reports.dimensions import DIMENSIONS
from pricing.reports.share import HouseView
from pricing.reports.spans import FORMS, instant_text, parse_window
from pricing.reports.table import as_table
from pricing.reports.zones import parse_zone
from router.cli.options import DEFAULT_LEDGER, LedgerOption, fitting_console, policy_paths, wide_console
from router.views.baselines import PREMIUM
from router.views.reporting import Form, ReportAsked, make_report, sets_for, written

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    HTML = "html"


@app.command(name="report")
def report_command(
    by: Annotated[str, typer.Option(help=f"Groupings, joined by commas: {', '.join(DIMENSIONS)}.")] = "tenant,pool",
    since: Annotated[str, typer.Option(help=f"The begin; {FORMS}.")] = "24h",
    until: Annotated[str, typer.Option(help="The end, in the same forms.")] = "now",
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's requests.")] = None,
    house: Annotated[HouseView, typer.Option(help="How boot and idle are shown.")] = HouseView.SEPARATE,
    show: Annotated[
        str | None, typer.Option(help=f"Sets of columns, joined by commas: {', '.join(ColumnSet)}.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="Whose hours, days and months count: an IANA name.")] = "UTC",
    baseline: Annotated[
        str, typer.Option(help="What the saving is against: 'premium' (of each class), or a pool by name.")
    ] = PREMIUM,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    criteria: Annotated[
        bool, typer.Option("--criteria", help="Judge media pools by latency, success and saving against the L40S.")
    ] = False,
    policy: Annotated[
        list[Path] | None,
        typer.Option(
            help="File or folder: whose pool --baseline names (SLUICE_POLICY where none is given), and whose premium "
            "pools are meant, where the ledger lacks those of its version."
        ),
    ] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
) -> None:
    """Roll the ledger up: requests, tokens, what was charged, what boot and idle cost, what was saved."""
    now_us = SystemClock().wall_us()
    asked = ReportAsked(by, since, until, tenant, house, timezone, baseline, show, policy_named=bool(policy))
    try:
        if criteria:
            if tenant is not None:
                raise ValueError("--criteria judges pools, by what everybody asked of them; leave --tenant out")
            zone = parse_zone(timezone)
            since_us, until_us = parse_window(since, until, now_us, zone)
            expected = expected_baselines(_policy(policy, now_us))
            window = f"from {instant_text(since_us, zone)} to {instant_text(until_us, zone)}"
            _print_criteria(judge(ledger, since_us, until_us, expected), output, window)
            return
        sets = asked.sets((ColumnSet.MONEY,)) if output is Format.TABLE else sets_for(asked)
        found = make_report(ledger, asked, lambda: _policy(policy, now_us), sets, now_us)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if output is Format.TABLE:
        fitting_console().print(as_table(found, None if show is None else sets), crop=False)
    else:
        typer.echo(written(found, Form(output), sets), nl=output is not Format.CSV)


def _policy(paths: list[Path] | None, now_us: int) -> Policy:
    named = policy_paths(paths)
    return load_policy(named, environ={}, now_us=now_us, assume_deployed=True)


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


def _print_criteria(found: list[Judged], output: Format, window: str) -> None:
    if output is Format.JSON:
        typer.echo(json.dumps(criteria_json(found), indent=2))
    elif output is not Format.TABLE:
        raise typer.BadParameter("--criteria prints a table or JSON; use --format json", param_hint="--format")
    else:
        wide_console().print(criteria_table(found, window))
