"""The questions that a report asks a ledger: each is one statement over the sums by hour, and the ends of the window
from the rows themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from zoneinfo import ZoneInfo

from pricing.ledger.reader import Reader
from pricing.ledger.rollups import (
    LATENCIES,
    LATENCIES_OF_ALL,
    REQUESTS_BY_HOUR,
    ROWS_BY_HOUR,
    Rollup,
    Within,
    between,
    window,
)
from pricing.ledger.rows import Evidence, House, RowKind, SchemaResult
from pricing.reports.dimensions import DIMENSIONS, NONE, Dimension
from pricing.reports.lines import CONTAINER_ACCOUNTS, HouseLine, Line
from pricing.reports.zones import UTC_ZONE, LocalTime

Key = tuple[str, ...]
_CONTAINERS: Final = ",".join(f"'{account}'" for account in CONTAINER_ACCOUNTS)
_HOUSE: Final = f"account IN ({','.join(repr(str(account)) for account in House)})"
TIMED_ROWS_AT_MOST: Final = 500_000
"""Of requests, and of money, that latencies are read from one by one: some seconds on either database."""
_UNTIMED: Final = {
    "requests": {
        "tier": "tier_asked",
        "tags": "coalesce(tags, '')",
        "policy_version": "policy_version",
        "request_outcome": "outcome",
    },
    "ledger_rows": {
        name: ROWS_BY_HOUR.dimensions[name] for name in ("tier", "tags", "policy_version", "request_outcome")
    },
}
"""The columns that sums of latencies lack or have otherwise, in SQL over one row."""
_ONE_POLICY: Final = "CASE WHEN min(policy_version) = max(policy_version) THEN min(policy_version) END"
_ATTEMPT: Final = f"kind = '{RowKind.ATTEMPT}'"
_FAILED: Final = f"{_ATTEMPT} AND outcome <> 'answered'"


def _sum(amount: str, *conditions: str) -> str:
    """SQL: the sum of a column where all conditions hold."""
    if not conditions:
        return f"coalesce(sum({amount}), 0)"
    return f"coalesce(sum(CASE WHEN {' AND '.join(conditions)} THEN {amount} ELSE 0 END), 0)"


_OBSERVED: Final = _sum("amount_nusd", f"evidence = '{Evidence.OBSERVED}'")
_MONEY: Final = {
    "charged_nusd": _sum("amount_nusd", f"NOT {_HOUSE}"),
    "house_nusd": _sum("amount_nusd", _HOUSE),
    "overrun_nusd": _sum("amount_nusd", f"account = '{House.OVERRUN}'"),
    "attempts": _sum("row_count", _ATTEMPT),
    "failed": _sum("row_count", _FAILED),
    "failed_charged_nusd": _sum("amount_nusd", _FAILED, f"NOT {_HOUSE}"),
    "failed_house_nusd": _sum("amount_nusd", _FAILED, _HOUSE),
    "estimated_nusd": _sum("estimated_nusd"),
    "observed_nusd": _OBSERVED,
    **{f"schema_{result}": _sum(f"schema_{result}") for result in SchemaResult},
}
_REQUESTS: Final = {
    "requests": _sum("request_count"),
    "served": _sum("request_count", "outcome = 'served'"),
    **{
        name: _sum(name)
        for name in (
            "prompt_tokens",
            "cached_prompt_tokens",
            "completion_tokens",
            "baseline_nusd",
            "fell_back",
            "continued",
            "images",
            "clips",
            "video_us",
        )
    },
}


@dataclass(frozen=True, slots=True)
class Window:
    """Instants in microseconds, the zone whose hours and days count, and whose rows alone are asked for."""

    since_us: int
    until_us: int
    zone: ZoneInfo
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What one group asked of one class, and the policy version that all of it came under; None: there were several."""

    key: Key
    request_class: str
    line: Line
    policy: str | None


