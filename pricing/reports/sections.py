"""A report as titled tables of text, which a terminal and a page draw each in its own way. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pricing.money import US_PER_HOUR
from pricing.reports.columns import ColumnSet, columns_of, latency_of, share_text, text_of, usd_text
from pricing.reports.figures import Failure
from pricing.reports.report import Report
from pricing.reports.share import HouseView
from pricing.reports.spans import instant_text

TITLES: Final = {
    ColumnSet.MONEY: "Spent",
    ColumnSet.UNIT: "Cost of one",
    ColumnSet.LATENCY: "Seconds and speed",
    ColumnSet.FAILURES: "Fallbacks and failed attempts",
    ColumnSet.UTILISATION: "Pools",
    ColumnSet.SCHEMAS: "Answers to JSON schemas",
    ColumnSet.MEDIA: "Pictures and clips",
    ColumnSet.EVIDENCE: "What the cost rests on",
    ColumnSet.BOOKS: "Price books in force",
}
_VIEWS: Final = {
    HouseView.SEPARATE: "boot and idle stand apart",
    HouseView.WEIGHTED: "boot and idle shared by what each cost while its pool was busy",
    HouseView.EVEN: "boot and idle shared evenly by those who used a pool",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A table. The first `keys` columns are names, the others figures; `total` is empty where nothing is summed."""

    title: str
    keys: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] = ()
    hints: tuple[tuple[str, str], ...] = ()  # (column, how it is worked out)


def window_text(report: Report) -> str:
    return f"{instant_text(report.since_us, report.zone)} to {instant_text(report.until_us, report.zone)}"


def nothing_text(report: Report) -> str:
    """What an empty window says."""
    whose = f" for tenant {report.tenant}" if report.tenant else ""
    return f"Nothing was spent and nothing was asked{whose} from {window_text(report)}."


def sections(report: Report, sets: Sequence[ColumnSet]) -> Iterator[Section]:
    """What is asked for, in that order; container time that stands apart follows the money."""
    for shown in sets:
        match shown:
            case ColumnSet.UTILISATION:
                yield from _pools(report)
            case ColumnSet.BOOKS:
                yield from _books(report)
            case _:
                yield from _figures(report, shown)
        if shown is ColumnSet.MONEY and report.separate:
            yield _apart(report)
        if shown is ColumnSet.FAILURES and report.failures:
            yield _failures(report, report.failures)


def closing_text(report: Report) -> str:
    """What everything comes to, what the saving is against, and what it leaves out."""
    sums = f"Ledger: {usd_text(report, report.ledger_nusd)}; {_VIEWS[report.house]}."
    against = f"Baseline: {report.baseline}{_needed_text(report)}."
    return f"{sums} The saving is on busy time, {left_out_text(report)} in neither side. {against}"


def left_out_text(report: Report) -> str:
    """Boot and idle, and what they cost where the report says so: one tenant's own does not."""
    if report.tenant and report.house is HouseView.SEPARATE:
        return "boot and idle"
    return f"boot and idle ({usd_text(report, report.containers_nusd)})"


def _needed_text(report: Report) -> str:
    if report.not_needed:
        return f"; what it would have needed is not known ({report.not_needed})"
    needed = [
        f"{_long(each.container_us)} of {each.pool} ({each.gpu_count} × {each.gpu}, {usd_text(report, each.nusd)})"
        for each in report.needed
        if each.container_us is not None
    ]
    return f", which would have needed {', '.join(needed)}" if needed else ""


def _long(duration_us: int) -> str:
    return f"{duration_us / 3.6e9:,.1f} h" if duration_us >= US_PER_HOUR else f"{duration_us / 1e6:,.1f} s"


def _figures(report: Report, shown: ColumnSet) -> Iterator[Section]:
    columns = columns_of(report, shown)
    if columns:
        rows = [
            (*line.key, *(text_of(report, each, each.value(line, latency)) for each in columns))
            for line in report.lines
            for latency in [latency_of(report, line)]
        ]
        latency = latency_of(report, report.total)
        sums = [text_of(report, each, each.value(report.total, latency)) for each in columns]
        yield Section(
            TITLES[shown],
            len(report.by),
            (*report.by, *(each.title for each in columns)),
            tuple(rows),
            ("total", *[""] * (len(report.by) - 1), *sums) if report.by else (),
            tuple((each.title, each.hint) for each in columns),
        )


def _apart(report: Report) -> Section:
    rows = tuple(
        (line.account, *line.key, f"{line.duration_us / 1e6:,.1f}", usd_text(report, line.amount_nusd))
        for line in report.separate
    )
    title = "Container time that no request caused"
    if report.house is not HouseView.SEPARATE:
        title = "Container time of pools that nobody used then"
    amount = usd_text(report, sum(line.amount_nusd for line in report.separate))
    seconds = f"{sum(line.duration_us for line in report.separate) / 1e6:,.1f}"
    total = ("total", *[""] * len(report.by), seconds, amount)
    return Section(title, 1 + len(report.by), ("account", *report.by, "seconds", "amount"), rows, total)


def _failures(report: Report, failures: Sequence[Failure]) -> Section:
    rows = tuple(
        (
            *each.key,
            each.failure,
            f"{each.attempts:,}",
            usd_text(report, each.charged_nusd),
            usd_text(report, each.house_nusd),
        )
        for each in failures
    )
    columns = (*report.by, "failure", "attempts", "tenants paid", "the house paid")
    return Section("Attempts that did not answer, by failure class", 1 + len(report.by), columns, rows)


def _pools(report: Report) -> Iterator[Section]:
    if report.pools:
        columns = ("pool", "busy", "boot", "idle", "adjustm.", "alive", "utilisation", "boots", "a day", "s a boot")
        rows = tuple(
            (
                use.pool,
                *(
                    usd_text(report, each)
                    for each in (use.busy_nusd, use.boot_nusd, use.idle_nusd, use.adjustment_nusd)
                ),
                usd_text(report, use.alive_nusd),
                "-" if use.utilisation is None else share_text(use.utilisation),
                f"{use.boots:,}",
                f"{use.boots_per_day:,.1f}",
                "-" if use.boot_s is None else f"{use.boot_s:,.1f}",
            )
            for use in report.pools
        )
        hints = (("alive", "busy + boot + idle + adjustment"), ("utilisation", "busy ÷ alive"))
        yield Section(TITLES[ColumnSet.UTILISATION], 1, columns, rows, (), hints)


def _books(report: Report) -> Iterator[Section]:
    if report.books:
        rows = tuple((*line.key, ", ".join(report.books.get(line.key, ())) or "-") for line in report.lines)
        yield Section(TITLES[ColumnSet.BOOKS], 1 + len(report.by), (*report.by, "price books"), rows)
