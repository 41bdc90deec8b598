"""Meters follow the policy in force, and what they hand to the house is handed out once and written in the end."""

from __future__ import annotations

import pytest

from policies.policy import RateChange
from pricing.clock import US_PER_S, ManualClock
from pricing.errors import StoreUnavailable
from pricing.ledger.rows import House, LedgerRow
from router.accounting import Accounting
from router.meters import Meters
from support.choosing import shipped
from support.values import replace

POOL = "qwen3-vl-8b-fp8-l4"
HOUR_US = 3_600 * US_PER_S


def metered(clock: ManualClock) -> Meters:
    meters = Meters(clock)
    meters.apply(shipped())
    return meters


def test_a_price_book_takes_effect_at_its_own_instant() -> None:
    """The change is noticed an hour late, and the hour is billed at the new rate all the same."""
    clock = ManualClock()
    policy = shipped()
    old = policy.rates[POOL]
    dearer = replace(old, nusd_per_h=2 * old.nusd_per_h)
    change = RateChange(clock.wall_us() + HOUR_US, "later-book", {POOL: dearer})
    meters = Meters(clock)
    meters.apply(replace(policy, rate_changes=(change,)))
    meters.containers_changed(POOL, clock.wall_us(), 1, 0)
    clock.advance(3_600)
    meters.apply_due_rates(clock.wall_us())
    clock.advance(3_600)
    [idle] = meters.house_rows()
    assert idle.amount_nusd == 3 * old.nusd_per_h
    assert meters.rate(POOL) == dearer


def test_a_changed_target_changes_the_share() -> None:
    """Four requests fill one container at a target of four, and two containers at a target of two."""
    clock = ManualClock()
    meters = metered(clock)
    spec = shipped().pools[POOL]
    rate = shipped().rates[POOL].nusd_per_h
    meters.containers_changed(POOL, clock.wall_us(), 2, 0)
    for member in "abcd":
        meters[POOL].enter(clock.wall_us(), member)
    for target, containers in ((4, 1), (2, 2)):
        pools = {POOL: replace(spec, target_concurrency=target)}
        meters.apply(replace(shipped(), pools=pools, rates={POOL: shipped().rates[POOL]}))
        share = meters[POOL].share_nusd_per_h(clock.wall_us(), "a")
        assert share == pytest.approx(rate * containers / 4, rel=1e-6)


def test_unknown_pools_are_left_alone() -> None:
    """A platform lists containers of pools that no file names."""
    clock = ManualClock()
    meters = metered(clock)
    meters.containers_changed("of-somebody-else", clock.wall_us(), 3, 0)
    meters.container_time_missed("of-somebody-else", "boot", US_PER_S)
    clock.advance(60)
    assert meters.house_rows() == []


class FullDisk:
    """A store whose first post fails."""

    def __init__(self) -> None:
        self.posted: list[LedgerRow] = []
        self.full = True

    async def post(self, rows: list[LedgerRow], pool_scopes: bool = True) -> None:
        if self.full:
            raise StoreUnavailable("disk full")
        self.posted += rows


async def test_house_rows_wait_for_a_store_that_is_down() -> None:
    """Nothing of what was drained from the meters is lost, and nothing is written twice."""
    clock, store = ManualClock(), FullDisk()
    meters = metered(clock)
    accounting = Accounting(store, meters, clock)  # type: ignore[arg-type] # only `post` is used here
    meters.containers_changed(POOL, clock.wall_us(), 1, 1)
    clock.advance(3_600)
    with pytest.raises(StoreUnavailable):
        await accounting.flush_house()
    store.full = False
    clock.advance(3_600)
    await accounting.flush_house()
    await accounting.flush_house()
    rate = shipped().rates[POOL].nusd_per_h
    assert sum(row.amount_nusd for row in store.posted if row.account == House.BOOT) == 2 * rate
    assert sum(row.amount_nusd for row in store.posted if row.account == House.IDLE) == 2 * rate
