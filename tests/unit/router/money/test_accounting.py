"""Holds that grow with the meter, cuts where no cap has room, and who carries the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from policies.policy import Limits, OnExhausted, OnStoreDown, Payer
from policies.requirements import Tier
from pricing.budgets.outage import OutageStore
from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import Extended
from pricing.clock import US_PER_S, ManualClock
from pricing.errors import BudgetExceeded, StoreUnavailable
from pricing.ledger.read import find_request, recent_rows
from pricing.ledger.rows import RowKind
from pricing.verify.sqlite import verify
from router.interrupts import Cause
from router.money.accounting import Accounting, Attempt
from router.money.meters import MeteredPools
from support.chains import attempt, candidate, chain
from support.choosing import ladder, needs, rung, shipped
from support.money import cap, caps, request

L4 = rung("qwen3-vl-8b-fp8-l4")
RATE = L4.rate.nusd_per_h
PER_S = RATE / 3_600
ASKED = needs("chat", Tier.STANDARD, prompt=100, output=10)


@dataclass
class Books:
    """Accounting over a real store, a clock that stands still, and one pool with one container."""

    clock: ManualClock
    store: SqliteStore
    outages: OutageStore
    accounting: Accounting
    path: Path

    async def begun(self, request_id: str = "req_1", *, finish: bool = False, allow: bool = False) -> Attempt:
        """An attempt that is dispatched."""
        limits = Limits(
            on_exhausted=OnExhausted.FINISH if finish else OnExhausted.CUT,
            on_store_down=OnStoreDown.ALLOW if allow else OnStoreDown.REJECT,
        )
        one = ladder(L4, limits=limits)
        under_way = chain(self.clock, ASKED, request_class=one)
        under_way.request_id = request_id
        made = attempt(under_way, candidate(ASKED, one))
        await self.accounting.begin(made, None)
        self.accounting.dispatch(made)
        return made

    async def spent(self) -> list[int]:
        return [status.spent_nusd for status in await self.store.statuses()]


def books(folder: Path, cap_nusd: int) -> Books:
    clock = ManualClock()
    path = folder / "ledger.sqlite"
    table = caps(cap(cap_nusd))
    store = SqliteStore(path, clock, table)
    outages = OutageStore(store, clock, table, store.meters, on_change=lambda _: None, jitter=lambda: 1.0)
    pools = MeteredPools(store.meters, clock)
    pools.apply(shipped())
    store.meters.set_containers(L4.pool.name, clock.wall_us(), 1, 0)
    return Books(clock, store, outages, Accounting(outages, pools, clock), path)


async def test_a_first_hold_is_small(tmp_path: Path) -> None:
    """The expected charge, or two ticks' worth where that is more: a tenant who has spent nothing is not locked out."""
    kept = books(tmp_path, 10**9)
    begun = await kept.begun()
    assert begun.hold_nusd == pytest.approx(max(begun.expected_charge_nusd, 2 * PER_S), rel=1e-3)
    await kept.store.aclose()


async def test_a_tick_extends_to_what_accrued_and_two_ticks_ahead(tmp_path: Path) -> None:
    """DESIGN's example: accrued plus two ticks at twice the share, which is the whole rate once others have left."""
    kept = books(tmp_path, 10**9)
    others = [await kept.begun(f"req_{number}") for number in range(2, 5)]
    begun = await kept.begun()
    kept.clock.advance(7)
    for other in others:
        await kept.accounting.close(other, "answered", Payer.TENANT)
    await kept.accounting.tick()
    assert begun.share_nusd_per_h == RATE
    assert begun.hold_nusd == pytest.approx(7 * PER_S / 4 + 4 * PER_S, rel=1e-6)
    await kept.store.aclose()


async def test_without_room_the_hold_is_spent_and_then_the_attempt_is_cut(tmp_path: Path) -> None:
    """The cut comes when the next tick would go beyond the hold; the tenant pays the hold, the house the overrun."""
    kept = books(tmp_path, round(6 * PER_S))
    begun = await kept.begun()
    held = begun.hold_nusd
    for _ in range(30):
        kept.clock.advance(1)
        await kept.accounting.tick()
        if begun.interrupts.cause is not None:
            break
    assert begun.interrupts.cause is Cause.CUT
    kept.clock.advance(5)  # what the pool takes to end it
    begun.prompt_tokens = 700
    told_nusd = await kept.accounting.fix_payment(begun)
    kept.accounting.replace_caps(caps(cap(10**9)))  # room that comes later does not change what was told
    settlement = await kept.accounting.close(begun, "cut", Payer.TENANT)
    assert settlement.amount_nusd == told_nusd
    paid, overrun = settlement.rows
    assert held <= settlement.amount_nusd == paid.amount_nusd <= round(6 * PER_S)
    assert (paid.account, overrun.kind, overrun.account) == ("acme", RowKind.OVERRUN, "__overrun__")
    assert (paid.prompt_tokens, overrun.prompt_tokens, overrun.duration_us) == (700, None, 0)
    assert paid.metered_nusd == paid.amount_nusd + overrun.amount_nusd == begun.charge_nusd
    assert 0 < overrun.amount_nusd <= PER_S * (begun.limits.hold_tick_s + 5)
    await kept.accounting.end(request("req_1"), settlement)
    assert await kept.spent() == [paid.amount_nusd]
    await kept.store.aclose()
    assert verify(kept.path, kept.clock.wall_us()).agrees


