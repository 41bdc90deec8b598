"""Roll-ups of the ledger that add up to it.

Money comes from the rows, counts and tokens from the requests' summaries. A line is what one group of requests cost:
what its tenants were charged, and what the house paid for it (failed attempts, overruns); together that is the group's
busy time. Boot, idle and adjustments were caused by no request and stand in lines of their own. Everything in a window
is in exactly one line, so the lines add up to the ledger to the nano-dollar.

The saving compares busy cost with the baseline: what the tokens of each request, also of one that was cut or broke,
would have been expected to cost on the premium pool of its class. Boot and idle are in neither.

How answers kept to the JSON schemas that were asked for is counted by attempt, so that an answer that broke its schema
counts at the pool that gave it, also when another pool answered after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from pricing.ledger.place import LedgerPlace
from pricing.ledger.read import Reader, Span, reading
from pricing.ledger.rollups import REQUESTS_BY_HOUR, ROWS_BY_HOUR, Rollup
from pricing.ledger.rows import House, SchemaResult
from pricing.yamlfile import nearest

_LAST = "(SELECT {column} FROM ledger_rows a WHERE a.request_id = r.request_id ORDER BY a.attempt DESC, a.seq LIMIT 1)"


@dataclass(frozen=True, slots=True)
class Dimension:
    """A way to group: SQL over a row of money `l` (with its request `r`, if any), and over a request `r`.

    With `span`, both are instants of which that much counts. `rolled_rows` and `rolled_requests` say whether the sums
    by hour know it.
    """

    row: str
    request: str
    span: Span | None = None
    rolled_rows: bool = True
    rolled_requests: bool = True


DIMENSIONS: Final[dict[str, Dimension]] = {
    "tenant": Dimension("l.tenant", "r.tenant"),
    "key": Dimension("l.key_id", "r.key_id"),
    "class": Dimension("l.request_class", "r.request_class"),
    "tier": Dimension("l.tier", "coalesce(nullif(r.tier_served, ''), r.tier_asked)"),
    "pool": Dimension("l.pool", "r.pool"),
    "model": Dimension("l.model", _LAST.format(column="a.model"), rolled_requests=False),
    "gpu": Dimension("l.gpu", _LAST.format(column="a.gpu"), rolled_requests=False),
    "outcome": Dimension("coalesce(r.outcome, 'unfinished')", "r.outcome", rolled_rows=False),
    "policy": Dimension("l.policy_version", "r.policy_version"),
    "hour": Dimension("l.at_us", "r.at_us", "hour"),
    "day": Dimension("l.at_us", "r.at_us", "day"),
    "month": Dimension("l.at_us", "r.at_us", "month"),
}
_NO_REQUEST: Final = (House.BOOT, House.IDLE, House.ADJUSTMENT)
_HOUSE: Final = ",".join(f"'{account}'" for account in House)


@dataclass(frozen=True, slots=True)
class Line:
    """One group. `key` has one value per grouping, "-" where there is none. Money in nano-dollars.

    `house_nusd` is what the house paid for the group's requests; `baseline_nusd` the premium pool's expected charge for
    those served. `images`, `clips` and `video_us`, how long the clips play, are what came. `schema_kept`,
    `schema_broken` and `schema_cut` count answers to requests with a JSON schema.
    """

    key: tuple[str, ...]
    requests: int = 0
    served: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    charged_nusd: int = 0
    house_nusd: int = 0
    baseline_nusd: int = 0
    schema_kept: int = 0
    schema_broken: int = 0
    schema_cut: int = 0
    images: int = 0
    clips: int = 0
    video_us: int = 0

    @property
    def image_nusd(self) -> float | None:
        """Busy cost of one picture; None where there is none, or where the group made other things too."""
        return self.busy_nusd / self.images if self.images and not (self.clips or self.completion_tokens) else None

    @property
    def video_s_nusd(self) -> float | None:
        """Busy cost of one second of video; None as for pictures."""
        alone = self.video_us and not (self.images or self.completion_tokens)
        return self.busy_nusd * 1e6 / self.video_us if alone else None

    @property
    def schema_compliance(self) -> float | None:
        """Share of the answers that could be judged which kept to their schema; None where there was none."""
        judged = self.schema_kept + self.schema_broken
        return self.schema_kept / judged if judged else None

    @property
    def busy_nusd(self) -> int:
        return self.charged_nusd + self.house_nusd

    @property
    def saving_nusd(self) -> int | None:
        """Baseline minus busy cost; None where nothing was served, so that there is nothing to compare."""
        return self.baseline_nusd - self.busy_nusd if self.baseline_nusd else None

    def plus(self, other: Line) -> Line:
        sums = (getattr(self, name) + getattr(other, name) for name in _SUMMED)
        return Line(self.key, *sums)


_MADE: Final = ("images", "clips", "video_us")
_SUMMED: Final = tuple(field.name for field in fields(Line) if field.name != "key")


@dataclass(frozen=True, slots=True)
class HouseLine:
    """Container time that no request caused, by house account and the groupings that apply to it."""

    account: str
    key: tuple[str, ...]
    amount_nusd: int
    duration_us: int


@dataclass(frozen=True, slots=True)
class Report:
    """A window's lines, dearest first, the house's lines, and the sum of the lines."""

    by: tuple[str, ...]
    since_us: int
    until_us: int
    tenant: str | None
    lines: tuple[Line, ...]
    separate: tuple[HouseLine, ...]
    total: Line

    @property
    def ledger_nusd(self) -> int:
        """Everything: equal to the sum of all rows of the window (of one tenant's, if the report is for one)."""
        return self.total.busy_nusd + sum(line.amount_nusd for line in self.separate)

    @property
    def empty(self) -> bool:
        return not self.lines and not self.separate


def check_groupings(by: Sequence[str]) -> tuple[str, ...]:
    """The groupings as asked. Raises ValueError for an unknown or repeated one, with the valid ones."""
    for name in by:
        if name not in DIMENSIONS:
            raise ValueError(
                f"cannot group by '{name}'{nearest(name, DIMENSIONS)} (there are: {', '.join(DIMENSIONS)})"
            )
    if len(set(by)) != len(by):
        raise ValueError(f"the same grouping twice in {','.join(by)}; name each once")
    return tuple(by)


def report(place: LedgerPlace, by: Sequence[str], since_us: int, until_us: int, tenant: str | None = None) -> Report:
    """Roll up what happened from `since_us` to before `until_us`; with `tenant`, that tenant's requests only.

    Raises ValueError for groupings that do not exist, StoreUnavailable when the ledger cannot be read.
    """
    groupings = check_groupings(by)
    with reading(place) as ledger:
        query = _Query(ledger, groupings, since_us, until_us, tenant)
        lines: dict[tuple[str, ...], Line] = {}
        for line in (*query.money(), *query.requests()):
            known = lines.get(line.key)
            lines[line.key] = line if known is None else known.plus(line)
        separate = tuple(query.house()) if tenant is None else ()
    ordered = sorted(lines.values(), key=lambda line: (-line.busy_nusd, line.key))
    total = Line(())
    for line in ordered:
        total = total.plus(line)
    return Report(groupings, since_us, until_us, tenant, tuple(ordered), separate, total)


class _Query:
    """The three questions of a report, over one window.

    A ledger that keeps sums by hour answers from them, unless a grouping asks for more than they know.
    """

    def __init__(self, ledger: Reader, by: tuple[str, ...], since_us: int, until_us: int, tenant: str | None) -> None:
        self._ledger = ledger
        self._dimensions = [DIMENSIONS[name] for name in by]
        self._window: dict[str, Any] = {"since": since_us, "until": until_us, "tenant": tenant}
        self._rolled_rows = ledger.has_rollups and all(each.rolled_rows for each in self._dimensions)
        self._rolled_requests = ledger.has_rollups and all(each.rolled_requests for each in self._dimensions)

    def money(self) -> Iterable[Line]:
        paid_by_house = f"l.account IN ({_HOUSE})"
        sums = [
            f"sum(CASE WHEN {paid_by_house} THEN 0 ELSE l.amount_nusd END)",
            f"sum(CASE WHEN {paid_by_house} THEN l.amount_nusd ELSE 0 END)",
            *(ROWS_BY_HOUR.sum(f"schema_{result}", self._rolled_rows) for result in SchemaResult),
        ]
        where = f"l.account NOT IN ({_words(_NO_REQUEST)})"
        for key, (charged, house, kept, broken, cut) in self._of_rows([], sums, where):
            yield Line(
                key,
                charged_nusd=charged,
                house_nusd=house,
                schema_kept=kept,
                schema_broken=broken,
                schema_cut=cut,
            )

    def requests(self) -> Iterable[Line]:
        count = "r.request_count" if self._rolled_requests else "1"
        sums = [
            f"sum({count})",
            f"sum(CASE WHEN r.outcome = 'served' THEN {count} ELSE 0 END)",
            "coalesce(sum(r.prompt_tokens), 0)",
            "coalesce(sum(r.completion_tokens), 0)",
            "coalesce(sum(r.baseline_nusd), 0)",
            *(f"coalesce(sum(r.{name}), 0)" for name in _MADE),
        ]
        by = [self._grouping(dimension.request, dimension) for dimension in self._dimensions]
        source = self._hours(REQUESTS_BY_HOUR, "r") if self._rolled_requests else "requests r"
        for key, (total, served, prompt, completion, baseline, *made) in self._rows("r", by, sums, source, "1 = 1"):
            came = dict(zip(_MADE, made, strict=True))
            yield Line(key, total, served, prompt, completion, baseline_nusd=baseline, **came)

    def house(self) -> Iterable[HouseLine]:
        sums = ["sum(l.amount_nusd)", "sum(l.duration_us)"]
        where = f"l.account IN ({_words(_NO_REQUEST)})"
        for key, (amount, duration) in self._of_rows(["l.account"], sums, where):
            yield HouseLine(key[0], key[1:], amount, duration)

    def _of_rows(
        self, first: Sequence[str], sums: Sequence[str], where: str
    ) -> Iterable[tuple[tuple[str, ...], tuple[int, ...]]]:
        by = [*first, *(self._grouping(dimension.row, dimension) for dimension in self._dimensions)]
        source = "ledger_rows l LEFT JOIN requests r ON r.request_id = l.request_id"
        return self._rows("l", by, sums, self._hours(ROWS_BY_HOUR, "l") if self._rolled_rows else source, where)

    def _grouping(self, expression: str, dimension: Dimension) -> str:
        return self._ledger.utc_text(expression, dimension.span) if dimension.span else expression

    def _hours(self, rollup: Rollup, alias: str) -> str:
        return f"({rollup.between(self._window['since'], self._window['until'])}) AS {alias}"

    def _rows(
        self, table: str, by: Sequence[str], sums: Sequence[str], source: str, where: str
    ) -> Iterable[tuple[tuple[str, ...], tuple[int, ...]]]:
        keys = [f"coalesce(nullif({expression}, ''), '-')" for expression in by]
        mine = f"AND {table}.tenant = :tenant" if self._window["tenant"] is not None else ""
        group = ",".join(str(index + 1) for index in range(len(keys))) or "(SELECT 1)"
        query = (
            f"SELECT {','.join([*keys, *sums])} FROM {source} "
            f"WHERE {where} AND {table}.at_us >= :since AND {table}.at_us < :until {mine} GROUP BY {group}"
        )
        for values in self._ledger.execute(query, self._window):
            yield tuple(values[: len(keys)]), tuple(values[len(keys) :])


def _words(accounts: Iterable[str]) -> str:
    return ",".join(f"'{account}'" for account in accounts)
