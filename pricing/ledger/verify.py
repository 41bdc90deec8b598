"""Proves that budgets, ledger and requests of a file agree, and names what does not.

Each check is one question to the whole file, asked inside one read transaction, so it can run beside a server.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pricing.ledger.read import reading
from pricing.ledger.rows import House
from pricing.money import format_usd

NAMED_AT_MOST: Final = 20  # problems named per check; the rest are counted
_HOUSE: Final = ",".join(f"'{account}'" for account in House)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at, and what does not agree. `total_nusd` is the sum of all rows of money."""

    rows: int
    requests: int
    open_holds: int
    total_nusd: int
    problems: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        return not self.problems


def verify(path: Path, wall_us: int) -> Verification:
    """Check a whole file. `wall_us` is now: a hold whose lease ended before it should not be open.

    Raises StoreUnavailable when the file cannot be read.
    """
    with reading(path) as connection:
        problems = [problem for check in _CHECKS for problem in _named(check(connection, wall_us))]
        rows, total_nusd = connection.execute(
            "SELECT count(*), coalesce(sum(amount_nusd), 0) FROM ledger_rows"
        ).fetchone()
        [requests] = connection.execute("SELECT count(*) FROM requests").fetchone()
        [open_holds] = connection.execute("SELECT count(*) FROM holds").fetchone()
    return Verification(rows, requests, open_holds, total_nusd, tuple(problems))


def _named(problems: Iterator[str]) -> Iterator[str]:
    for count, problem in enumerate(problems):
        if count == NAMED_AT_MOST:
            yield f"… and {1 + sum(1 for _ in problems)} more like these"
            return
        yield problem


def _budgets_match_rows(connection: sqlite3.Connection, _: int) -> Iterator[str]:
    """Σ rows that a tenant pays = what its budgets say it spent."""
    query = f"""
        SELECT name, sum(paid), sum(spent) FROM (
            SELECT account AS name, amount_nusd AS paid, 0 AS spent FROM ledger_rows WHERE account NOT IN ({_HOUSE})
            UNION ALL
            SELECT substr(scope, 8), 0, nusd FROM spend WHERE scope LIKE 'tenant:%'
        ) GROUP BY name HAVING sum(paid) <> sum(spent) ORDER BY name"""
    for tenant, paid, spent in connection.execute(query):
        yield f"tenant {tenant}: its ledger rows are {_usd(paid)}, its budgets say {_usd(spent)}"


def _accounts_belong(connection: sqlite3.Connection, _: int) -> Iterator[str]:
    """A row is paid by the tenant who asked, or by the house."""
    query = f"""
        SELECT row_id, account, tenant FROM ledger_rows
        WHERE account NOT IN ({_HOUSE}) AND account IS NOT tenant ORDER BY seq"""
    for row_id, account, tenant in connection.execute(query):
        yield f"row {row_id}: paid by {account}, asked by {tenant}"


def _meter_matches_charges(connection: sqlite3.Connection, _: int) -> Iterator[str]:
    """Per pool and attempt, charge + overrun = what the meter said; estimates have no meter."""
    query = """
        SELECT pool, request_id, attempt, sum(amount_nusd), sum(CASE kind WHEN 'attempt' THEN metered_nusd ELSE 0 END)
        FROM ledger_rows WHERE kind IN ('attempt', 'overrun')
        GROUP BY pool, request_id, attempt
        HAVING sum(amount_nusd) <> sum(CASE kind WHEN 'attempt' THEN metered_nusd ELSE 0 END) AND NOT max(estimated)
        ORDER BY pool, request_id, attempt"""
    for pool, request_id, attempt, paid, metered in connection.execute(query):
        yield f"pool {pool}: request {request_id}, attempt {attempt} was metered {_usd(metered)} and paid {_usd(paid)}"


def _attempts_are_contiguous(connection: sqlite3.Connection, _: int) -> Iterator[str]:
    """A request's attempts are numbered 1, 2, 3 … without a gap, and its summary counts no fewer."""
    query = """
        SELECT l.request_id, count(DISTINCT l.attempt), min(l.attempt), max(l.attempt), r.attempts
        FROM ledger_rows l LEFT JOIN requests r USING (request_id)
        WHERE l.kind = 'attempt' AND l.request_id IS NOT NULL GROUP BY l.request_id
        HAVING min(l.attempt) <> 1 OR max(l.attempt) <> count(DISTINCT l.attempt) OR r.attempts < max(l.attempt)
        ORDER BY l.request_id"""
    for request_id, count, first, last, said in connection.execute(query):
        yield f"request {request_id}: {count} attempts are numbered {first} to {last}, its summary says {said}"


def _answers_have_money(connection: sqlite3.Connection, _: int) -> Iterator[str]:
    """A request that was served has at least one attempt with a row."""
    query = """
        SELECT request_id FROM requests r WHERE outcome = 'served' AND NOT EXISTS (
            SELECT 1 FROM ledger_rows l WHERE l.request_id = r.request_id AND l.kind = 'attempt'
        ) ORDER BY request_id"""
    for (request_id,) in connection.execute(query):
        yield f"request {request_id} was served, and no row says what it cost"


def _holds_end_once(connection: sqlite3.Connection, wall_us: int) -> Iterator[str]:
    """No hold outlives its lease, and none is open beside the row that ended it."""
    stale = "SELECT hold_id, amount_nusd, lease_ends_us FROM holds WHERE lease_ends_us < ? ORDER BY hold_id"
    for hold_id, amount, ended_us in connection.execute(stale, [wall_us]):
        late_s = (wall_us - ended_us) // 1_000_000
        yield f"hold {hold_id} over {_usd(amount)} is open {late_s} s after its lease; `sluice serve` settles it"
    both = """
        SELECT h.hold_id, l.row_id FROM holds h JOIN ledger_rows l
        ON l.request_id = h.request_id AND l.kind = 'attempt' AND h.hold_id = l.request_id || ':' || l.attempt
        ORDER BY h.hold_id"""
    for hold_id, row_id in connection.execute(both):
        yield f"hold {hold_id} is open although row {row_id} ended it"


def _usd(nusd: int) -> str:
    return format_usd(nusd, decimals=9)


_CHECKS: Final[tuple[Callable[[sqlite3.Connection, int], Iterator[str]], ...]] = (
    _budgets_match_rows,
    _accounts_belong,
    _meter_matches_charges,
    _attempts_are_contiguous,
    _answers_have_money,
    _holds_end_once,
)
