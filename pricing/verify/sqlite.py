"""Proves that budgets, ledger and requests of a SQLite file agree, in all and in each cap's window, and names what does
not.

Each check is one question to the whole file, asked inside one read transaction, so it can run beside a server. What
replicas share is verified by `pricing.redis.verify`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from pricing.budgets.caps import Cap, CapTable
from pricing.budgets.windows import span_at
from pricing.ledger.checks import CHECKS, HOUSE, NAMED_AT_MOST, named, sums_match_rows, usd
from pricing.ledger.read import reading
from pricing.ledger.reader import Reader
from pricing.verify.cap_windows import WindowSeen, windows_match_rows

__all__ = ["NAMED_AT_MOST", "NO_CAPS", "Verification", "verify"]

NO_CAPS: Final = CapTable((), ZoneInfo("UTC"))


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at, and what does not agree. `total_nusd` is the sum of all rows of money.

    Of a ledger that replicas share: `waiting` rows were still in Redis (they are counted in `rows` as well), and
    `poison` entries had been set aside or cannot be read; everything is as of `stream_id`. `windows` of caps were held
    against the rows that count in them.
    """

    rows: int
    requests: int
    open_holds: int
    total_nusd: int
    problems: tuple[str, ...]
    waiting: int = 0
    poison: int = 0
    windows: int = 0
    stream_id: str | None = None

    @property
    def agrees(self) -> bool:
        return not self.problems


def verify(path: Path, wall_us: int, caps: CapTable = NO_CAPS) -> Verification:
    """Check a whole file. `wall_us` is now: a hold whose lease ended before it should not be open, and windows are
    those of this instant. `caps` are those whose windows are looked at.

    Raises StoreUnavailable when the file cannot be read.
    """
    with reading(path) as ledger:
        problems = [*named(_budgets_match_rows(ledger))]
        problems += [problem for check in CHECKS for problem in named(check(ledger))]
        problems += named(sums_match_rows(ledger))
        problems += named(_holds_end_once(ledger, wall_us))
        windows = [_window(ledger, cap, caps, wall_us) for cap in caps.caps]
        problems += named(windows_match_rows(ledger, windows))
        rows, total_nusd = ledger.execute("SELECT count(*), coalesce(sum(amount_nusd), 0) FROM ledger_rows").fetchone()
        [requests] = ledger.execute("SELECT count(*) FROM requests").fetchone()
        [open_holds] = ledger.execute("SELECT count(*) FROM holds").fetchone()
    return Verification(rows, requests, open_holds, total_nusd, tuple(problems), windows=len(windows))


def _window(ledger: Reader, cap: Cap, caps: CapTable, wall_us: int) -> WindowSeen:
    span = span_at(cap.window, wall_us, caps.timezone)
    query = "SELECT coalesce(sum(nusd), 0) FROM spend WHERE scope = ? AND bucket >= ? AND bucket < ?"
    [spent_nusd] = ledger.execute(query, [str(cap.scope), span.first, span.end]).fetchone()
    return WindowSeen(cap, span, spent_nusd)


def _budgets_match_rows(ledger: Reader) -> Iterator[str]:
    """Σ rows that a tenant pays = what its budgets say it spent."""
    query = f"""
        SELECT name, sum(paid), sum(spent) FROM (
            SELECT account AS name, amount_nusd AS paid, 0 AS spent FROM ledger_rows WHERE account NOT IN ({HOUSE})
            UNION ALL
            SELECT substr(scope, 8), 0, nusd FROM spend WHERE scope LIKE 'tenant:%'
        ) GROUP BY name HAVING sum(paid) <> sum(spent) ORDER BY name"""
    for tenant, paid, spent in ledger.execute(query):
        yield f"tenant {tenant}: its ledger rows are {usd(paid)}, its budgets say {usd(spent)}"


def _holds_end_once(ledger: Reader, wall_us: int) -> Iterator[str]:
    """No hold outlives its lease, and none is open beside the row that ended it."""
    stale = "SELECT hold_id, amount_nusd, lease_ends_us FROM holds WHERE lease_ends_us < ? ORDER BY hold_id"
    for hold_id, amount, ended_us in ledger.execute(stale, [wall_us]):
        late_s = (wall_us - ended_us) // 1_000_000
        yield f"hold {hold_id} over {usd(amount)} is open {late_s} s after its lease; `sluice serve` settles it"
    both = """
        SELECT h.hold_id, l.row_id FROM holds h JOIN ledger_rows l
        ON l.request_id = h.request_id AND l.kind = 'attempt' AND h.hold_id = l.request_id || ':' || l.attempt
        ORDER BY h.hold_id"""
    for hold_id, row_id in ledger.execute(both):
        yield f"hold {hold_id} is open although row {row_id} ended it"
