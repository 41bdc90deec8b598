"""`sluice demo`: simulated pools, the endpoint and recorded traffic, end to end, on this machine alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop

from policies.requirements import Tier
from router.cli.options import fitting_console
from router.demo.plan import PROFILES
from router.demo.play import Setting, play
from router.demo.processes import DemoFailed
from router.demo.show import show
from router.demo.summary import as_json, problems_of
from router.demo.trace import Names, TraceRow, read_trace, shipped_trace

WIDTH: Final = 100  # columns that sentences are at most: longer lines read badly

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def demo(
    trace: Annotated[
        Path | None,
        typer.Option(help="CSV of arrivals: t_s,input_tokens,output_tokens and optionally tenant,class,tier."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Play only this many requests.")] = None,
    speedup: Annotated[float, typer.Option(min=0.1, max=10, help="How much faster than life.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Of tenants, classes, boots and how far pools are from the model.")] = 0,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures there as JSON.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep ledger, logs and policy files in this new folder.")] = None,
) -> None:
    """Play recorded traffic against simulated pools, then compare the router's ledger with the pools' own bill.

    Ends with status 1 when a request was lost, a cap was exceeded, or the two differ by more than 1%.
    """
    if output is not None and not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.absolute().parent}", param_hint="--json")
    if output is not None and output.is_dir():
        raise typer.BadParameter(f"{output} is a folder; name a file in it", param_hint="--json")
    rows = _rows(trace)[:limit]
    screen = fitting_console()
    screen.width = min(screen.width, WIDTH)
    with _folder(keep) as folder:
        policy, summary = uvloop.run(play(rows, Setting(speedup, seed, folder), screen))
    show(screen, policy, summary)
    if output is not None:
        _write(output, json.dumps(as_json(summary), indent=2) + "\n")
    if problems_of(summary):
        raise typer.Exit(1)


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DemoFailed(f"cannot write {output}: {error.strerror}; name another file with --json") from None


def _rows(trace: Path | None) -> list[TraceRow]:
    if trace is None:
        return shipped_trace()
    classes = dict.fromkeys(habit.request_class for profile in PROFILES for habit in profile.habits)
    return read_trace(trace, Names(classes=list(classes), tiers=list(Tier)))


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """A folder for this run, gone afterwards unless it is to be kept. Raises DemoFailed for one that is in use."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="sluice-demo-") as folder:
            yield Path(folder)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        used = any(keep.iterdir())
    except OSError as error:
        raise DemoFailed(f"cannot use {keep}: {error.strerror}; name another folder with --keep") from None
    if used:
        raise DemoFailed(f"{keep} is not empty; name a new folder with --keep")
    yield keep
