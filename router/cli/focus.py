"""`sluice focus`: the ledger as a FOCUS dataset, for the tools of finance people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from policies.compile.load import load_policy
from pricing.clock import SystemClock
from pricing.prices.resources import Pricing
from pricing.reports.focus import FocusAsked, write_focus
from pricing.reports.spans import FORMS, parse_window
from router.cli.options import DEFAULT_LEDGER, LedgerOption, policy_paths
from router.views.priced import known_books, pricing_of

app = typer.Typer(add_completion=False, rich_markup_mode=None)
PolicyOption = Annotated[
    list[Path] | None,
    typer.Option("--policy", help="Whose pools these are: file or folder; SLUICE_POLICY where none is given."),
]


@app.command(name="focus")
def focus_command(
    since: Annotated[str, typer.Option(help=f"The begin; {FORMS}.")] = "24h",
    until: Annotated[str, typer.Option(help="The end, in the same forms.")] = "now",
    out: Annotated[Path | None, typer.Option(help="A file to write; printed where none is given.")] = None,
    account: Annotated[
        str | None, typer.Option(help="Your account's id at the provider; its name where none is given.")
    ] = None,
    billed_only: Annotated[bool, typer.Option("--billed-only", help="Leave out what no bill covers yet.")] = False,
    policy: PolicyOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
) -> None:
    """Export whole hours as CSV in the columns of FOCUS 1.2: by pool, hour, resource, phase and account."""
    now_us = SystemClock().wall_us()
    try:
        asked = FocusAsked(*parse_window(since, until, now_us), account, billed_only)
        asked.hours()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    pricing = pricing_from(policy, now_us)
    if out is None:
        write_focus(ledger, asked, pricing, sys.stdout)
        return
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            count = write_focus(ledger, asked, pricing, file)
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error.strerror}", param_hint="--out") from None
    typer.echo(f"{count:,} rows written to {out}")


def pricing_from(paths: list[Path] | None, now_us: int) -> Pricing:
    """Pools of the policy files, under every book that is known. Raises FileProblem."""
    named = policy_paths(paths)
    policy = load_policy(named, environ={}, now_us=now_us, assume_deployed=True)
    return pricing_of(policy, known_books(named))
