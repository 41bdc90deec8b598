"""Roll-ups of the ledger that add up to it.

Money comes from the rows, counts and tokens from the requests' summaries. A line is what one group of requests cost:
what its tenants were charged, and what the house paid for it (failed attempts, overruns); together that is the group's
busy time. Boot, idle and adjustments were caused by no request: they stand in lines of their own, or are shared over
the lines of those who used the pool (`pricing.reports.share`). In each of these views everything in a window is in
exactly one line, so the lines add up to the ledger to the nano-dollar.

The saving is on busy time: it compares busy cost with a stated baseline (`pricing.reports.baseline`). Boot and idle are
in neither side, so that whoever shows a saving shows `Report.containers_nusd` beside it.

How answers kept to the JSON schemas that were asked for is counted by attempt, so that an answer that broke its schema
counts at the pool that gave it, also when another pool answered after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import reduce
from typing import Final
from zoneinfo import ZoneInfo

from pricing.ledger.place import LedgerPlace
from pricing.ledger.policy_history import premium_pools
from pricing.ledger.read import reading
from pricing.ledger.reader import Reader
from pricing.reports.baseline import AS_RECORDED, Baseline, Needed, NotKnown, all_on, as_recorded
from pricing.reports.dimensions import DIMENSIONS, check_groupings
from pricing.reports.figures import Failure, Latency, PoolUse, failures_of, latencies_of, pool_uses
from pricing.reports.lines import HouseLine, Line
from pricing.reports.query import Asked, Key, Query, Window
from pricing.reports.share import Containers, HouseView, Use, share
from pricing.reports.zones import UTC_ZONE, in_time

_ORDER: Final = tuple(DIMENSIONS)


class Part(StrEnum):
    """What is looked up only where it is asked for."""

    LATENCY = "latency"
    FAILURES = "failures"
    UTILISATION = "utilisation"
    BOOKS = "books"


@dataclass(frozen=True, slots=True)
class Report:
    """A window's lines, the container time that stands apart in this view, and the sum of the lines.

    Lines are in the order of time where they are grouped by it, else the dearest first. `pools`, `failures`,
    `latencies` and `books` are None where they were not asked for; latencies and books of all lines are under the key
    (). `needed` is what the baseline would have needed, by pool; `not_known` is what of a recorded baseline nobody
    knows that of, by policy version. Together they are the baseline.
    """

    by: tuple[str, ...]
    since_us: int
    until_us: int
    tenant: str | None
    lines: tuple[Line, ...]
    separate: tuple[HouseLine, ...]
    total: Line
    house: HouseView = HouseView.SEPARATE
    zone: ZoneInfo = UTC_ZONE
    baseline: str = AS_RECORDED.title
    needed: tuple[Needed, ...] = ()
    pools: tuple[PoolUse, ...] | None = None
    failures: tuple[Failure, ...] | None = None
    latencies: Mapping[Key, Latency] | None = field(default=None, hash=False)
    books: Mapping[Key, tuple[str, ...]] | None = field(default=None, hash=False)
    not_known: tuple[NotKnown, ...] = ()

    @property
    def ledger_nusd(self) -> int:
        """Everything: equal to the sum of all rows of the window.

        Of a report for one tenant: of the rows that it asked for, and of what the view shares to them.
        """
        return self.total.total_nusd + sum(line.amount_nusd for line in self.separate)

    @property
    def containers_nusd(self) -> int:
        """Boot, idle and adjustments, wherever this view puts them; a saving leaves them out on both sides."""
        return self.ledger_nusd - self.total.busy_nusd

    @property
    def empty(self) -> bool:
        return not self.lines and not self.separate


def report(
    place: LedgerPlace,
    by: Sequence[str],
    since_us: int,
    until_us: int,
    tenant: str | None = None,
    *,
    house: HouseView | str = HouseView.SEPARATE,
    zone: ZoneInfo = UTC_ZONE,
    parts: Collection[Part] = (),
    baseline: Baseline = AS_RECORDED,
) -> Report:
    """Roll up what happened from `since_us` to before `until_us`; with `tenant`, that tenant's requests only.

    Raises ValueError for groupings and views that do not exist, and for latencies that would be read from too many
    rows; StoreUnavailable when the ledger cannot be read.
    """
    groupings, view = check_groupings(by), check_view(house)
    with reading(place) as ledger:
        query = Query(ledger, Window(since_us, until_us, zone, tenant))
        if tenant is None or view is HouseView.SEPARATE:
            lines, separate = _spent(query, groupings, view)
        else:
            lines, separate = _spent_by(tenant, Query(ledger, Window(since_us, until_us, zone)), groupings, view)
        asked = list(query.requests(groupings))
        for each in asked:
            _add(lines, each.key, each.line)
        not_known: tuple[NotKnown, ...] = ()
        if baseline.pool is None:
            needed, not_known = _recorded(ledger, query, baseline, asked)
        else:
            lines, needed = all_on(baseline.pool, asked, lines)
        return Report(
            groupings,
            since_us,
            until_us,
            tenant,
            _ordered(groupings, lines.values()),
            separate if tenant is None else (),
            reduce(Line.plus, lines.values(), Line(())),
            view,
            zone,
            baseline.title,
            needed,
            pool_uses(query, until_us - since_us) if Part.UTILISATION in parts and tenant is None else None,
            failures_of(query, groupings) if Part.FAILURES in parts else None,
            latencies_of(query, groupings) if Part.LATENCY in parts else None,
            _books(query, groupings) if Part.BOOKS in parts else None,
            not_known,
        )


def check_view(house: str) -> HouseView:
    """Raises ValueError for a view of boot and idle that does not exist, with the valid ones."""
    if house not in list(HouseView):
        raise ValueError(f"'{house}' is not a view of boot and idle; there are: {', '.join(HouseView)}")
    return HouseView(house)


def _recorded(
    ledger: Reader, query: Query, baseline: Baseline, asked: Sequence[Asked]
) -> tuple[tuple[Needed, ...], tuple[NotKnown, ...]]:
    """What the recorded baselines would have needed, each by the policy that its requests came under."""
    nusd = query.baselines(asked)
    return as_recorded(nusd, {**baseline.stated, **premium_pools(ledger, {version for version, _ in nusd})})


def _spent(query: Query, by: Sequence[str], view: HouseView) -> tuple[dict[Key, Line], tuple[HouseLine, ...]]:
    """Every group's money, and the container time that stands apart."""
    grouped = by if view is HouseView.SEPARATE or "pool" in by else (*by, "pool")
    spent = list(query.money(grouped))
    lines: dict[Key, Line] = {}
    for line in spent:
        _add(lines, line.key[: len(by)], line)
    shared, apart = share(*_places(query, grouped, len(by), spent), view)
    for part in shared:
        lines[part.key] = lines[part.key].with_share(part.account, part.amount_nusd, part.observed_nusd)
    return lines, _merged(apart)


