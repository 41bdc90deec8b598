"""`sluice ledger`: does the ledger agree with budgets and meters, what was written last, and what waits in Redis."""

from __future__ import annotations

import dataclasses
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich import box
from rich.table import Table

from pricing.budgets.caps import CapTable
from pricing.budgets.lockfile import FileLock
from pricing.clock import SystemClock
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.read import recent_rows
from pricing.ledger.rows import LedgerRow
from pricing.ledger.upgrade import HEAD, ensure_current
from pricing.money import format_usd
from pricing.reports.spans import instant_text
from pricing.verify.sqlite import NO_CAPS, Verification, verify
from router.cli.cap_edit import PolicyFiles
from router.cli.options import DEFAULT_LEDGER, LedgerOption, NamespaceOption, RedisOption, policy_paths, wide_console
from router.cli.stream import Poison, connected, list_poison, put_back, read_backlog, restore, verify_stream

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def ledger() -> None:
    """Verify that budgets, ledger and meter agree; show the newest rows, or what waits in Redis; upgrade the tables."""


@app.command("verify")
def verify_ledger(
    ledger_place: LedgerOption = DEFAULT_LEDGER,
    redis: RedisOption = None,
    namespace: NamespaceOption = "sluice",
    policy: Annotated[
        list[Path] | None,
        typer.Option(help="Whose caps' windows are checked: file or folder; SLUICE_POLICY where none is given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that everything agrees, Redis included where replicas share the ledger; exit status 1 where it does not."""
    now_us = SystemClock().wall_us()
    caps = _caps(policy, now_us)
    if isinstance(ledger_place, PostgresUrl):
        found = connected(redis, lambda client: verify_stream(client, namespace, ledger_place, caps))
    else:
        found = verify(ledger_place, now_us, caps)
    if as_json:
        typer.echo(json.dumps(_verification_json(ledger_place, found), indent=2))
    else:
        _print(ledger_place, found)
        if not caps.caps:
            typer.echo("no cap's window was looked at: --policy names the files of those that have caps")
    if not found.agrees:
        raise typer.Exit(1)


@app.command("show")
def show(
    ledger_place: LedgerOption = DEFAULT_LEDGER,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many rows, newest first.")] = 20,
    tenant: Annotated[str | None, typer.Option(help="Only rows that this tenant asked for.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the newest rows of money."""
    rows = recent_rows(ledger_place, limit, tenant)
    if as_json:
        typer.echo(json.dumps([msgspec.structs.asdict(row) for row in rows], indent=2))
    elif rows:
        wide_console().print(_rows_table(rows))
    else:
        typer.echo(f"{ledger_place} has no rows{f' of tenant {tenant}' if tenant else ''} yet.")


@app.command("upgrade")
def upgrade(ledger_place: LedgerOption = DEFAULT_LEDGER) -> None:
    """Create the ledger's tables, or bring older ones up to date, as `sluice serve` does at its start.

    A file must not be served meanwhile: an older program would go on writing as if its tables were as before.
    """
    with ExitStack() as stack:
        if isinstance(ledger_place, Path):
            stack.callback(FileLock(ledger_place).release)
        ensure_current(ledger_place)
    typer.echo(f"{ledger_place}: tables of version {HEAD}")


@app.command("backlog")
def backlog(
    redis: RedisOption = None,
    namespace: NamespaceOption = "sluice",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how much of the ledger waits in Redis for PostgreSQL, and since when."""
    found = connected(redis, lambda client: read_backlog(client, namespace))
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found), indent=2))
        return
    since = "" if found.oldest_s is None else f", the oldest for {found.oldest_s:.1f} s"
    typer.echo(f"{found.entries:,} entries wait, {found.bytes:,} bytes{since}; {found.poison:,} were set aside")


@app.command("restore-budgets")
def restore_budgets(
    ledger_place: LedgerOption = DEFAULT_LEDGER,
    redis: RedisOption = None,
    namespace: NamespaceOption = "sluice",
    write: Annotated[bool, typer.Option("--write", help="Do it; without, only say what would change.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Give budgets in Redis back what they have lost, out of the ledger's rows."""
    if not isinstance(ledger_place, PostgresUrl):
        raise typer.BadParameter("budgets of a ledger in a file are in that file; name a postgresql:// ledger")
    changes = connected(redis, lambda client: restore(client, namespace, ledger_place, write))
    if as_json:
        sums = [{"name": change.name, "nusd": change.total_nusd} for change in changes]
        typer.echo(json.dumps({"written": write, "sums": sums}, indent=2))
        return
    for change in changes:
        typer.echo(f"{change.name}: {format_usd(change.total_nusd, 9)}")
    done = "written" if write else "would change; --write does it"
    typer.echo(f"{len(changes):,} sums {done}" if changes else "budgets have all that the ledger says")


@app.command("poison")
def poison(
    redis: RedisOption = None,
    namespace: NamespaceOption = "sluice",
    put_back_ids: Annotated[
        list[str] | None, typer.Option("--put-back", metavar="ID", help="Try this entry again; `all` for every one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show entries that PostgreSQL cannot take, or put them back after their cause is gone."""
    if put_back_ids:
        count = connected(redis, lambda client: put_back(client, namespace, put_back_ids))
        typer.echo(f"put back {count:,}; `sluice ledger backlog` shows whether they were taken")
        return
    found = connected(redis, lambda client: list_poison(client, namespace))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(each) for each in found], indent=2))
    elif found:
        wide_console().print(_poison_table(found))
    else:
        typer.echo("no entry was set aside")


def _caps(policy: list[Path] | None, now_us: int) -> CapTable:
    """Those of the policy that is named; none where none is."""
    try:
        paths = policy_paths(policy)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return PolicyFiles(paths, os.environ, now_us).cap_table() if paths else NO_CAPS


def _verification_json(place: LedgerPlace, found: Verification) -> dict[str, object]:
    return {"ledger": str(place), "agrees": found.agrees, **dataclasses.asdict(found)}


def _print(place: LedgerPlace, found: Verification) -> None:
    counts = f"{found.rows:,} rows, {found.requests:,} requests, {found.open_holds:,} open holds"
    counts += f", {found.windows:,} caps" if found.windows else ""
    typer.echo(f"{place}: {counts}, {format_usd(found.total_nusd, 9)} in all")
    if found.stream_id is not None:
        typer.echo(f"as of stream id {found.stream_id}; {found.waiting:,} of the rows wait in Redis")
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


def _poison_table(found: list[Poison]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("id", "set aside", "came as", "rows", "why"):
        table.add_column(name, overflow="fold")
    for each in found:
        table.add_row(each.id, instant_text(each.at_us), each.came_as, " ".join(each.row_ids) or "-", each.why)
    return table
