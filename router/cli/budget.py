"""`sluice budget`: caps as they stand, and rate limits; change a cap in its policy file; raise one for a while."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.table import Table

from pricing.budgets.caps import Unlimited
from pricing.budgets.offline import cap_statuses
from pricing.budgets.store import CapStatus
from pricing.clock import SystemClock
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.money import NUSD_PER_USD, format_usd, parse_usd, usd_number
from pricing.nearest import nearest
from pricing.reports.spans import instant_text, parse_end
from router.cli.cap_edit import PolicyFiles
from router.cli.cap_text import add_raise, set_amount
from router.cli.limits_view import LimitLine, fetch_budgets, limits_of, limits_table, read_budgets
from router.cli.options import DEFAULT_LEDGER, LedgerOption, NamespaceOption, RedisOption, policy_paths, wide_console
from router.cli.stream import connected, shared_statuses

NO_LIMIT: Final = Unlimited.UNLIMITED.value

app = typer.Typer(add_completion=False, rich_markup_mode=None)

PolicyOption = Annotated[
    list[Path] | None, typer.Option("--policy", help="Policy file or folder; SLUICE_POLICY where none is given.")
]
UrlOption = Annotated[str | None, typer.Option(help="Ask this endpoint, which knows the use of rate limits, too.")]
KeyOption = Annotated[str | None, typer.Option(envvar="SLUICE_KEY", help="API key for --url.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CapArgument = Annotated[str, typer.Argument(metavar="CAP", help="As `sluice budget` shows it, for example acme/day.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be shown, and from where."""

    policy: list[Path] | None
    ledger: LedgerPlace
    redis: str | None
    namespace: str
    url: str | None
    key: str | None
    as_json: bool

    def after(self, context: typer.Context) -> Asked:
        """What stood before the word `show` counts where nothing was said behind it."""
        sources = {field.name: context.get_parameter_source(field.name) for field in fields(self)}
        unsaid = [name for name, source in sources.items() if source is not None and source.name == "DEFAULT"]
        said = context.parent.params if context.parent else {}
        return replace(self, **{name: said[name] for name in unsaid if name in said})


