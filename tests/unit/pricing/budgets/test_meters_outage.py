"""Attempts that were let run without a store are metered here; the others by the meters that replicas share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.meters_outage import OutageMeters
from pricing.budgets.store import MeterEntry
from pricing.clock import ManualClock
from pricing.errors import StoreUnavailable
from pricing.ledger.rows import LedgerRow
from pricing.meter.meters import Reading
from pricing.prices.billed import Billed

RATE = 3_600_000_000  # a nano-dollar a microsecond


class Away(LocalMeters):
    """Shared meters that cannot be asked."""

    async def leave(self, pool: str, member: str) -> int:
        raise StoreUnavailable("away")

    async def read(self, members: Sequence[tuple[str, str]]) -> Mapping[str, Reading]:
        raise StoreUnavailable("away")


async def nowhere(_: Sequence[LedgerRow]) -> None:
    """Rows of the house are no part of this."""


def meters(shared: type[LocalMeters]) -> tuple[ManualClock, OutageMeters, LocalMeters, LocalMeters]:
    clock = ManualClock()
    there, here = shared(clock, nowhere), LocalMeters(clock, nowhere)
    both = OutageMeters(there, here)
    both.set_rate("l4", clock.wall_us(), RATE, 1)
    both.set_containers("l4", clock.wall_us(), 1, 0)
    return clock, both, there, here


async def test_each_attempt_is_asked_where_it_entered() -> None:
    """One container for each meter: what runs here does not make cheaper what runs there, nor the other way round."""
    clock, both, there, here = meters(LocalMeters)
    there.enter(MeterEntry("l4"), "a:1")
    here.enter(MeterEntry("l4"), "b:1")
    clock.advance(2)
    readings = await both.read([("l4", "a:1"), ("l4", "b:1")])
    assert {name: reading.accrued_nusd for name, reading in readings.items()} == {"a:1": 2_000_000, "b:1": 2_000_000}
    assert [(await both.leave("l4", name)).nusd for name in ("a:1", "b:1", "b:1")] == [2_000_000] * 3


async def test_both_go_by_what_is_billed() -> None:
    """A book that bills idle time no more holds for attempts of either kind; what has no price here bills nothing."""
    clock, both, there, here = meters(LocalMeters)
    assert (there.bills_idle("l4"), here.bills_idle("l4"), here.bills_idle("unknown")) == (True, True, False)
    both.set_rate("l4", clock.wall_us(), RATE, 1, Billed(idle=False))
    assert (there.bills_idle("l4"), here.bills_idle("l4")) == (False, False)


async def test_what_cannot_be_asked_is_left_out() -> None:
    """While the shared meters are away, attempts metered here go on to be read, and leave with their charge."""
    clock, both, _, here = meters(Away)
    here.enter(MeterEntry("l4"), "b:1")
    clock.advance(1)
    assert list(await both.read([("l4", "a:1"), ("l4", "b:1")])) == ["b:1"]
    assert (await both.leave("l4", "b:1")).nusd == 1_000_000
    with pytest.raises(StoreUnavailable):
        await both.leave("l4", "a:1")
