"""The columns of a report, in sets that are shown together. Every form (table, CSV, JSON, page) draws from them.

A value is an integer of nano-dollars, a float of nano-dollars, a count, a share of 1, seconds or a speed; `kind` says
which, so that each form writes it in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pricing.money import NUSD_PER_USD, format_usd
from pricing.nearest import nearest
from pricing.reports.dimensions import DIMENSIONS
from pricing.reports.figures import Latency, Timed
from pricing.reports.lines import Line
from pricing.reports.report import Part, Report
from pricing.reports.share import HouseView

Value = int | float | None


class Kind(StrEnum):
    COUNT = "count"
    AMOUNT = "amount"  # integer nano-dollars, which add up
    EACH = "each"  # nano-dollars of one of something, which do not
    SHARE = "share"
    SECONDS = "seconds"
    SPEED = "speed"  # tokens a second


class ColumnSet(StrEnum):
    """What `--show` takes."""

    MONEY = "money"
    SAVING = "saving"
    UNIT = "unit"
    LATENCY = "latency"
    FAILURES = "failures"
    UTILISATION = "utilisation"
    SCHEMAS = "schemas"
    MEDIA = "media"
    EVIDENCE = "evidence"
    BOOKS = "books"


@dataclass(frozen=True, slots=True)
class Column:
    """`name` is its name in JSON and CSV, without the unit; `title` what people read; `hint` its formula."""

    name: str
    title: str
    kind: Kind
    value: Callable[[Line, Latency], Value]
    hint: str
    decimals: int = 6  # of what one of something costs, as people read it


def _of(name: str, title: str, kind: Kind, hint: str, decimals: int = 6) -> Column:
    attribute = f"{name}_nusd" if kind in (Kind.AMOUNT, Kind.EACH) else name
    return Column(name, title, kind, lambda line, _: getattr(line, attribute), hint, decimals)


def _timed(name: str, title: str, kind: Kind, what: Timed, share: float, hint: str) -> Column:
    return Column(name, title, kind, lambda _, latency: latency.at(what, share), hint)


_BUSY: Final = _of("busy", "busy", Kind.AMOUNT, "charged + house")
_SHARED: Final = ("boot", "idle", "adjustment")  # shown where a view shares them
_COLUMNS: Final[dict[ColumnSet, tuple[Column, ...]]] = {
    ColumnSet.MONEY: (
        _of("requests", "requests", Kind.COUNT, "requests that arrived"),
        _of("served", "served", Kind.COUNT, "requests that were answered"),
        _of("prompt_tokens", "tokens in", Kind.COUNT, "prompt tokens"),
        _of("cached_prompt_tokens", "cached", Kind.COUNT, "prompt tokens that a provider's cache had"),
        _of("completion_tokens", "tokens out", Kind.COUNT, "output tokens"),
        _of("charged", "charged", Kind.AMOUNT, "what tenants paid"),
        _of("house", "house", Kind.AMOUNT, "what the house paid for these requests: failed attempts and overruns"),
        _BUSY,
        _of("boot", "boot", Kind.AMOUNT, "share of boots in this view"),
        _of("idle", "idle", Kind.AMOUNT, "share of idle time in this view"),
        _of("adjustment", "adjustm.", Kind.AMOUNT, "share of container time learnt late"),
        _of("total", "total", Kind.AMOUNT, "busy + boot + idle + adjustment"),
    ),
    ColumnSet.SAVING: (
        _of("baseline", "baseline", Kind.AMOUNT, "what the baseline would have been expected to cost"),
        _BUSY,
        _of("saving", "busy saving", Kind.AMOUNT, "baseline − busy; boot and idle in neither"),
        _of("saving_share", "of baseline", Kind.SHARE, "busy saving ÷ baseline"),
    ),
    ColumnSet.UNIT: (
        _of("request", "per request", Kind.EACH, "total ÷ served"),
        _of("thousand_requests", "per 1K requests", Kind.EACH, "1,000 × total ÷ served", 4),
        _of("million_tokens", "per 1M tokens out", Kind.EACH, "1,000,000 × total ÷ output tokens", 4),
    ),
    ColumnSet.LATENCY: (
        _timed("latency_p50_s", "seconds p50", Kind.SECONDS, Timed.REQUEST, 0.50, "served requests, arrival to end"),
        _timed("latency_p95_s", "p95", Kind.SECONDS, Timed.REQUEST, 0.95, "the same, exceeded by 5%"),
        _timed("latency_p99_s", "p99", Kind.SECONDS, Timed.REQUEST, 0.99, "the same, exceeded by 1%"),
        _timed(
            "first_token_p50_s", "first token p50", Kind.SECONDS, Timed.FIRST_TOKEN, 0.50, "dispatch to first token"
        ),
        _timed(
            "first_token_p95_s", "first token p95", Kind.SECONDS, Timed.FIRST_TOKEN, 0.95, "the same, exceeded by 5%"
        ),
        _timed(
            "first_token_p99_s", "first token p99", Kind.SECONDS, Timed.FIRST_TOKEN, 0.99, "the same, exceeded by 1%"
        ),
        _timed("tokens_per_s_p50", "tokens/s", Kind.SPEED, Timed.TOKENS_PER_S, 0.50, "of one answer, median"),
        _timed("tokens_per_s_p05", "slowest 5%", Kind.SPEED, Timed.TOKENS_PER_S, 0.05, "95% are faster than that"),
    ),
    ColumnSet.FAILURES: (
        _of("attempts", "attempts", Kind.COUNT, "tries of these requests, at all pools"),
        _of("failed", "failed", Kind.COUNT, "attempts that did not answer"),
        _of("fell_back", "fell back", Kind.COUNT, "requests with more than one attempt"),
        _of("fell_back_share", "of requests", Kind.SHARE, "fell back ÷ requests"),
        _of("continued", "continued", Kind.COUNT, "times that a broken stream went on at another pool"),
        _of("failed_charged", "failed, charged", Kind.AMOUNT, "failed attempts that tenants paid"),
        _of("failed_house", "failed, house", Kind.AMOUNT, "failed attempts that the house paid"),
        _of("overrun", "overrun", Kind.AMOUNT, "metered beyond holds that were cut; the house paid"),
    ),
    ColumnSet.SCHEMAS: (
        _of("schema_kept", "schemas kept", Kind.COUNT, "answers that kept to their JSON schema"),
        _of("schema_broken", "broken", Kind.COUNT, "answers that broke it"),
        _of("schema_cut", "cut", Kind.COUNT, "answers cut by the client's own bound, so that nobody can tell"),
        _of("schema_compliance", "compliance", Kind.SHARE, "kept ÷ (kept + broken)"),
    ),
    ColumnSet.MEDIA: (
        _of("images", "images", Kind.COUNT, "pictures that came"),
        _of("image", "per image", Kind.EACH, "busy ÷ images, where the group made nothing else"),
        _of("clips", "clips", Kind.COUNT, "clips that came"),
        Column("video_s", "video s", Kind.SECONDS, lambda line, _: line.video_us / 1e6, "how long they play"),
        _of("video_s", "per video s", Kind.EACH, "busy ÷ seconds, where the group made nothing else"),
    ),
    ColumnSet.EVIDENCE: (
        _of("observed_share", "observed", Kind.SHARE, "share of busy, boot and idle on containers that were listed"),
        _of("estimated_share", "estimated", Kind.SHARE, "share of busy that no meter measured"),
    ),
}
_SPARE: Final[dict[ColumnSet, tuple[tuple[str, ...], ...]]] = {
    ColumnSet.MONEY: (
        ("prompt_tokens", "cached_prompt_tokens", "completion_tokens"),
        ("charged", "house"),
        ("boot", "idle", "adjustment"),
        ("served",),
    ),
    ColumnSet.LATENCY: (
        ("tokens_per_s_p05",),
        ("latency_p99_s", "first_token_p99_s"),
        ("latency_p95_s", "first_token_p95_s"),
    ),
    ColumnSet.FAILURES: (("fell_back_share",), ("continued", "overrun"), ("failed_charged", "failed_house")),
    ColumnSet.SCHEMAS: (("schema_cut",),),
    ColumnSet.MEDIA: (("clips",),),
}
"""What a table that is too narrow leaves out, the least telling first; parts of a sum go together, before the sum."""
_PARTS: Final = {
    ColumnSet.LATENCY: Part.LATENCY,
    ColumnSet.FAILURES: Part.FAILURES,
    ColumnSet.UTILISATION: Part.UTILISATION,
    ColumnSet.BOOKS: Part.BOOKS,
}


def check_sets(names: Iterable[str]) -> tuple[ColumnSet, ...]:
    """Sets by name. Raises ValueError for one that does not exist, with the valid ones."""
    found = []
    for name in names:
        if name not in list(ColumnSet):
            raise ValueError(f"nothing to show is called '{name}'{nearest(name, ColumnSet)}: {', '.join(ColumnSet)}")
        found.append(ColumnSet(name))
    return tuple(dict.fromkeys(found))


def spare_columns(shown: ColumnSet) -> tuple[tuple[str, ...], ...]:
    """Titles of what a table that is too narrow leaves out, in that order."""
    titles = {column.name: column.title for column in _COLUMNS.get(shown, ())}
    return tuple(tuple(titles[name] for name in names) for names in _SPARE.get(shown, ()))


def every_set(by: Sequence[str]) -> tuple[ColumnSet, ...]:
    """All sets that sums by hour can show with these groupings: what forms other than a table have, unless less, or
    more, is asked for. So a sheet has the same columns however long its window is.
    """
    timed = all(DIMENSIONS[name].timed for name in by)
    return tuple(each for each in ColumnSet if timed or each is not ColumnSet.LATENCY)


def parts_of(sets: Iterable[ColumnSet]) -> frozenset[Part]:
    """What a report must look up to show these sets."""
    return frozenset(_PARTS[each] for each in sets if each in _PARTS)


def plain_sets(report: Report) -> tuple[ColumnSet, ...]:
    """What a table shows where nothing is asked for: money, and what else came."""
    total = report.total
    schemas = total.schema_kept + total.schema_broken + total.schema_cut
    more = {ColumnSet.SCHEMAS: schemas, ColumnSet.MEDIA: total.images + total.clips}
    return (ColumnSet.MONEY, *(each for each, count in more.items() if count))


def columns_of(report: Report, shown: ColumnSet) -> list[Column]:
    """The columns of a set that say something in this report's view."""
    if shown is ColumnSet.LATENCY and report.latencies is None:
        return []
    hidden: tuple[str, ...] = (*_SHARED, "total") if report.house is HouseView.SEPARATE else ()
    hidden += () if report.total.cached_prompt_tokens else ("cached_prompt_tokens",)
    return [column for column in _COLUMNS.get(shown, ()) if column.name not in hidden]


