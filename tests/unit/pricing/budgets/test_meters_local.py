"""The meters of a store that one process owns."""

from __future__ import annotations

import pytest

from pricing.budgets.meters_local import REMEMBERED_CHARGES, LocalMeters
from pricing.budgets.store import MeterEntry
from pricing.clock import ManualClock
from pricing.errors import HoldEnded
from pricing.meter.meters import NO_LOAD, Reading

RATE = 3_600_000_000  # a million nano-dollars a second


async def nowhere(_: object) -> None:
    """No row is written in these tests."""


def one_container(clock: ManualClock) -> LocalMeters:
    meters = LocalMeters(clock, nowhere)
    meters.set_rate("l4", clock.wall_us(), RATE, 4)
    meters.set_containers("l4", clock.wall_us(), 1, 0)
    return meters


async def test_a_charge_asked_for_again_is_the_same() -> None:
    """Also after the hold has ended, and after it ended without anybody having left."""
    clock = ManualClock()
    meters = one_container(clock)
    meters.enter(MeterEntry("l4"), "a")
    meters.enter(MeterEntry("l4", weight=3), "b")
    clock.advance(4)
    assert await meters.read([("l4", "a"), ("l4", "b"), ("l4", "c")]) == {
        "a": Reading(1_000_000, RATE // 4),
        "b": Reading(3_000_000, 3 * RATE // 4),
    }
    assert (await meters.leave("l4", "a")).nusd == 1_000_000
    meters.drop("a")
    meters.drop("b")
    clock.advance(9)
    assert [(await meters.leave("l4", member)).nusd for member in "ab"] == [1_000_000, 3_000_000]


async def test_nobody_knows_an_attempt_that_never_entered() -> None:
    """Or that left before so many others that it is forgotten."""
    clock = ManualClock()
    meters = one_container(clock)
    with pytest.raises(HoldEnded):
        await meters.leave("l4", "never")
    for number in range(REMEMBERED_CHARGES + 1):
        meters.enter(MeterEntry("l4"), str(number))
        meters.drop(str(number))
    with pytest.raises(HoldEnded):
        await meters.leave("l4", "0")
    assert (await meters.leave("l4", "1")).nusd == 0


def test_there_is_no_other_replica() -> None:
    """Whatever runs here."""
    meters = one_container(ManualClock())
    meters.enter(MeterEntry("l4", kv_tokens=100), "a")
    assert meters.elsewhere("l4") == NO_LOAD
