"""Holds what caps' windows say was spent against the rows of money that count in them.

All of a request counts in the 15 minutes of its first hold, which no row names: it lies between the request's arrival,
as its summary says, and the dispatch of its first attempt. Rows of which that leaves open whether they count, because a
window begins in between, make the sum of the rows a range: mostly a few requests, or none. So do rows whose request has
no summary, since nobody knows when it came, nor by which endpoint.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pricing.budgets.caps import Cap, ScopeKind
from pricing.budgets.windows import BUCKET_US, Span
from pricing.clock import US_PER_S
from pricing.ledger.checks import HOUSE, usd
from pricing.ledger.codec import tags_from
from pricing.ledger.reader import Reader
from pricing.ledger.rows import WITHOUT_STORE, RowKind
from pricing.reports.spans import instant_text

APART_US: Final = 60 * US_PER_S  # by which the clocks of replicas and of a store may differ, or have been set
UNSEEN_US: Final = 3 * 3_600 * US_PER_S
"""How long before its row a request without a summary may have come: much longer than the default of `max_total_s`."""


@dataclass(frozen=True, slots=True)
class WindowSeen:
    """A cap's window as budgets have it now: nano-dollars spent in the buckets of `span`."""

    cap: Cap
    span: Span
    spent_nusd: int


@dataclass(frozen=True, slots=True)
class _When:
    """The first and last bucket in which money may count; `certain` False: perhaps in none yet."""

    earliest: int
    latest: int
    certain: bool


_Spent = dict[str, Counter[_When]]


def windows_match_rows(ledger: Reader, seen: Sequence[WindowSeen], certain: str = "1 = 1") -> Iterator[str]:
    """Caps whose window does not say what its rows come to. `certain` is SQL over a row `l`, true of those that
    budgets had when the windows were read; of the others, nobody knows.
    """
    if not seen:
        return
    spent = _spent_by_rows(ledger, seen, certain)
    for window in seen:
        least, most = _sums(spent[str(window.cap.scope)], window.span)
        if not least <= window.spent_nusd <= most:
            rows = usd(least) if least == most else f"{usd(least)} to {usd(most)}"
            since = instant_text(window.span.first * BUCKET_US)
            yield (
                f"cap {window.cap.label}: since {since} its ledger rows are {rows}, "
                f"its window of {window.cap.window.text} says {usd(window.spent_nusd)}"
            )


def _sums(spent: Counter[_When], span: Span) -> tuple[int, int]:
    """What counts in a span for sure, and at most."""
    least = most = 0
    for when, nusd in spent.items():
        if when.latest >= span.first and when.earliest < span.end:
            most += nusd
            sure = when.certain and when.earliest >= span.first and when.latest < span.end
            least += nusd if sure else 0
    return least, most


def _spent_by_rows(ledger: Reader, seen: Iterable[WindowSeen], certain: str) -> _Spent:
    """By the scopes of these windows."""
    wanted = {str(window.cap.scope) for window in seen}
    since_us = min(window.span.first for window in seen) * BUCKET_US - APART_US
    spent: _Spent = defaultdict(Counter)
    endpoints = {scope for scope in wanted if scope.startswith(f"{ScopeKind.ENDPOINT}:")}
    for *names, earliest, latest, sure, nusd in ledger.execute(_ROWS.format(certain=certain), [since_us]):
        when = _When(min(earliest, latest), latest, bool(sure))
        known, endpoint_known = _scopes(*names)
        for scope in wanted & known:
            spent[scope][when] += int(nusd)
        if not endpoint_known:
            for scope in endpoints - known:
                spent[scope][replace(when, certain=False)] += int(nusd)
    return spent


def _scopes(
    kind: str, tenant: str, key: Any, request_class: Any, tags: str, pool: str, endpoint: Any
) -> tuple[set[str], bool]:
    """Every scope that a row counts in, and whether its endpoint is known, which only the request's summary says.

    Boot and idle time count on their pool, which can be capped as an endpoint too.
    """
    named = {f"pool:{pool}", f"endpoint:{pool}"}
    if kind in _CONTAINER_KINDS:
        return named, True
    by_kind = {"tenant": tenant, "key": key, "class": request_class, "endpoint": endpoint}
    named |= {f"{name}:{value}" for name, value in by_kind.items() if value}
    return named | {f"tag:{tag}" for tag in tags_from(tags) if tag != WITHOUT_STORE}, endpoint is not None


_CONTAINER_KINDS: Final = (RowKind.BOOT, RowKind.IDLE)
_OF_CONTAINERS: Final = ",".join(f"'{kind}'" for kind in _CONTAINER_KINDS)
_EARLIEST: Final = f"CASE WHEN l.request_id IS NULL THEN l.at_us ELSE coalesce(r.at_us, l.at_us - {UNSEEN_US}) END"
_ROWS: Final = f"""
    WITH recent AS (SELECT * FROM ledger_rows WHERE at_us >= ?),
    firsts AS (
        SELECT request_id, min(at_us - duration_us) AS at_us FROM recent
        WHERE kind = '{RowKind.ATTEMPT}' AND request_id IS NOT NULL GROUP BY request_id)
    SELECT l.kind, l.account, l.key_id, l.request_class, l.tags, l.pool, r.endpoint,
        ({_EARLIEST} - {APART_US}) / {BUCKET_US}, (coalesce(f.at_us, l.at_us) + {APART_US}) / {BUCKET_US},
        CASE WHEN {{certain}} THEN 1 ELSE 0 END, sum(l.amount_nusd)
    FROM recent l LEFT JOIN requests r ON r.request_id = l.request_id LEFT JOIN firsts f ON f.request_id = l.request_id
    WHERE l.amount_nusd <> 0 AND (l.account NOT IN ({HOUSE}) OR l.kind IN ({_OF_CONTAINERS}))
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"""
