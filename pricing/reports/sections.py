"""A report as titled tables of text, which a terminal and a page draw each in its own way.

Where nothing of a kind happened, a sentence stands in the place of its table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pricing.money import US_PER_HOUR
from pricing.reports.apart import ALL, apart
from pricing.reports.columns import (
    ColumnSet,
    columns_of,
    latency_of,
    share_text,
    spare_columns,
    text_of,
    usd_text,
)
from pricing.reports.figures import Failure
from pricing.reports.lines import saving_word
from pricing.reports.report import Report
from pricing.reports.share import HouseView
from pricing.reports.spans import instant_text

TITLES: Final = {
    ColumnSet.MONEY: "Spent",
    ColumnSet.SAVING: "Against the baseline",
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
    HouseView.SEPARATE: "stand apart",
    HouseView.WEIGHTED: "are shared by what each cost while its pool was busy",
    HouseView.EVEN: "are shared evenly by those who used a pool",
}
_SHARED_POOLS: Final = "tenants share containers, so that a report of one tenant says nothing of them"
_NAMED: Final = 3  # versions of a policy; a month of edits has many
NO_BREAK: Final = "\N{NO-BREAK SPACE}"  # between a number and its unit


@dataclass(frozen=True, slots=True)
class Section:
    """A table, or the sentence `nothing` in its place.

    The first `keys` columns are names, the others figures; `total` is empty where nothing is summed. `spare` names
    columns that a table without room leaves out, the least telling first.
    """

    title: str
    keys: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] = ()
    hints: tuple[tuple[str, str], ...] = ()  # (column, how it is worked out)
    spare: tuple[tuple[str, ...], ...] = ()
    nothing: str = ""

    def by_column(self) -> list[tuple[str, ...]]:
        """The cells of each column, its heading first."""
        return list(zip(self.columns, *self.rows, *([self.total] if self.total else ()), strict=True))

    def without(self, names: Collection[str]) -> Section:
        """Less these columns."""
        kept = [at for at, name in enumerate(self.columns) if name not in names]

        def pick(cells: Sequence[str]) -> tuple[str, ...]:
            return tuple(cells[at] for at in kept if cells)

        return replace(
            self,
            keys=sum(at < self.keys for at in kept),
            columns=pick(self.columns),
            rows=tuple(map(pick, self.rows)),
            total=pick(self.total),
        )


def _nothing(shown: ColumnSet, why: str) -> Section:
    return Section(TITLES[shown], 0, (), (), nothing=f"{why}.")


def window_text(report: Report) -> str:
    return f"{instant_text(report.since_us, report.zone)} to {instant_text(report.until_us, report.zone)}"


def nothing_text(report: Report) -> str:
    """What an empty window says."""
    whose = f" for tenant {report.tenant}" if report.tenant else ""
    return f"Nothing was spent and nothing was asked{whose} from {window_text(report)}."


def sections(report: Report, sets: Sequence[ColumnSet]) -> Iterator[Section]:
    """What is asked for, in that order; container time that stands apart follows the money."""
    for shown in sets:
        if why := _nothing_of(report, shown):
            yield _nothing(shown, why)
        else:
            yield _OWN.get(shown, _figures)(report, shown)
            if shown is ColumnSet.FAILURES and report.failures:
                yield _failures(report, report.failures)
        if shown is ColumnSet.MONEY and report.separate:
            yield _apart(report)


def _nothing_of(report: Report, shown: ColumnSet) -> str:
    """Why there is nothing to show of a kind; "" where there is something."""
    total = report.total
    judged = total.schema_kept + total.schema_broken + total.schema_cut
    went_wrong = total.failed + total.fell_back + total.continued + total.overrun_nusd
    match shown:
        case ColumnSet.MONEY if not report.lines:
            return "no request came"
        case ColumnSet.SAVING if not total.baseline_nusd:
            return "no request of this window has a baseline"
        case ColumnSet.UNIT if not total.served:
            return "no request was served"
        case ColumnSet.LATENCY if not latency_of(report, total).counts:
            return "no request was served, so that nothing was timed"
        case ColumnSet.FAILURES if not total.attempts:
            return "no attempt was made"
        case ColumnSet.FAILURES if not went_wrong:
            return f"none; every attempt answered ({total.attempts:,})"
        case ColumnSet.UTILISATION if not report.pools:
            return _SHARED_POOLS if report.tenant else "no pool was up"
        case ColumnSet.SCHEMAS if not judged:
            return "none was asked for"
        case ColumnSet.MEDIA if not total.images + total.clips:
            return "none came"
        case ColumnSet.EVIDENCE if not total.busy_nusd:
            return "no request cost anything"
        case ColumnSet.BOOKS:
            return _of_one_book(report)
    return ""


def _of_one_book(report: Report) -> str:
    """What is said where a table would name the same book in each line, or none; "" where they differ."""
    named = {books for books in (report.books or {}).values() if books}
    match list(named):
        case []:
            return "nothing was priced"
        case [(book,)]:
            return f"{book}, for all of it"
    return ""


def closing_text(report: Report) -> tuple[str, ...]:
    """What everything comes to; what the saving is against, and what it leaves out; what that would have needed."""
    sums = f"Ledger: {usd_text(report, report.ledger_nusd)}; {_left_out_text(report)} {_VIEWS[report.house]}."
    against = f"Baseline: {report.baseline}{_needed_text(report)}."
    return sums, _saved_text(report), against


def _saved_text(report: Report) -> str:
    total = report.total
    if total.saving_nusd is None or total.saving_share is None:
        return "No saving is stated: no request of this window has a baseline."
    saved = f"{saving_word(total.saving_nusd)} on busy time: {usd_text(report, abs(total.saving_nusd))}"
    return (
        f"{saved}, {share_text(abs(total.saving_share))} of the baseline's "
        f"{usd_text(report, total.baseline_nusd)}; {_left_out_text(report)} are in neither side."
    )


def left_out_nusd(report: Report) -> int | None:
    """What boot and idle cost, which no saving has in it; None where the report does not say: one tenant's own."""
    return None if report.tenant and report.house is HouseView.SEPARATE else report.containers_nusd


