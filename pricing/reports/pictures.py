"""Which plots a report's page has, and what is in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from pricing.ledger.reader import Span
from pricing.ledger.rows import House
from pricing.reports.columns import share_text, usd_text
from pricing.reports.dimensions import DIMENSIONS
from pricing.reports.lines import Line
from pricing.reports.plots import COLOURS, OTHERS, Bar, bars, columns
from pricing.reports.report import Report
from pricing.reports.zones import LocalTime, in_time

BARS_AT_MOST: Final = 12  # the rest is one bar; its lines are in the table
COLUMNS_AT_MOST: Final = 2_000  # hours of twelve weeks; more would be thinner than a pixel
_PHASES: Final = ("tenants", "house", "boot", "idle", "adjustment")


def pictures(report: Report) -> Iterator[str]:
    """Columns where the report is grouped by time and has more than one moment, else bars; then the pools."""
    times = [name for name in report.by if DIMENSIONS[name].span]
    yield _over_time(report, times[0]) if times and len(_known(report, times[0])) > 1 else _by_group(report)
    if report.total.baseline_nusd:
        yield _against_baseline(report)
    if report.pools:
        yield _pools(report)


def _by_group(report: Report) -> str:
    """Lines, and with them what stands apart, by who pays and by phase."""
    found = [(", ".join(line.key) or "all", _phases(line)) for line in report.lines]
    apart: dict[str, list[int]] = defaultdict(lambda: [0] * len(_PHASES))
    for house in report.separate:
        apart[house.account][_PHASES.index(House(house.account).strip("_"))] += house.amount_nusd
    found += [(account, tuple(amounts)) for account, amounts in apart.items()]
    found.sort(key=lambda each: -sum(each[1]))
    shown, rest = found[:BARS_AT_MOST], found[BARS_AT_MOST:]
    if rest:
        sums = tuple(sum(amounts) for amounts in zip(*(parts for _, parts in rest), strict=True))
        shown.append((f"{len(rest)} more", sums))
    by = " and ".join(report.by) or "all"
    return bars(f"Spent by {by}", _PHASES, [Bar(name, parts, usd_text(report, sum(parts))) for name, parts in shown])


def _phases(line: Line) -> tuple[int, ...]:
    return (line.charged_nusd, line.house_nusd, line.boot_nusd, line.idle_nusd, line.adjustment_nusd)


def _over_time(report: Report, name: str) -> str:
    """Each moment's cost by the first of the other groupings, and by house account."""
    span, at = DIMENSIONS[name].span, report.by.index(name)
    assert span is not None  # of a grouping by time
    what = next((index for index, each in enumerate(report.by) if not DIMENSIONS[each].span), None)
    amounts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for line in report.lines:
        amounts["spent" if what is None else line.key[what]][line.key[at]] += line.total_nusd
    for house in report.separate:
        amounts[house.account][house.key[at]] += house.amount_nusd
    series = _largest(amounts)
    labels = _labels(report, span, _known(report, name))
    found = [
        Bar(label, parts := tuple(each[label] for _, each in series), usd_text(report, sum(parts))) for label in labels
    ]
    by = f" and {report.by[what]}" if what is not None else ""
    return columns(f"Spent by {name}{by}", [each for each, _ in series], found, lambda nusd: usd_text(report, nusd))


def _known(report: Report, name: str) -> list[str]:
    """The moments in which something happened."""
    at = report.by.index(name)
    return sorted({line.key[at] for line in report.lines} | {line.key[at] for line in report.separate}, key=in_time)


def _labels(report: Report, span: Span, known: list[str]) -> list[str]:
    """All moments of the window, also those in which nothing happened, between the first and the last that had any."""
    local = LocalTime(report.zone, report.since_us, report.until_us)
    if span == "hour" and (report.until_us - report.since_us) > COLUMNS_AT_MOST * 3_600_000_000:
        return known
    whole = local.spans(span, report.since_us, report.until_us)
    inside = [label for label in whole if in_time(known[0]) <= in_time(label) <= in_time(known[-1])]
    return inside if set(known) <= set(inside) else known


def _largest(amounts: dict[str, dict[str, int]]) -> list[tuple[str, dict[str, int]]]:
    """As many series as there are colours, the largest first; the rest as one."""
    ordered = sorted(amounts.items(), key=lambda each: -sum(each[1].values()))
    if len(ordered) <= COLOURS:
        return ordered
    rest: dict[str, int] = defaultdict(int)
    for _, each in ordered[COLOURS - 1 :]:
        for label, amount in each.items():
            rest[label] += amount
    return [*ordered[: COLOURS - 1], (OTHERS, rest)]


def _against_baseline(report: Report) -> str:
    total = report.total
    both = [Bar("busy", (total.busy_nusd,), usd_text(report, total.busy_nusd))]
    both.append(Bar("baseline", (total.baseline_nusd,), usd_text(report, total.baseline_nusd)))
    return bars(f"Busy cost against the baseline: {report.baseline}", ["amount"], both)


def _pools(report: Report) -> str:
    found = []
    for use in (report.pools or ())[:BARS_AT_MOST]:
        used = "" if use.utilisation is None else f", {share_text(use.utilisation)} busy"
        parts = (use.busy_nusd, 0, use.boot_nusd, use.idle_nusd, use.adjustment_nusd)
        found.append(Bar(use.pool, parts, usd_text(report, use.alive_nusd) + used))
    return bars("Pools: busy, boot and idle", ("busy", "", *_PHASES[2:]), found)  # each phase has its colour
