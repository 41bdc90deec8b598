"""Reports of three windows as tables of spend by tenant, class and pool, each adding up to the same total."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pricing.ledger.rows import House
from router.dashboard.words import decimals, nusd_of

BY: Final = ("tenant", "class", "pool")
HOUSE: Final = "Failed attempts and overruns"
CONTAINERS: Final = "Boot and idle"
ADJUSTMENTS: Final = "Adjustments"
ROWS_AT_MOST: Final = 25
_NOTES: Final = {
    "tenant": "What tenants were charged; what no tenant pays stands in lines of its own.",
    "class": "What a class's requests cost, failed attempts that the house pays included.",
    "pool": "All container time of a pool: busy, boot and idle, as adjusted since.",
}


@dataclass(frozen=True, slots=True)
class Cap:
    """A cap as it stands. Shares are of its amount, None where it is unlimited."""

    name: str
    scope: str
    window: str
    amount_usd: float | None
    spent_usd: float
    held_usd: float
    left_usd: float | None
    resets_at: float | None
    status: str  # exhausted, lowering, warned or "within"

    @property
    def used(self) -> float | None:
        """Spent ÷ amount; a cap of nothing is used up."""
        if self.amount_usd is None:
            return None
        return self.spent_usd / self.amount_usd if self.amount_usd else 1.0


@dataclass(slots=True)
class Row:
    """Nano-dollars of one name in each window. `of_house`: no tenant, class or pool, but what none of them caused."""

    name: str
    hour_nusd: int = 0
    day_nusd: int = 0
    month_nusd: int = 0
    cap: Cap | None = None
    of_house: bool = False

    @property
    def amounts(self) -> tuple[int, int, int]:
        return self.hour_nusd, self.day_nusd, self.month_nusd


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, dearest first, and their sum."""

    by: str
    note: str
    rows: tuple[Row, ...]
    total: Row
    places: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", decimals(self.total.amounts))


def caps_of(budgets: Mapping[str, Any]) -> list[Cap]:
    """The caps of `/budgets`, the fullest first."""
    caps = [_cap(one) for one in budgets["data"]]
    return sorted(caps, key=lambda cap: (-(cap.used or 0.0), cap.scope, cap.name))


def _cap(one: Mapping[str, Any]) -> Cap:
    unlimited = one["amount_usd"] == "unlimited"
    left = None if unlimited else one["left_usd"]
    status = "lowering" if one["lowering_tier"] else "warned" if one["warned"] else "within"
    return Cap(
        name=one["cap"],
        scope=one["scope"],
        window=one["window"],
        amount_usd=None if unlimited else one["amount_usd"],
        spent_usd=one["spent_usd"],
        held_usd=one["held_usd"],
        left_usd=left,
        resets_at=one["resets_at"],
        status="exhausted" if left is not None and left <= 0 else status,
    )


def tables_of(reports: Sequence[Mapping[str, Any]], caps: Iterable[Cap], *, everything: bool) -> list[Table]:
    """By each of `BY`. `reports` are those of the hour, the day and the month, grouped by all of `BY`.

    `everything`: an admin's, who sees what the house pays; else what one tenant was charged.
    """
    tightest: dict[str, Cap] = {}
    for cap in caps:
        tightest.setdefault(cap.scope, cap)
    return [_table(by, reports, tightest, everything=everything) for by in BY]


def _table(by: str, reports: Sequence[Mapping[str, Any]], tightest: Mapping[str, Cap], *, everything: bool) -> Table:
    rows: dict[tuple[str, bool], Row] = {}  # a tenant may be called what a line of the house is called
    for window, report in zip(("hour_nusd", "day_nusd", "month_nusd"), reports, strict=True):
        for name, amount_nusd, of_house in _amounts(by, report, everything=everything):
            row = rows.setdefault((name, of_house), Row(name, cap=tightest.get(f"{by}:{name}"), of_house=of_house))
            setattr(row, window, getattr(row, window) + amount_nusd)
    shown = [row for row in rows.values() if any(row.amounts)]
    total = Row("Total", *(sum(amounts) for amounts in zip(*(row.amounts for row in shown), strict=True)))
    ordered = _shortened(sorted(shown, key=lambda row: (row.of_house, -row.month_nusd, row.name)))
    note = _NOTES[by] if everything else "What you were charged."
    return Table(by, note, tuple(ordered), total)