async def test_under_finish_nothing_is_cut_and_all_is_spent(tmp_path: Path) -> None:
    """The overshoot is the tenant's, above its cap, and no overrun is left to the house."""
    kept = books(tmp_path, round(6 * PER_S))
    begun = await kept.begun(finish=True)
    for _ in range(20):
        kept.clock.advance(1)
        await kept.accounting.tick()
    assert begun.interrupts.cause is None
    settlement = await kept.accounting.close(begun, "answered", Payer.TENANT)
    assert settlement.amount_nusd == pytest.approx(20 * PER_S, abs=1)
    assert settlement.may_exceed_hold
    assert len(settlement.rows) == 1
    await kept.store.aclose()


async def test_under_finish_a_cap_is_passed_by_no_more_than_what_was_in_flight(tmp_path: Path) -> None:
    """Once the cap is full nobody else begins: it is passed by what answers that run cost beyond their holds."""
    cap_nusd = round(9 * PER_S)
    kept = books(tmp_path, cap_nusd)
    running = [await kept.begun(f"req_{number}", finish=True) for number in (1, 2)]
    for _ in range(20):
        kept.clock.advance(1)
        await kept.accounting.tick()
    with pytest.raises(BudgetExceeded):
        await kept.begun("req_3", finish=True)
    for one in running:
        settlement = await kept.accounting.close(one, "answered", Payer.TENANT)
        await kept.accounting.end(request(one.request_id), settlement)
    [spent_nusd] = await kept.spent()
    in_flight_nusd = sum(one.charge_nusd for one in running)
    assert 0 < spent_nusd - cap_nusd <= sum(one.charge_nusd - one.hold_nusd for one in running) < in_flight_nusd
    with pytest.raises(BudgetExceeded):
        await kept.begun("req_4", finish=True)
    await kept.store.aclose()


async def test_a_failed_attempt_of_the_house_costs_the_tenant_nothing(tmp_path: Path) -> None:
    """Metered and shown, under the house's account."""
    kept = books(tmp_path, 10**9)
    begun = await kept.begun()
    kept.clock.advance(3)
    settlement = await kept.accounting.close(begun, "unavailable", Payer.HOUSE)
    [row] = settlement.rows
    assert (settlement.amount_nusd, row.account, row.tenant) == (0, "__failed__", "acme")
    assert row.amount_nusd == row.metered_nusd == pytest.approx(3 * PER_S, abs=1)
    await kept.store.aclose()


async def test_the_cost_is_fixed_when_the_engine_has_nothing_left_to_do(tmp_path: Path) -> None:
    """Writing the answer out takes time that nobody pays for, and asking twice changes nothing."""
    kept = books(tmp_path, 10**9)
    begun = await kept.begun()
    kept.clock.advance(2)
    charge = await kept.accounting.leave_meter(begun)
    kept.clock.advance(60)
    assert await kept.accounting.leave_meter(begun) == charge == pytest.approx(2 * PER_S, abs=1)
    assert (await kept.accounting.close(begun, "answered", Payer.TENANT)).amount_nusd <= charge
    await kept.store.aclose()


