"""Everything a run came to, in one value; what is wrong with it; and its JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from pricing.budgets.store import CapStatus
from pricing.money import format_usd, usd_number
from pricing.verify.sqlite import Verification
from router.demo.books import LedgerSums, billed_by_phase, gap
from router.demo.control import PoolsBill
from router.demo.load import Outcome
from router.demo.mishaps import Struck
from router.demo.verdict import Verdict

GAP_AT_MOST: Final = 0.01


@dataclass(frozen=True, slots=True)
class Summary:
    """`baseline` holds nano-dollars by premium pool; `simulated_s` how long the run was for its pools."""

    outcomes: Sequence[Outcome]
    sums: LedgerSums
    bill: Mapping[str, PoolsBill]
    baseline: Mapping[str, int]
    caps: Sequence[CapStatus]
    verification: Verification
    struck: Sequence[Struck]
    seed: int
    speedup: float
    simulated_s: float
    real_s: float

    def count(self, verdict: Verdict) -> int:
        return sum(outcome.judged.verdict is verdict for outcome in self.outcomes)

    def reasons(self, verdict: Verdict) -> Counter[str]:
        """Why requests ended in a verdict, most frequent first."""
        return Counter(outcome.judged.why for outcome in self.outcomes if outcome.judged.verdict is verdict)

    @property
    def ledger_nusd(self) -> int:
        return self.sums.total_nusd

    @property
    def billed_nusd(self) -> int:
        return sum(one.billed_nusd for one in self.bill.values())

    @property
    def baseline_nusd(self) -> int:
        return sum(self.baseline.values())

    @property
    def gap(self) -> float:
        return gap(self.ledger_nusd, self.billed_nusd)

    @property
    def boot_gap(self) -> float:
        return gap(self.sums.phase_nusd("boot"), billed_by_phase(self.bill)["boot"])

    @property
    def saving(self) -> float | None:
        """Of the whole bill, boots and idle time in both: share of the baseline; None where nothing was answered."""
        return 1 - self.ledger_nusd / self.baseline_nusd if self.baseline_nusd else None


def problems_of(summary: Summary) -> list[str]:
    """What does not hold, a sentence each; empty when the run shows what it should."""
    return [*_requests(summary), *_bills(summary), *_caps(summary.caps), *_ledger(summary)]


def _requests(summary: Summary) -> list[str]:
    lost = summary.count(Verdict.LOST)
    if not lost:
        return []
    reasons = ", ".join(f"{count} × {why}" for why, count in summary.reasons(Verdict.LOST).most_common(3))
    return [f"{lost} of {len(summary.outcomes)} requests were lost: {reasons}; look into serve.log (--keep DIR)"]


def _bills(summary: Summary) -> list[str]:
    """The total, and boots on their own, since one mis-stated boot can hide in a large total."""
    boots = billed_by_phase(summary.bill)["boot"]
    sides = (
        ("total", summary.gap, summary.ledger_nusd, summary.billed_nusd),
        ("boots", summary.boot_gap, summary.sums.phase_nusd("boot"), boots),
    )
    return [
        f"{name}: the router's {format_usd(ledger, 6)} is {share:+.2%} away from the {format_usd(billed, 6)} that the "
        f"pools billed; at most {GAP_AT_MOST:.0%} is allowed"
        for name, share, ledger, billed in sides
        if abs(share) > GAP_AT_MOST
    ]


def _caps(caps: Sequence[CapStatus]) -> list[str]:
    return [
        f"cap {cap.cap} was exceeded: {format_usd(cap.spent_nusd, 6)} spent of {format_usd(cap.amount_nusd, 6)}"
        for cap in caps
        if cap.amount_nusd is not None and cap.spent_nusd > cap.amount_nusd
    ]


def _ledger(summary: Summary) -> list[str]:
    problems = [f"the ledger does not agree with itself: {problem}" for problem in summary.verification.problems]
    if summary.verification.open_holds:
        problems.append(f"{summary.verification.open_holds} holds are open after the endpoint has stopped")
    return problems


def as_json(summary: Summary) -> dict[str, Any]:
    """What `--json` writes. Amounts are dollars."""
    pools = {pool: usd_number(summary.sums.pool_nusd(pool)) for pool in sorted(summary.sums.by_pool)}
    tenants = {name: usd_number(nusd) for name, nusd in sorted(summary.sums.by_account.items())}
    return {
        "requests": len(summary.outcomes),
        **{str(verdict): summary.count(verdict) for verdict in Verdict},
        "fallbacks": dict(summary.sums.fallbacks),
        "continued": dict(summary.sums.continued),
        "cost_usd": {"tenant": tenants, "pool": pools},
        "ledger_total_usd": usd_number(summary.ledger_nusd),
        "pools_billed_usd": {phase: usd_number(nusd) for phase, nusd in billed_by_phase(summary.bill).items()},
        "pools_billed_by_pool_usd": {
            pool: usd_number(one.billed_nusd) for pool, one in summary.bill.items() if one.alive_us
        },
        "pools_billed_total_usd": usd_number(summary.billed_nusd),
        "gap": summary.gap if isfinite(summary.gap) else None,
        "baseline_usd": usd_number(summary.baseline_nusd),
        "saving": summary.saving,
        "caps": [_cap(cap) for cap in summary.caps],
        "mishaps": [
            {"kind": str(struck.mishap.fault["kind"]), "pool": struck.pool, "at_s": round(struck.at_s, 1)}
            for struck in summary.struck
        ],
        "seed": summary.seed,
        "speedup": summary.speedup,
        "simulated_s": round(summary.simulated_s, 1),
        "real_s": round(summary.real_s, 1),
        "problems": problems_of(summary),
    }


def _cap(cap: CapStatus) -> dict[str, Any]:
    return {
        "cap": cap.cap,
        "scope": str(cap.scope),
        "window": cap.window,
        "amount_usd": None if cap.amount_nusd is None else usd_number(cap.amount_nusd),
        "spent_usd": usd_number(cap.spent_nusd),
    }
