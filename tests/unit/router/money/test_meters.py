"""Meters follow the policy in force, and what they hand to the house is handed out once and written in the end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from policies.policy import Policy, RateChange
from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.store import MeterEntry
from pricing.clock import US_PER_S, ManualClock
from pricing.errors import StoreUnavailable
from pricing.ledger.rows import House, LedgerRow
from pricing.prices.billed import Billed
from router.money.meters import MeteredPools
from support.choosing import shipped
from support.values import replace

POOL = "qwen3-vl-8b-fp8-l4"
HOUR_US = 3_600 * US_PER_S


class Disk:
    """Where rows of the house are posted; a full one takes none."""

    def __init__(self) -> None:
        self.posted: list[LedgerRow] = []
        self.full = False

    async def post(self, rows: Sequence[LedgerRow]) -> None:
        if self.full:
            raise StoreUnavailable("disk full")
        self.posted += rows


def metered(clock: ManualClock, policy: Policy | None = None) -> tuple[MeteredPools, LocalMeters, Disk]:
    disk = Disk()
    meters = LocalMeters(clock, disk.post)
    pools = MeteredPools(meters, clock)
    pools.apply(policy or shipped())
    return pools, meters, disk


async def test_a_price_book_takes_effect_at_its_own_instant() -> None:
    """The change is noticed an hour late, and the hour is billed at the new rate all the same."""
    clock = ManualClock()
    policy = shipped()
    old = policy.rates[POOL]
    dearer = replace(old, nusd_per_h=2 * old.nusd_per_h)
    change = RateChange(clock.wall_us() + HOUR_US, "later-book", {POOL: dearer})
    pools, meters, disk = metered(clock, replace(policy, rate_changes=(change,)))
    meters.set_containers(POOL, clock.wall_us(), 1, 0)
    clock.advance(3_600)
    pools.apply_due_rates(clock.wall_us())
    clock.advance(3_600)
    await pools.post_house()
    [idle] = disk.posted
    assert idle.amount_nusd == 3 * old.nusd_per_h
    assert pools.rate(POOL) == dearer


async def test_a_later_book_may_bill_other_phases() -> None:
    """Boots are free from its instant on, and idle time until then."""
    clock = ManualClock()
    policy = shipped()
    rate = replace(policy.rates[POOL], billed=Billed(idle=False))
    change = RateChange(clock.wall_us() + HOUR_US, "later-book", {POOL: replace(rate, billed=Billed(boot=False))})
    pools, meters, disk = metered(clock, replace(policy, rates={POOL: rate}, rate_changes=(change,)))
    meters.set_containers(POOL, clock.wall_us(), 1, 1)
    clock.advance(7_200)
    pools.apply_due_rates(clock.wall_us())
    await pools.post_house()
    assert [(row.account, row.amount_nusd, row.duration_us) for row in disk.posted] == [
        (House.BOOT, rate.nusd_per_h, 2 * HOUR_US),
        (House.IDLE, rate.nusd_per_h, 2 * HOUR_US),
    ]


async def test_lives_of_containers_are_rounded_up_as_the_book_says() -> None:
    """To minutes: 90 s are billed as 120, half of an hour as itself; a pool that nobody knows has no price."""
    clock = ManualClock()
    policy = shipped()
    rate = replace(policy.rates[POOL], increment_us=60 * US_PER_S)
    pools, _, disk = metered(clock, replace(policy, rates={POOL: rate}))
    pools.ended(POOL, 20 * US_PER_S, 70 * US_PER_S)
    pools.ended(POOL, 0, HOUR_US // 2)
    pools.ended("of-somebody-else", 1, 1)
    await pools.post_house()
    [row] = disk.posted
    assert (row.account, row.duration_us) == (House.ADJUSTMENT, 30 * US_PER_S)
    assert row.amount_nusd == round(rate.nusd_per_h / 120)


async def test_a_changed_target_changes_the_share() -> None:
    """Four requests fill one container at a target of four, and two containers at a target of two."""
    clock = ManualClock()
    pools, meters, _ = metered(clock)
    spec = shipped().pools[POOL]
    rate = shipped().rates[POOL].nusd_per_h
    meters.set_containers(POOL, clock.wall_us(), 2, 0)
    for member in "abcd":
        meters.enter(MeterEntry(POOL), member)
    for target, containers in ((4, 1), (2, 2)):
        changed = {POOL: replace(spec, target_concurrency=target)}
        pools.apply(replace(shipped(), pools=changed, rates={POOL: shipped().rates[POOL]}))
        reading = (await meters.read([(POOL, "a")]))["a"]
        assert reading.share_nusd_per_h == pytest.approx(rate * containers / 4, rel=1e-6)


async def test_unknown_pools_are_left_alone() -> None:
    """A platform lists containers of pools that no file names."""
    clock = ManualClock()
    pools, meters, disk = metered(clock)
    meters.set_containers("of-somebody-else", clock.wall_us(), 3, 0)
    meters.missed("of-somebody-else", "boot", US_PER_S)
    clock.advance(60)
    await pools.post_house()
    assert disk.posted == []


async def test_house_rows_wait_for_a_store_that_is_down() -> None:
    """Nothing of what was drained from the meters is lost, and nothing is written, or told as written, twice."""
    clock = ManualClock()
    pools, meters, disk = metered(clock)
    told: list[LedgerRow] = []
    meters.on_posted = told.extend
    meters.set_containers(POOL, clock.wall_us(), 1, 1)
    clock.advance(3_600)
    disk.full = True
    with pytest.raises(StoreUnavailable):
        await pools.post_house()
    assert told == []
    disk.full = False
    clock.advance(3_600)
    await pools.post_house()
    await pools.post_house()
    rate = shipped().rates[POOL].nusd_per_h
    assert told == disk.posted
    assert sum(row.amount_nusd for row in disk.posted if row.account == House.BOOT) == 2 * rate
    assert sum(row.amount_nusd for row in disk.posted if row.account == House.IDLE) == 2 * rate
