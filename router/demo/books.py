"""What the ledger says after a run, and what the pools billed: the two sides that have to agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pricing.ledger.read import reading
from pricing.ledger.rows import House, RowKind
from router.demo.control import PoolsBill

PHASES: Final = ("boot", "busy", "idle", "adjustment")
_PHASE_OF: Final = {House.BOOT: "boot", House.IDLE: "idle", House.ADJUSTMENT: "adjustment"}


@dataclass(frozen=True, slots=True)
class LedgerSums:
    """Nano-dollars of all rows, three times the same total. `by_account` holds tenants and house accounts.

    `by_pool` splits each pool's sum into `PHASES`; busy is what tenants and the house paid for requests.
    `fallbacks` counts attempts, by failure class, that another attempt followed; `continued` how often a broken stream
    went on, by `tokens` or from the `text`.
    """

    by_account: Mapping[str, int]
    by_pool: Mapping[str, Mapping[str, int]]
    fallbacks: Mapping[str, int]
    continued: Mapping[str, int]

    @property
    def total_nusd(self) -> int:
        return sum(self.by_account.values())

    def pool_nusd(self, pool: str) -> int:
        return sum(self.by_pool.get(pool, {}).values())

    def phase_nusd(self, phase: str) -> int:
        return sum(phases[phase] for phases in self.by_pool.values())


def read_sums(ledger: Path) -> LedgerSums:
    """Add up a ledger file. Raises StoreUnavailable when it cannot be read."""
    by_account: defaultdict[str, int] = defaultdict(int)
    by_pool: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(PHASES, 0))
    with reading(ledger) as connection:
        sums = connection.execute("SELECT account, pool, sum(amount_nusd) FROM ledger_rows GROUP BY account, pool")
        for account, pool, nusd in sums:
            by_account[account] += nusd
            by_pool[pool][_PHASE_OF.get(account, "busy")] += nusd
        fallbacks = connection.execute(
            "SELECT l.outcome, count(*) FROM ledger_rows l JOIN requests r ON r.request_id = l.request_id "
            "WHERE l.kind = ? AND l.attempt < r.attempts GROUP BY l.outcome",
            [RowKind.ATTEMPT],
        ).fetchall()
        [(times, by_text)] = connection.execute(
            "SELECT coalesce(sum(continued), 0), coalesce(sum(continued_by_text), 0) FROM requests"
        ).fetchall()
    continued = {"tokens": times - by_text, "text": by_text}
    return LedgerSums(dict(by_account), dict(by_pool), dict(fallbacks), continued)


def gap(ledger_nusd: int, billed_nusd: int) -> float:
    """How far the ledger is from the bill, as a share of the bill: 0.01 is one percent too much."""
    if billed_nusd == 0:
        return 0.0 if ledger_nusd == 0 else float("inf")
    return (ledger_nusd - billed_nusd) / billed_nusd


def billed_by_phase(bill: Mapping[str, PoolsBill]) -> dict[str, int]:
    """Nano-dollars of all pools for boot, busy and idle time; what rounding leaves of a pool is in its busy time."""
    phases = {"boot": 0, "busy": 0, "idle": 0}
    for one in bill.values():
        boot, idle = one.phase_nusd("boot"), one.phase_nusd("idle")
        phases["boot"] += boot
        phases["idle"] += idle
        phases["busy"] += one.billed_nusd - boot - idle
    return phases