def _spent_by(
    tenant: str, everyone: Query, by: Sequence[str], view: HouseView
) -> tuple[dict[Key, Line], tuple[HouseLine, ...]]:
    """One tenant's money, with its share of container time, which depends on what others used."""
    grouped = by if "tenant" in by else (*by, "tenant")
    whose = grouped.index("tenant")
    lines: dict[Key, Line] = {}
    for key, line in _spent(everyone, grouped, view)[0].items():
        if key[whose] == tenant:
            _add(lines, key[: len(by)], line)
    return lines, ()


def _places(
    query: Query, grouped: Sequence[str], size: int, spent: Iterable[Line]
) -> tuple[list[Containers], list[Use]]:
    """Container time and who used its place: the pool, and what else of the groupings container rows have.

    The first `size` groupings are those of the report.
    """
    where = [index for index, name in enumerate(grouped) if DIMENSIONS[name].of_containers]
    names = sorted(range(size), key=lambda index: _ORDER.index(grouped[index]))

    def place(key: Key) -> Key:
        return tuple(key[index] for index in where)

    containers = [Containers(replace(line, key=line.key[:size]), place(line.key)) for line in query.containers(grouped)]
    return containers, [
        Use(line.key[:size], place(line.key), line.busy_nusd, line.attempts, tuple(line.key[index] for index in names))
        for line in spent
    ]


def _add(lines: dict[Key, Line], key: Key, line: Line) -> None:
    known = lines.get(key)
    lines[key] = replace(line, key=key) if known is None else known.plus(line)


def _merged(apart: Iterable[HouseLine]) -> tuple[HouseLine, ...]:
    """One line for each account and group."""
    found: dict[tuple[str, Key], HouseLine] = {}
    for line in apart:
        before = found.get((line.account, line.key), HouseLine(line.account, line.key, 0, 0))
        found[line.account, line.key] = HouseLine(
            line.account,
            line.key,
            before.amount_nusd + line.amount_nusd,
            before.duration_us + line.duration_us,
            before.observed_nusd + line.observed_nusd,
        )
    return tuple(sorted(found.values(), key=lambda line: (line.account, line.key)))


def _ordered(by: Sequence[str], lines: Iterable[Line]) -> tuple[Line, ...]:
    times = [index for index, name in enumerate(by) if DIMENSIONS[name].span]

    def place(line: Line) -> tuple[list[str], int, Key]:
        return [in_time(line.key[index]) for index in times], -line.total_nusd, line.key

    return tuple(sorted(lines, key=place))


def _books(query: Query, by: Sequence[str]) -> dict[Key, tuple[str, ...]]:
    found: dict[Key, set[str]] = {(): set()}
    for key, book in query.books(by):
        for group in (key, ()):
            found.setdefault(group, set()).add(book)
    return {key: tuple(sorted(books)) for key, books in found.items()}