def _left_out_text(report: Report) -> str:
    nusd = left_out_nusd(report)
    return "boot and idle" if nusd is None else f"boot and idle ({usd_text(report, nusd)})"


def _needed_text(report: Report) -> str:
    needed = [
        f"tokens of {each.pool} ({usd_text(report, each.nusd)})"
        if each.container_us is None
        else f"{_long(each.container_us)} of {each.pool} "
        f"({each.gpu_count}{NO_BREAK}×{NO_BREAK}{each.gpu}, {usd_text(report, each.nusd)})"
        for each in report.needed
    ]
    known = f", which would have needed {', '.join(needed)}" if needed else ""
    return f"{known}{_not_known_text(report)}"


def _not_known_text(report: Report) -> str:
    """Of how much of a baseline nobody knows what it would have needed, under which policies, and what to do."""
    if not report.not_known:
        return ""
    names = [each.policy for each in report.not_known]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    several = f"policies {', '.join(names[:_NAMED])}{more}: give --policy the files of one"
    which = several if len(names) > 1 else f"policy {names[0]}: give --policy its files"
    amount = usd_text(report, sum(each.nusd for each in report.not_known))
    return f"; what {amount} of it would have needed is not known (the ledger has no premium pools of {which})"


def _long(duration_us: int) -> str:
    long = duration_us >= US_PER_HOUR
    return f"{duration_us / 3.6e9:,.1f}{NO_BREAK}h" if long else f"{duration_us / 1e6:,.1f}{NO_BREAK}s"


def _figures(report: Report, shown: ColumnSet) -> Section:
    columns = columns_of(report, shown)
    rows = [
        (*line.key, *(text_of(report, each, each.value(line, latency)) for each in columns))
        for line in report.lines
        for latency in [latency_of(report, line)]
    ]
    latency = latency_of(report, report.total)
    sums = [text_of(report, each, each.value(report.total, latency)) for each in columns]
    return Section(
        TITLES[shown],
        len(report.by),
        (*report.by, *(each.title for each in columns)),
        tuple(rows),
        ("total", *[""] * (len(report.by) - 1), *sums) if report.by else (),
        tuple((each.title, each.hint) for each in columns),
        spare_columns(shown),
    )


def _apart(report: Report) -> Section:
    """A row for each group of containers; groupings that containers have nothing of are no columns of it."""
    by, rows, total = apart(report)
    cells = [
        (
            *each.key,
            f"{each.duration_us / 1e6:,.1f}",
            *(usd_text(report, nusd) for nusd in (each.boot_nusd, each.idle_nusd, each.adjustment_nusd)),
            usd_text(report, each.total_nusd),
            "-" if each.observed_share is None else share_text(each.observed_share),
        )
        for each in (*rows, total)
    ]
    title = "Container time that no request caused: __boot__, __idle__ and __adjustment__"
    if report.house is not HouseView.SEPARATE:
        title = "Container time of pools that nobody used then"
    columns = (*(by or (ALL,)), "seconds", "boot", "idle", "adjustm.", "total", "observed")
    sums = ("total", *[""] * (len(by) - 1), *cells[-1]) if by else ()
    return Section(title, len(by) or 1, columns, tuple(cells[: len(rows)]), sums, spare=(("observed",), ("seconds",)))


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


def _pools(report: Report, shown: ColumnSet) -> Section:
    columns = ("pool", "busy", "boot", "idle", "adjustm.", "alive", "utilisation", "boots", "a day", "s a boot")
    rows = tuple(
        (
            use.pool,
            *(usd_text(report, each) for each in (use.busy_nusd, use.boot_nusd, use.idle_nusd, use.adjustment_nusd)),
            usd_text(report, use.alive_nusd),
            "-" if use.utilisation is None else share_text(use.utilisation),
            f"{use.boots:,}",
            f"{use.boots_per_day:,.1f}",
            "-" if use.boot_s is None else f"{use.boot_s:,.1f}",
        )
        for use in report.pools or ()
    )
    hints = (("alive", "busy + boot + idle + adjustment"), ("utilisation", "busy ÷ alive"))
    spare = (("adjustm.",), ("s a boot",), ("busy", "boot", "idle"), ("a day",))
    return Section(TITLES[shown], 1, columns, rows, (), hints, spare)


def _books(report: Report, shown: ColumnSet) -> Section:
    books = report.books or {}
    rows = tuple((*line.key, ", ".join(books.get(line.key, ())) or "-") for line in report.lines)
    return Section(TITLES[shown], 1 + len(report.by), (*report.by, "price books"), rows)


# The sets whose rows are not the lines of the report.
_OWN: Final[dict[ColumnSet, Callable[[Report, ColumnSet], Section]]] = {
    ColumnSet.UTILISATION: _pools,
    ColumnSet.BOOKS: _books,
}
