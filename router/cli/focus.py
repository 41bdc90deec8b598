"""`sluice focus`: the ledger as a FOCUS dataset, for the tools of finance people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from policies.compile.load import load_policy
from pricing.clock import SystemClock
from pricing.reports.focus import Exported, FocusAsked, write_focus
from pricing.reports.focus_pools import Given
from pricing.reports.spans import FORMS, parse_window
from router.cli.options import DEFAULT_LEDGER, LedgerOption, policy_paths
from router.views.priced import given, known_books

NAMED: Final = 3  # policy versions, in one sentence
app = typer.Typer(add_completion=False, rich_markup_mode=None)
PolicyOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--policy",
        help="File or folder, for rows of its version where the ledger lacks its pools; SLUICE_POLICY where none is "
        "given.",
    ),
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
    known = _given(policy, now_us)
    if out is None:
        _say_not_known(write_focus(ledger, asked, known, sys.stdout))
        return
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            exported = write_focus(ledger, asked, known, file)
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error.strerror}", param_hint="--out") from None
    typer.echo(f"{exported.rows:,} rows written to {out}")
    _say_not_known(exported)


def _given(paths: list[Path] | None, now_us: int) -> Given:
    """The policy files, and every book that is known. Raises FileProblem."""
    named = policy_paths(paths)
    policy = load_policy(named, environ={}, now_us=now_us, assume_deployed=True)
    return given(policy, known_books(named))


def _say_not_known(exported: Exported) -> None:
    """What was left undivided, and what would divide it."""
    versions = exported.not_known
    if versions:
        more = f" and {len(versions) - NAMED} more" if len(versions) > NAMED else ""
        which = f"policies {', '.join(versions[:NAMED])}{more}" if len(versions) > 1 else f"policy {versions[0]}"
        text = (
            f"the ledger has no pools of {which}: amounts are not divided into GPU, CPU and memory, and have no region"
        )
        typer.echo(f"{text}; give --policy the files of such a version", err=True)