class Query:
    """One window of a ledger that is being read."""

    def __init__(self, ledger: Reader, window: Window) -> None:
        self._ledger = ledger
        self._window = window
        self._local = LocalTime(window.zone, window.since_us, window.until_us)

    def money(self, by: Sequence[str]) -> Iterator[Line]:
        """What requests cost: a line per group, with the figures that come from rows of money."""
        for key, values in self._of_rows(by, _MONEY.values(), f"account NOT IN ({_CONTAINERS})"):
            yield Line(key, **dict(zip(_MONEY, values, strict=True)))

    def requests(self, by: Sequence[str]) -> Iterator[Asked]:
        """What was asked and answered, by group and class, with the figures that come from summaries."""
        dimensions = [DIMENSIONS[name] for name in by]
        columns = [*(self._column(each.request, each) for each in dimensions), "request_class"]
        source = self._source([REQUESTS_BY_HOUR], by)
        for found, values in self._grouped(columns, (), (*_REQUESTS.values(), _ONE_POLICY), source, "1 = 1"):
            key = self._labelled(dimensions, found)
            *sums, policy = values
            yield Asked(key, found[-1], Line(key, **dict(zip(_REQUESTS, sums, strict=True))), policy)

    def baselines(self, asked: Iterable[Asked]) -> dict[tuple[str, str], int]:
        """Nano-dollars of recorded baselines by policy version and class; `asked` is what `requests` found.

        Where no group of it came under several versions, nothing more is read.
        """
        compared = [each for each in asked if each.line.baseline_nusd]
        if any(each.policy is None for each in compared):
            by, source = ("policy_version", "request_class"), self._source([REQUESTS_BY_HOUR], ())
            sums = self._grouped(by, (), [_sum("baseline_nusd")], source, "1 = 1")
            return {(version, name): nusd for (version, name), (nusd,) in sums if nusd}
        found: dict[tuple[str, str], int] = {}
        for each in compared:
            came = each.policy or NONE, each.request_class
            found[came] = found.get(came, 0) + each.line.baseline_nusd
        return found

    def containers(self, by: Sequence[str]) -> Iterator[HouseLine]:
        """Container time that no request caused, by account and group."""
        sums = (_sum("amount_nusd"), _sum("duration_us"), _OBSERVED)
        for key, values in self._of_rows(by, sums, f"account IN ({_CONTAINERS})", "account"):
            yield HouseLine(key[-1], key[:-1], *values)

    def failures(self, by: Sequence[str]) -> Iterator[tuple[Key, str, tuple[int, int, int]]]:
        """Attempts that did not answer: (group, failure class, (how many, tenants paid, the house paid))."""
        sums = (_sum("row_count"), _sum("amount_nusd", f"NOT {_HOUSE}"), _sum("amount_nusd", _HOUSE))
        for key, values in self._of_rows(by, sums, _FAILED, "outcome"):
            yield key[:-1], key[-1], (values[0], values[1], values[2])

    def pools(self) -> Iterator[tuple[str, str, tuple[int, int, int]]]:
        """(pool, account or "" for requests, (nano-dollars, container microseconds, boots)) of each pool."""
        account = f"CASE WHEN account IN ({_CONTAINERS}) THEN account ELSE '' END"
        sums = (_sum("amount_nusd"), _sum("duration_us"), _sum("boots"))
        for (pool, kind), values in self._of_rows(("pool",), sums, "1 = 1", account):
            yield pool, "" if kind == NONE else kind, (values[0], values[1], values[2])

    def books(self, by: Sequence[str]) -> Iterator[tuple[Key, str]]:
        """The price books that rows of each group were priced by."""
        for key, _ in self._of_rows(by, (_sum("row_count"),), "price_books <> ''", "price_books"):
            yield key[:-1], key[-1]

    def latencies(self, by: Sequence[str]) -> Iterator[tuple[Key, str, int, int]]:
        """(group, what was timed, bucket, how many) as `pricing.ledger.latencies` counts them.

        By what its sums by hour lack, from the rows. Raises ValueError where those are too many.
        """
        dimensions = [DIMENSIONS[name] for name in by]
        columns = [self._column(each.row, each) for each in dimensions]
        if all(each.timed for each in dimensions):
            if self._window.tenant is not None:
                source = self._source(LATENCIES, by, self._of_one)
            else:
                source = self._source(LATENCIES if {"tenant", "key"} & set(by) else LATENCIES_OF_ALL, by)
        else:
            source = self._timed_rows(by)
        for key, values in self._grouped([*columns, "what"], ["bucket"], ["sum(count)"], source, "1 = 1"):
            yield self._labelled(dimensions, key), key[-1], values[0], values[1]

    def _timed_rows(self, by: Sequence[str]) -> str:
        """SQL: what was timed, row by row, with all that a report groups by. Raises ValueError for too many rows."""
        ends = self._ends()
        for table in ("requests", "ledger_rows"):
            some = f"SELECT 1 FROM {table} WHERE {' AND '.join(ends)} LIMIT {TIMED_ROWS_AT_MOST + 1}"
            [found] = self._ledger.execute(f"SELECT count(*) FROM ({some}) AS counted").fetchone()
            if found > TIMED_ROWS_AT_MOST:
                kept = ", ".join(name for name, each in DIMENSIONS.items() if each.timed)
                raise ValueError(
                    f"latencies by {' and '.join(name for name in by if not DIMENSIONS[name].timed)} are read row by "
                    f"row, and this window has more than {TIMED_ROWS_AT_MOST:,} rows; ask for a shorter one, leave "
                    f"latency out, or group by: {kept}"
                )
        asked = [DIMENSIONS[name].row for name in by if not DIMENSIONS[name].timed]
        more = {source: {name: columns[name] for name in asked} for source, columns in _UNTIMED.items()}
        parts = (replace(each, dimensions={**each.dimensions, **more[each.source]}) for each in LATENCIES)
        return " UNION ALL ".join(each.of_rows(each.source, *ends) for each in parts)

    # -- one statement ---------------------------------------------------------------------------------------------

    def _of_rows(
        self, by: Sequence[str], sums: Iterable[str], where: str, *more: str
    ) -> Iterator[tuple[Key, tuple[int, ...]]]:
        dimensions = [DIMENSIONS[name] for name in by]
        columns = [*(self._column(each.row, each) for each in dimensions), *more]
        for key, values in self._grouped(columns, (), sums, self._source([ROWS_BY_HOUR], by), where):
            yield self._labelled(dimensions, key) + key[len(dimensions) :], values

    def _column(self, column: str, dimension: Dimension) -> str:
        return self._local.sql(self._ledger, column, dimension.span) if dimension.span else column

    def _labelled(self, dimensions: Sequence[Dimension], key: Key) -> Key:
        return tuple(
            self._local.label(text, each.span) if each.span else each.label(text)
            for each, text in zip(dimensions, key, strict=False)
        )

    def _of_one(self, since_us: int, until_us: int) -> tuple[str, str]:
        """SQL: which sums by hour are of the tenant that is asked for."""
        return "tenant = :tenant", self._ledger.in_hours(since_us, until_us)

    def _source(self, rollups: Sequence[Rollup], by: Sequence[str], within: Within = window) -> str:
        """Where whole hours of UTC do not make up the spans of a zone, every row is read."""
        since_us, until_us = self._window.since_us, self._window.until_us
        spans = {DIMENSIONS[name].span for name in by} - {None}
        if self._local.whole_hours or not spans:
            days = not spans or (self._local.zone is UTC_ZONE and "hour" not in spans)
            return between(rollups, since_us, until_us, days=days, within=within)
        return " UNION ALL ".join(each.of_rows(each.source, *self._ends()) for each in rollups)

    def _ends(self) -> tuple[str, str]:
        return f"at_us >= {self._window.since_us}", f"at_us < {self._window.until_us}"

    def _grouped(
        self, texts: Sequence[str], numbers: Sequence[str], sums: Iterable[str], source: str, where: str
    ) -> Iterator[tuple[Key, tuple[Any, ...]]]:
        """(group, numbers and sums); a text that is missing is "-"."""
        keys = [*(f"coalesce(nullif({text}, ''), '{NONE}')" for text in texts), *numbers]
        group = ",".join(str(index + 1) for index in range(len(keys))) or "(SELECT 1)"
        mine = "" if self._window.tenant is None else "AND tenant = :tenant"
        statement = f"SELECT {','.join([*keys, *sums])} FROM ({source}) AS each WHERE {where} {mine} GROUP BY {group}"
        values: dict[str, Any] = {"tenant": self._window.tenant}
        for found in self._ledger.execute(statement, values):
            yield tuple(found[: len(texts)]), tuple(found[len(texts) :])