async def test_what_could_not_be_written_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A settlement that meets a full disk is kept, its hold with it, and is exact when it is written."""
    kept = books(tmp_path, 10**9)
    begun = await kept.begun()
    kept.clock.advance(1)
    settlement = await kept.accounting.close(begun, "answered", Payer.TENANT)

    async def full(_: object) -> None:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(kept.store, "settle", full)
        await kept.accounting.end(request("req_1"), settlement)
        await kept.accounting.tick()
    assert recent_rows(kept.path, 10) == []
    kept.clock.advance(3_600)  # beyond the hold's lease: the settlement still comes before its end
    assert await kept.outages.recover()
    await kept.accounting.tick()
    stored = find_request(kept.path, "req_1")
    assert stored is not None
    assert [(row.amount_nusd, row.estimated) for row in stored.rows] == [(settlement.amount_nusd, False)]
    await kept.store.aclose()
    assert verify(kept.path, kept.clock.wall_us()).agrees


@pytest.mark.parametrize(("allow", "cause"), [(False, Cause.STORE_DOWN), (True, None)])
async def test_without_a_store_an_attempt_goes_on_within_the_allowance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allow: bool, cause: Cause | None
) -> None:
    """A class that allows it grows its holds on the replica's allowance; any other is cut when its hold is spent."""
    kept = books(tmp_path, 10**9)
    kept.outages.allow(10**9)
    begun = await kept.begun(allow=allow)

    async def full(_: object) -> list[Extended]:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(kept.store, "extend", full)
    for _ in range(10):
        kept.clock.advance(1)
        await kept.accounting.tick()
    assert begun.interrupts.cause is cause
    assert (begun.hold_nusd > 10 * PER_S) == allow
    await kept.store.aclose()


async def test_a_summary_without_money_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is full any number of requests are refused: what they leave behind must not grow."""
    kept = books(tmp_path, 10**9)

    async def full(_: object) -> None:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(kept.store, "record", full)
        with pytest.raises(StoreUnavailable):
            await kept.accounting.end(request("req_1"), None)
    await kept.accounting.tick()
    assert find_request(kept.path, "req_1") is None
    await kept.store.aclose()


class Away:
    """Meters that cannot be reached any more."""

    async def leave(self, pool: str, member: str) -> int:
        raise StoreUnavailable("nobody answers")


@pytest.mark.parametrize("finish", [False, True])
async def test_a_meter_that_cannot_be_asked_in_the_end_is_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finish: bool
) -> None:
    """What accrued when it was last read, and its share since; under `cut` no more than the hold. The row says so."""
    kept = books(tmp_path, 10**9)
    begun = await kept.begun(finish=finish)
    kept.clock.advance(5)
    await kept.accounting.tick()
    monkeypatch.setattr(kept.store.meters, "leave", Away().leave)
    kept.clock.advance(60)
    settlement = await kept.accounting.close(begun, "answered", Payer.TENANT)
    expected = 65 * PER_S if finish else begun.hold_nusd
    assert settlement.amount_nusd == begun.charge_nusd == pytest.approx(expected, abs=2)
    [row] = settlement.rows
    assert row.estimated
    await kept.store.settle(settlement)
    assert await kept.store.meters.read([(L4.pool.name, begun.hold_id)]) == {}
    await kept.store.aclose()


async def test_an_attempt_that_left_while_the_meters_were_read_is_not_cut(tmp_path: Path) -> None:
    """It keeps its last reading, and its hold is not asked to grow any more."""
    kept = books(tmp_path, 10**9)
    begun, other = await kept.begun("req_1"), await kept.begun("req_2")
    kept.clock.advance(1)
    await kept.accounting.leave_meter(begun)
    held = begun.hold_nusd
    kept.clock.advance(1)
    await kept.accounting.tick()
    assert (begun.hold_nusd, begun.interrupts.cause) == (held, None)
    assert other.share_nusd_per_h == RATE
    await kept.store.aclose()


async def test_a_hold_enters_the_meter_with_its_weight_and_leaves_it_with_its_end(tmp_path: Path) -> None:
    """Nothing is metered before the hold is committed, or after it has ended in whatever way."""
    kept = books(tmp_path, 10**9)
    begun, other = await kept.begun("req_1"), await kept.begun("req_2")
    readings = await kept.store.meters.read([(L4.pool.name, one.hold_id) for one in (begun, other)])
    assert [reading.share_nusd_per_h for reading in readings.values()] == [RATE // 2, RATE // 2]
    await kept.store.release(other.hold_id)
    reading = (await kept.store.meters.read([(L4.pool.name, begun.hold_id)]))[begun.hold_id]
    assert reading.share_nusd_per_h == RATE
    await kept.store.aclose()


async def test_rows_are_written_at_the_store_s_time(tmp_path: Path) -> None:
    """A replica whose own clock is five minutes off writes rows that lie in the windows that they count in."""
    kept = books(tmp_path, 10**9)
    off = ManualClock(kept.clock.wall_us() - 300 * US_PER_S)
    pools = MeteredPools(kept.store.meters, off)
    pools.apply(shipped())
    kept.accounting = Accounting(kept.outages, pools, off)
    begun = await kept.begun()
    await kept.accounting.end(request("req_1"), await kept.accounting.close(begun, "answered", Payer.TENANT))
    await kept.store.aclose()
    assert [row.at_us for row in recent_rows(kept.path, 10)] == [begun.anchor_us] == [kept.clock.wall_us()]
    assert kept.accounting.now_us() == kept.clock.wall_us()