def _shortened(rows: list[Row]) -> list[Row]:
    """The dearest, those below them as one, and the house's: a page for people, whatever the number of tenants."""
    named = [row for row in rows if not row.of_house]
    if len(named) <= ROWS_AT_MOST:
        return rows
    kept, rest = named[: ROWS_AT_MOST - 1], named[ROWS_AT_MOST - 1 :]
    others = Row(
        f"{len(rest):,} others", *(sum(amounts) for amounts in zip(*(row.amounts for row in rest), strict=True))
    )
    return [*kept, others, *(row for row in rows if row.of_house)]


def _amounts(by: str, report: Mapping[str, Any], *, everything: bool) -> Iterable[tuple[str, int, bool]]:
    """(name, nano-dollars, whether it is the house's) of everything in one report, each amount once."""
    for line in report["lines"]:
        if not everything:
            yield line[by], line["charged_nusd"], False
        elif by == "tenant":
            yield line[by], line["charged_nusd"], False
            yield HOUSE, line["house_nusd"], True
        else:
            yield line[by], line["busy_nusd"], False
    for line in report["separate"] if everything else ():
        if by == "pool":
            yield line["pool"], line["amount_nusd"], False
        else:
            yield ADJUSTMENTS if line["account"] == House.ADJUSTMENT else CONTAINERS, line["amount_nusd"], True


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars by hour. `names` are the series from the bottom up, `values` theirs, one for each of `hours` (seconds)."""

    id: str
    title: str
    unit: str
    hours: tuple[int, ...]
    names: tuple[str, ...]
    colours: tuple[int, ...]  # of the series, by their numbers in the style sheet: each thing keeps its own
    values: tuple[tuple[float, ...], ...]

    @property
    def totals(self) -> tuple[float, ...]:
        return tuple(sum(each) for each in zip(*self.values, strict=True)) if self.values else ()

    @property
    def empty(self) -> bool:
        return not any(any(each) for each in self.values)

    @property
    def document(self) -> dict[str, Any]:
        """What the page's script draws."""
        shown = ("id", "unit", "hours", "names", "colours", "values")
        return {name: getattr(self, name) for name in shown}


_CHARGED: Final = "gpu.busy"  # the line item that tenants pay
_ITEMS: Final[Mapping[str, tuple[str, int]]] = {
    "gpu.busy": ("Answers", 1),
    "gpu.failed": ("Failed attempts", 2),
    "gpu.overrun": ("Overruns", 7),
    "gpu.boot": ("Boot", 3),
    "gpu.idle": ("Idle", 4),
    "gpu.adjustment": ("Adjustments", 5),
}
_ANOTHER: Final = 6  # colour of an item that these are not


def spend_chart(page: Mapping[str, Any], *, everything: bool) -> Chart:
    """`/v1/costs` by hour and line item; `everything`: what the house carries too, as in the tables."""
    found: dict[str, dict[int, int]] = {}
    for bucket in page["data"]:
        for one in bucket["results"]:
            if everything or one["line_item"] == _CHARGED:
                found.setdefault(one["line_item"], {})[bucket["start_time"]] = nusd_of(one["amount"]["value"])
    hours = tuple(bucket["start_time"] for bucket in page["data"])
    items = sorted(found, key=lambda item: (list(_ITEMS).index(item) if item in _ITEMS else len(_ITEMS), item))
    values = tuple(tuple(found[item].get(hour, 0) / 1e9 for hour in hours) for item in items)
    names = tuple(_ITEMS[item][0] if item in _ITEMS else item for item in items)
    colours = tuple(_ITEMS[item][1] if item in _ITEMS else _ANOTHER for item in items)
    return Chart("spend", "Spend by hour", "usd", hours, names, colours, values)


def requests_chart(page: Mapping[str, Any]) -> Chart:
    """`/v1/usage` by hour."""
    hours = tuple(bucket["start_time"] for bucket in page["data"])
    values = tuple(float(sum(one["num_model_requests"] for one in bucket["results"])) for bucket in page["data"])
    return Chart("requests", "Requests by hour", "count", hours, ("Requests",), (1,), (values,))
