"""A comparison in a terminal: capture by day and pool, then where the difference lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pricing.money import format_usd
from pricing.reconcile.causes import SAID
from pricing.reconcile.compare import ALL_POOLS, Captured, Comparison
from pricing.reports.focus_columns import instant

_SHOWN_NUSD: Final = 50_000  # less is $0.0000; JSON and CSV have it


def as_table(found: Comparison) -> RenderableType:
    if not found.hours:
        return Group(Text(f"Nothing to compare: {_window(found)}"), *_left_out(found))
    parts: list[RenderableType] = [Text(_window(found)), _days(found)]
    if any(abs(nusd) >= _SHOWN_NUSD for nusd in found.causes().values()):
        parts.append(_causes(found))
    return Group(*parts, *_left_out(found), Text(_closing(found)))


def _window(found: Comparison) -> str:
    if found.bill.since_us >= found.bill.until_us:
        return f"{found.bill.source} has no hour from {instant(found.since_us)} to {instant(found.until_us)}"
    return f"{found.bill.source}, from {instant(found.bill.since_us)} to {instant(found.bill.until_us)}"


def _days(found: Comparison) -> Table:
    table = Table(title="Capture", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("day", "pool"):
        table.add_column(name)
    for name in ("ledger", "bill", "difference", "captured"):
        table.add_column(name, justify="right")
    for day in found.days():
        difference = format_usd(day.bill_nusd - day.ledger_nusd)
        amounts = (format_usd(day.ledger_nusd), format_usd(day.bill_nusd), difference, _rate(day, found))
        table.add_row(day.day if day.pool == ALL_POOLS else "", day.pool or "all", *amounts)
    return table


def _rate(day: Captured, found: Comparison) -> str:
    if day.rate is None:
        return "-"
    return f"{float(day.rate):.2%}{' below' if day.is_below(found.threshold) else ''}"


def _causes(found: Comparison) -> Table:
    table = Table(title="Where the difference lies", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("pool")
    table.add_column("bill − ledger", justify="right")
    table.add_column("cause")
    for (pool, cause), nusd in sorted(found.causes().items(), key=lambda each: (-abs(each[1]), each[0])):
        if abs(nusd) >= _SHOWN_NUSD:
            table.add_row(pool, format_usd(nusd), SAID[cause])
    return table


def _left_out(found: Comparison) -> Iterator[Text]:
    for name, nusd in sorted(found.bill.unknown.items()):
        yield Text(f"Billed and no pool of this ledger or policy: {name}, {format_usd(nusd)}")
    for pool, nusd in sorted(found.not_in_bill.items()):
        yield Text(f"Not in this bill: {pool}, {format_usd(nusd)} in the ledger")
    if found.not_covered_nusd:
        yield Text(f"In hours that the bill does not reach: {format_usd(found.not_covered_nusd)} in the ledger")


def _closing(found: Comparison) -> str:
    text = f"Ledger {format_usd(found.ledger_nusd)} of {format_usd(found.bill_nusd)} billed"
    if found.bill_nusd:
        text += f": {found.ledger_nusd / found.bill_nusd:.2%} captured"
    below = len(found.below)
    return f"{text}; {below} {'day' if below == 1 else 'days'} below {float(found.threshold * 100):g}%"
