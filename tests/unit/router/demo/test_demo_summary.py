"""When the demo says that it adds up, and when it does not."""

from __future__ import annotations

import json

import pytest

from pricing.budgets.caps import Scope, ScopeKind
from pricing.budgets.store import CapStatus
from pricing.money import cost_nusd
from pricing.verify.sqlite import Verification
from router.demo.books import LedgerSums, billed_by_phase, gap
from router.demo.control import PoolsBill
from router.demo.load import Outcome
from router.demo.plan import PlannedRequest
from router.demo.summary import Summary, as_json, problems_of
from router.demo.verdict import Judged, Verdict
from support.values import replace

RATE = 1_545_200_000
BOOT_US, BUSY_US, IDLE_US = 18_000_000, 1_900_000_000, 82_000_000


def billed(boot_us: int = BOOT_US) -> PoolsBill:
    alive_us = boot_us + BUSY_US + IDLE_US
    return PoolsBill(boot_us, BUSY_US, IDLE_US, alive_us, RATE, cost_nusd(RATE, alive_us))


def sums(boots: int = 1) -> LedgerSums:
    """A ledger over one pool that had ten boots, of which `boots` too many or few are wrong by a boot's length."""
    phases = {"boot": cost_nusd(RATE, BOOT_US * boots), "busy": cost_nusd(RATE, BUSY_US), "adjustment": 0}
    phases["idle"] = cost_nusd(RATE, IDLE_US)
    accounts = {"__boot__": phases["boot"], "__idle__": phases["idle"], "acme": phases["busy"]}
    return LedgerSums(accounts, {"a10": phases}, {"timeout": 1}, {"tokens": 1, "text": 0})


def outcome(verdict: Verdict, why: str = "") -> Outcome:
    planned = PlannedRequest(1, 0.0, "acme", "chat", "economy", 10, 10, True, None)
    return Outcome(planned, Judged(verdict, why), 200, "a10", "A10", "economy", 1, 0.5, 1.0)


CAP = CapStatus(
    cap="acme/day",
    scope=Scope(ScopeKind.TENANT, "acme"),
    window="24h",
    amount_nusd=2_000_000_000,
    spent_nusd=2_000_000_000,
    held_nusd=0,
    left_nusd=0,
    warned=True,
    lowering=False,
    resets_us=None,
)
SUMMARY = Summary(
    outcomes=[outcome(Verdict.SERVED), outcome(Verdict.REFUSED, "budget_exceeded"), outcome(Verdict.BROKEN, "crash")],
    sums=sums(),
    bill={"a10": billed()},
    baseline={"l40s": 2 * cost_nusd(RATE, BOOT_US + BUSY_US + IDLE_US)},
    caps=[CAP],
    verification=Verification(rows=3, requests=3, open_holds=0, total_nusd=1, problems=()),
    struck=[],
    seed=0,
    speedup=10.0,
    simulated_s=100.0,
    real_s=10.0,
)


def test_a_run_in_which_all_agrees_has_no_problem() -> None:
    """Refused and broken requests are no fault, and a cap may be spent to its last nano-dollar."""
    assert problems_of(SUMMARY) == []
    assert SUMMARY.saving == pytest.approx(0.5)


@pytest.mark.parametrize("boots", [0, 2])
def test_one_boot_too_many_or_missing_is_seen(boots: int) -> None:
    """18 s of 2,000 s are less than one percent of the total, and still it fails: boots are compared by themselves."""
    problems = problems_of(replace(SUMMARY, sums=sums(boots)))
    assert abs(replace(SUMMARY, sums=sums(boots)).gap) < 0.01
    assert len(problems) == 1
    assert problems[0].startswith("boots: the router's $")


def test_a_total_that_is_off_by_more_than_a_percent_is_seen() -> None:
    """Idle time that the ledger does not have shows in the total."""
    bill = replace(billed(), idle_us=IDLE_US * 2, billed_nusd=cost_nusd(RATE, BOOT_US + BUSY_US + IDLE_US * 2))
    [problem] = problems_of(replace(SUMMARY, bill={"a10": bill}))
    assert problem.startswith("total: the router's $0.858")
    assert "-3.94% away" in problem


def test_a_lost_request_is_a_problem_with_its_reason() -> None:
    """One request without an answer spoils the run."""
    lost = replace(SUMMARY, outcomes=[*SUMMARY.outcomes, outcome(Verdict.LOST, "ServerDisconnectedError")])
    [problem] = problems_of(lost)
    assert problem.startswith("1 of 4 requests were lost: 1 × ServerDisconnectedError")


def test_a_cap_that_was_exceeded_by_a_nano_dollar_is_a_problem() -> None:
    """Caps are held exactly or not at all."""
    [problem] = problems_of(replace(SUMMARY, caps=[replace(CAP, spent_nusd=2_000_000_001)]))
    assert problem.startswith("cap acme/day was exceeded")


def test_a_ledger_at_odds_with_itself_and_an_open_hold_are_problems() -> None:
    """What `sluice ledger verify` finds counts, and so does a hold that outlived the endpoint."""
    verification = replace(SUMMARY.verification, problems=("row x: …",), open_holds=1)
    assert len(problems_of(replace(SUMMARY, verification=verification))) == 2


def test_the_json_adds_up() -> None:
    """Counts partition the requests; tenants, pools and the total are the same money; phases are the bill."""
    document = json.loads(json.dumps(as_json(SUMMARY)))
    assert document["requests"] == sum(document[name] for name in ("served", "refused", "broken", "lost")) == 3
    total = pytest.approx(document["ledger_total_usd"])
    assert sum(document["cost_usd"]["tenant"].values()) == total
    assert sum(document["cost_usd"]["pool"].values()) == total
    assert sum(document["pools_billed_usd"].values()) == pytest.approx(document["pools_billed_total_usd"])
    assert document["fallbacks"] == {"timeout": 1}
    assert document["continued"] == {"tokens": 1, "text": 0}
    assert document["problems"] == []


def test_the_phases_of_a_bill_are_the_bill() -> None:
    """Rounding is in one phase, so that nothing is lost between them."""
    bill = {"a": billed(), "b": billed(boot_us=1)}
    assert sum(billed_by_phase(bill).values()) == sum(one.billed_nusd for one in bill.values())
    boots = cost_nusd(RATE, BOOT_US)
    free = replace(billed(), billed_nusd=billed().billed_nusd - boots, free=("boot",))
    assert billed_by_phase({"a": free}) == {**billed_by_phase({"a": billed()}), "boot": 0}


def test_a_gap_is_a_share_of_the_bill() -> None:
    """Too much is above 0, too little below; against no bill any amount is endlessly wrong."""
    assert gap(101, 100) == pytest.approx(0.01)
    assert gap(99, 100) == pytest.approx(-0.01)
    assert gap(0, 0) == 0
    assert gap(1, 0) == float("inf")
