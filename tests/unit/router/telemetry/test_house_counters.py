"""What pools cost that no request caused, as counters that only grow."""

from __future__ import annotations

from pricing.ledger.rows import Evidence, House, LedgerRow, RowKind
from router.telemetry.house_counters import HouseCounters
from support.scrape import value


def row(
    kind: RowKind, account: str, nusd: int, us: int, evidence: Evidence = Evidence.OBSERVED, boots: int = 0
) -> LedgerRow:
    return LedgerRow(
        row_id=f"l4@1:0:{kind}",
        at_us=1,
        kind=kind,
        account=account,
        amount_nusd=nusd,
        metered_nusd=nusd,
        pool="l4",
        gpu="L4",
        model="qwen3-4b",
        policy_version="v1",
        price_books="book",
        duration_us=us,
        evidence=evidence,
        boots=boots,
    )


def page(counters: HouseCounters) -> bytes:
    return "".join(counters.lines()).encode()


def test_rows_of_the_house_are_counted_by_account_phase_and_evidence() -> None:
    """Dollars by account, seconds by phase and what they rest on, and the containers that began to boot."""
    counters = HouseCounters()
    for _ in range(2):
        counters.posted(
            [
                row(RowKind.BOOT, House.BOOT, 5_000_000, 20_000_000, boots=1),
                row(RowKind.IDLE, House.IDLE, 7_000_000, 30_000_000, Evidence.MODELLED),
            ]
        )
    found = page(counters)
    assert value(found, "sluice_house_usd_total", pool="l4", account="__boot__") == 0.01
    assert value(found, "sluice_house_usd_total", pool="l4", account="__idle__") == 0.014
    assert value(found, "sluice_container_seconds_total", pool="l4", phase="boot", evidence="observed") == 40
    assert value(found, "sluice_container_seconds_total", pool="l4", phase="idle", evidence="modelled") == 60
    assert value(found, "sluice_boots_total", pool="l4") == 2


def test_what_is_taken_back_is_counted_apart() -> None:
    """A counter that fell would look to Prometheus like a process that began anew."""
    counters = HouseCounters()
    counters.posted([row(RowKind.ADJUSTMENT, House.ADJUSTMENT, 9_000_000, 3_000_000)])
    counters.posted([row(RowKind.ADJUSTMENT, House.ADJUSTMENT, -4_000_000, -1_000_000)])
    found = page(counters)
    account = {"pool": "l4", "account": "__adjustment__"}
    phase = {"pool": "l4", "phase": "adjustment", "evidence": "observed"}
    assert value(found, "sluice_house_usd_total", **account) == 0.009
    assert value(found, "sluice_house_returned_usd_total", **account) == 0.004
    assert value(found, "sluice_container_seconds_total", **phase) == 3
    assert value(found, "sluice_container_returned_seconds_total", **phase) == 1


def test_rows_of_requests_are_not_counted_again() -> None:
    """Their attempts said all of it when they ended."""
    counters = HouseCounters()
    counters.posted([row(RowKind.ATTEMPT, "acme", 5, 5), row(RowKind.OVERRUN, House.OVERRUN, 5, 0)])
    assert page(counters) == page(HouseCounters())