@app.callback(
    invoke_without_command=True,
    help="Show caps with what was spent, is held and is left, and rate limits; change a cap; raise one for a while.",
)
@app.command(
    help="Show caps with what was spent, is held and is left, and rate limits. Also what `sluice budget` alone does."
)
def show(
    context: typer.Context,
    policy: PolicyOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    redis: RedisOption = None,
    namespace: NamespaceOption = "sluice",
    url: UrlOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """`sluice budget`, with or without the word `show`; before another word it only takes the options."""
    if context.invoked_subcommand is None:
        _show(Asked(policy, ledger, redis, namespace, url, key, as_json).after(context))


def _show(asked: Asked) -> None:
    if asked.url is not None:
        document = fetch_budgets(asked.url, asked.key)
        typer.echo(json.dumps(document, indent=2)) if asked.as_json else _print(*read_budgets(document))
        return
    files = _files(asked.policy)
    caps = files.cap_table()
    if isinstance(asked.ledger, PostgresUrl):
        statuses = connected(asked.redis, lambda client: shared_statuses(client, asked.namespace, caps))
    else:
        statuses = cap_statuses(asked.ledger, caps, files.now_us)
    if asked.as_json:
        typer.echo(json.dumps([_status_json(status) for status in statuses], indent=2))
        return
    _print(statuses, limits_of(caps))
    if statuses and not isinstance(asked.ledger, PostgresUrl) and not asked.ledger.exists():
        typer.echo(f"note: no ledger at {asked.ledger} yet, so nothing is spent; name another with --ledger")
    if caps.limits:
        typer.echo("How much of a rate limit is used, the endpoint knows: add --url with its address.")


def _print(statuses: Sequence[CapStatus], limits: Sequence[LimitLine]) -> None:
    if statuses:
        wide_console().print(_table(statuses))
    else:
        typer.echo("The policy has no caps; nothing limits what its tenants spend. See docs/policy-files.md.")
    if limits:
        wide_console().print(limits_table(limits))


@app.command("set")
def set_cap(
    context: typer.Context,
    cap: CapArgument,
    amount: Annotated[str, typer.Argument(help="Dollars, 0, or unlimited.")],
    policy: PolicyOption = None,
) -> None:
    """Change a cap's amount in the file where it stands. A running endpoint takes it up within seconds."""
    files = _files(policy or _given_before(context))
    wanted = amount if amount == NO_LIMIT else _dollars(amount, [NO_LIMIT])
    try:
        changed = files.change(files.find(cap), set_amount(wanted))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(f"{cap} is {amount} now ({changed})")


@app.command("raise")
def raise_cap(
    context: typer.Context,
    cap: CapArgument,
    amount: Annotated[str, typer.Argument(help="Dollars, above the cap's own amount.")],
    until: Annotated[str, typer.Option(help="When it ends: 4h or 2d from now, 2026-11-01, or 2026-11-01T12:00Z.")],
    policy: PolicyOption = None,
) -> None:
    """Raise a cap for a while; afterwards its own amount is in force again, without another edit."""
    files = _files(policy or _given_before(context))
    try:
        found = files.find(cap)
        dollars, until_us = _dollars(amount), parse_end(until, files.now_us)
        if not isinstance(found.amount_nusd, int) or dollars * NUSD_PER_USD <= found.amount_nusd:
            raise ValueError(f"{cap} is no lower than {amount} already; a raise must be above the cap's own amount")
        changed = files.change(found, add_raise(dollars, until_us))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(f"{cap} is {amount} until {instant_text(until_us)} ({changed})")


def _given_before(context: typer.Context) -> list[Path] | None:
    """`--policy` where it stood before the word `set` or `raise`: ignoring it would edit another policy."""
    given: list[Path] | None = context.parent.params["policy"] if context.parent else None
    return given


def _files(policy: list[Path] | None) -> PolicyFiles:
    try:
        paths = policy_paths(policy)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return PolicyFiles(paths, os.environ, SystemClock().wall_us())


def _dollars(text: str, words: Sequence[str] = ()) -> Decimal:
    """An amount. `words` are what might have been meant instead."""
    try:
        nusd = parse_usd(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}{nearest(text, words)}") from None
    if nusd < 0:
        raise typer.BadParameter(f"{text} is below 0; write 0 to refuse everything, unlimited to refuse nothing")
    return Decimal(text)


def _table(statuses: Sequence[CapStatus]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("cap", "scope", "window"):
        table.add_column(name, overflow="fold")
    for name in ("amount", "spent", "held", "left"):
        table.add_column(name, justify="right")
    table.add_column("resets", overflow="fold")
    table.add_column("state")
    for status in statuses:
        amounts = (status.amount_nusd, status.spent_nusd, status.held_nusd, status.left_nusd)
        shown = ["unlimited" if amount is None else format_usd(amount) for amount in amounts]
        resets = "rolls" if status.resets_us is None else instant_text(status.resets_us)
        table.add_row(status.cap, str(status.scope), status.window, *shown, resets, _state(status))
    return table


def _state(status: CapStatus) -> str:
    if status.left_nusd == 0:
        return "exhausted"
    return "lowers the tier" if status.lowering else "warned" if status.warned else "ok"


def _status_json(status: CapStatus) -> dict[str, Any]:
    amounts = {
        "amount": status.amount_nusd,
        "spent": status.spent_nusd,
        "held": status.held_nusd,
        "left": status.left_nusd,
    }
    return {
        "cap": status.cap,
        "scope": str(status.scope),
        "window": status.window,
        **{f"{name}_nusd": amount for name, amount in amounts.items()},
        **{f"{name}_usd": None if amount is None else usd_number(amount) for name, amount in amounts.items()},
        "resets": None if status.resets_us is None else instant_text(status.resets_us),
        "state": _state(status),
    }
