"""The newest requests of a ledger, page by page, and what its pools did lately: what people look at while they work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from pricing.ledger.place import LedgerPlace
from pricing.ledger.read import reading
from pricing.ledger.reader import Reader
from pricing.ledger.rollups import REQUESTS_BY_HOUR
from pricing.ledger.rows import House, RowKind
from pricing.money import US_PER_HOUR

_COLUMNS: Final = (
    "request_id",
    "at_us",
    "tenant",
    "key_id",
    "endpoint",
    "request_class",
    "coalesce(tier_served, tier_asked)",
    "pool",
    "outcome",
    "status",
    "error_code",
    "stream",
    "duration_us",
    "prompt_tokens",
    "completion_tokens",
)
CLOSE: Final = 2
"""Hours for each that holds some, up to which what lies in between is read too: each hour alone is read to its end."""
_FOREVER: Final = 1 << 62


class Tried(msgspec.Struct, frozen=True):
    """One attempt: `number` starts at 1, `outcome` is `answered`, `cut` or a failure class."""

    number: int
    pool: str
    outcome: str


class Recent(msgspec.Struct, frozen=True):
    """A request as a list shows it: its summary, its attempts in order, and what its tenant paid."""

    request_id: str
    at_us: int
    tenant: str
    key_id: str
    endpoint: str
    request_class: str
    tier: str
    pool: str | None
    outcome: str
    status: int
    error_code: str | None
    stream: bool
    duration_us: int
    prompt_tokens: int | None
    completion_tokens: int | None
    attempts: tuple[Tried, ...] = ()
    charged_nusd: int = 0


class Lately(msgspec.Struct, frozen=True):
    """What one pool did in a window. Nano-dollars of container time by what it was for; first-token time in µs."""

    busy_nusd: int = 0
    boot_nusd: int = 0
    idle_nusd: int = 0
    adjustment_nusd: int = 0
    ttft_p50_us: int | None = None

    @property
    def utilisation(self) -> float | None:
        """Busy ÷ alive container time, by cost: the same as by seconds while the price stays. None: none was alive."""
        alive_nusd = self.busy_nusd + self.boot_nusd + self.idle_nusd + self.adjustment_nusd
        return self.busy_nusd / alive_nusd if alive_nusd > 0 else None


def recent(
    place: LedgerPlace, limit: int, *, tenant: str | None = None, after: str | None = None, moved: bool = False
) -> list[Recent]:
    """The newest requests first; with `tenant` that tenant's own, with `moved` those that took several attempts.

    `after` is the id of the last one of the page before. Raises ValueError where there is no such request to go on
    from (another tenant's is none), StoreUnavailable when the ledger cannot be read.
    """
    with reading(place) as ledger:
        before_us = None if after is None else _instant_of(ledger, after, tenant)
        hours = _hours(ledger, limit, tenant, before_us, moved=moved)
        if not hours:
            return []
        source, within, values = _within(hours)
        conditions = [within]
        if tenant is not None:
            conditions.append("tenant = ?")
            values.append(tenant)
        if moved:
            conditions.append("attempts > 1")
        if after is not None:
            conditions.append("(at_us, request_id) < (?, ?)")
            values += [before_us, after]
        query = (
            f"SELECT {','.join(_COLUMNS)} FROM {source} WHERE {' AND '.join(conditions)} "
            "ORDER BY at_us DESC, request_id DESC LIMIT ?"
        )
        found = ledger.execute(query, [*values, limit]).fetchall()
        return _with_attempts(ledger, found)


def _hours(
    ledger: Reader, limit: int, tenant: str | None, before_us: int | None, *, moved: bool
) -> list[tuple[int, int]]:
    """The newest hours that hold as many requests as are asked for, if there ever were, as begin and end; none where
    there are none.

    Requests are indexed by time alone: an index by tenant as well would cost every request some 12 µs of CPU, as
    measured with 10,000 tenants. Where few requests are meant, the sums by hour say in which hours they are, so that a
    page of a tenant that seldom asks does not read everybody else's month.
    """
    if tenant is None and not moved:
        return [(0, _FOREVER)]
    begun_us = None if before_us is None else before_us // US_PER_HOUR * US_PER_HOUR
    wanted, hour = "fell_back" if moved else "request_count", f"at_us / {US_PER_HOUR} * {US_PER_HOUR}"
    conditions, values = [f"{wanted} > 0"], list[Any]()
    if tenant is not None:
        conditions.append("tenant = ?")
        values.append(tenant)
    if begun_us is not None:
        conditions.append("at_us < ?")
        values.append(begun_us + US_PER_HOUR)
    query = (
        f"SELECT {hour}, sum({wanted}) FROM {REQUESTS_BY_HOUR.table} WHERE {' AND '.join(conditions)} "
        "GROUP BY 1 ORDER BY 1 DESC"
    )
    hours, counted = list[tuple[int, int]](), 0
    for since_us, count in ledger.execute(query, values):
        hours.append((since_us, since_us + US_PER_HOUR))
        # Of the hour that a page begins in, nobody knows how many come after the page before.
        counted += 0 if since_us == begun_us else count
        if counted >= limit:
            break
    return hours


def _within(hours: Sequence[tuple[int, int]]) -> tuple[str, str, list[Any]]:
    """SQL: where to read requests, which of them, and its values. Hours that lie close together are read backwards as
    one, until the page is full; of others, each by itself, what is in between is not read.
    """
    since_us, until_us = hours[-1][0], hours[0][1]
    if len(hours) == 1 or until_us - since_us <= CLOSE * len(hours) * US_PER_HOUR:
        return "requests", "at_us >= ? AND at_us < ?", [since_us, until_us]
    each = ", ".join(["(?, ?)"] * len(hours))
    values = [at_us for hour in hours for at_us in hour]
    return f"(VALUES {each}) AS hours CROSS JOIN requests", "at_us >= column1 AND at_us < column2", values


def _instant_of(ledger: Reader, request_id: str, tenant: str | None) -> int:
    found = ledger.execute("SELECT at_us, tenant FROM requests WHERE request_id = ?", [request_id]).fetchone()
    if found is None or tenant not in (None, found[1]):
        raise ValueError(f"after: no request '{request_id}' of yours is in the ledger; give the last id of a page")
    return int(found[0])


def _with_attempts(ledger: Reader, found: Sequence[Any]) -> list[Recent]:
    ids = [row[0] for row in found]
    tried: dict[str, list[Tried]] = {request_id: [] for request_id in ids}
    paid_nusd: dict[tuple[str, str], int] = {}
    for request_id, number, pool, outcome, kind, account, amount_nusd in _rows_of(ledger, ids):
        if kind == RowKind.ATTEMPT:
            tried[request_id].append(Tried(number, pool, outcome))
        paid_nusd[request_id, account] = paid_nusd.get((request_id, account), 0) + amount_nusd
    return [_recent(row, tried[row[0]], paid_nusd) for row in found]


def _rows_of(ledger: Reader, ids: Sequence[str]) -> Iterable[Any]:
    if not ids:
        return ()
    query = (
        "SELECT request_id, attempt, pool, outcome, kind, account, amount_nusd FROM ledger_rows "
        f"WHERE request_id IN ({','.join('?' * len(ids))}) ORDER BY attempt, seq"
    )
    return ledger.execute(query, ids)


def _recent(row: Sequence[Any], tried: Iterable[Tried], paid_nusd: dict[tuple[str, str], int]) -> Recent:
    summary = Recent(*row)
    charged_nusd = paid_nusd.get((summary.request_id, summary.tenant), 0)
    return msgspec.structs.replace(
        summary, stream=bool(summary.stream), attempts=tuple(tried), charged_nusd=charged_nusd
    )


def pools_lately(place: LedgerPlace, since_us: int, until_us: int) -> dict[str, Lately]:
    """What each pool did from `since_us` to before `until_us`, by name. Raises StoreUnavailable."""
    window = [since_us, until_us]
    with reading(place) as ledger:
        sums = ledger.execute(_SUMS, window).fetchall()
        medians = dict(ledger.execute(_MEDIANS, window).fetchall())
    return {
        pool: Lately(int(busy), int(boot), int(idle), int(adjustment), medians.get(pool))
        for pool, busy, boot, idle, adjustment in sums
    }


def _sum_of(condition: str) -> str:
    return f"sum(CASE WHEN {condition} THEN amount_nusd ELSE 0 END)"


_NO_REQUEST: Final = (House.BOOT, House.IDLE, House.ADJUSTMENT)
_SUMS: Final = (
    f"SELECT pool, {_sum_of('account NOT IN (' + ','.join(repr(str(one)) for one in _NO_REQUEST) + ')')}, "
    f"{', '.join(_sum_of(f'account = {str(one)!r}') for one in _NO_REQUEST)} "
    "FROM ledger_rows WHERE at_us >= ? AND at_us < ? GROUP BY pool"
)
_MEDIANS: Final = (
    "SELECT pool, ttft_us FROM (SELECT pool, ttft_us, row_number() OVER (PARTITION BY pool ORDER BY ttft_us) AS place, "
    "count(*) OVER (PARTITION BY pool) AS places FROM ledger_rows "
    "WHERE at_us >= ? AND at_us < ? AND ttft_us IS NOT NULL) AS ranked WHERE place = (places + 1) / 2"
)
"""The lower median, picked by the database: an hour may hold more first-token times than one wants to carry over."""