def all_columns(report: Report, sets: Collection[ColumnSet] | None = None) -> list[Column]:
    """Every column that the report has looked up, each once, also those that are 0 in its view; with `sets`, those of
    these alone and the total.
    """
    found = {
        (column.name, column.kind): column
        for each, columns in _COLUMNS.items()
        if each is not ColumnSet.LATENCY or report.latencies is not None
        for column in columns
        if sets is None or each in sets or column.name == "total"
    }
    return list(found.values())


def latency_of(report: Report, line: Line) -> Latency:
    """The distributions of a line; of the sum of all lines where it is that."""
    return (report.latencies or {}).get(() if line is report.total else line.key, Latency())


def usd_text(report: Report, nusd: int) -> str:
    """An amount with as many decimals as a report of this size is read with; CSV and JSON have every digit."""
    usd = abs(report.ledger_nusd) // NUSD_PER_USD
    return format_usd(nusd, 6 if usd < 1 else 4 if usd < 100 else 2)


def text_of(report: Report, column: Column, value: Value) -> str:
    """A value as people read it; "-" where there is none."""
    if value is None:
        return "-"
    match column.kind:
        case Kind.COUNT:
            return f"{value:,}"
        case Kind.AMOUNT:
            return usd_text(report, int(value))
        case Kind.EACH:
            return format_usd(round(value), column.decimals)
        case Kind.SHARE:
            return share_text(value)
        case Kind.SECONDS:
            return f"{value:,.3f}" if value < 10 else f"{value:,.1f}"
        case Kind.SPEED:
            return f"{value:,.1f}"


def share_text(share: float) -> str:
    """Per cent with one decimal, towards 0, so that 100.0% is every one."""
    return f"{int(1000 * share + 1e-9) / 10:.1f}%"
