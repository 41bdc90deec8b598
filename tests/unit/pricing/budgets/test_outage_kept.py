"""What a store in front of another meters and keeps by itself in an outage, and when it asks again."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.outage import KEPT_AT_MOST, OutageStore, StoreState
from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import MeterEntry
from pricing.clock import ManualClock
from pricing.errors import StoreUnavailable
from pricing.ledger.rows import House
from pricing.prices.billed import Billed
from support.money import caps, paid
from support.outages import Kept, asking, setup


async def test_attempts_are_metered_here(kept: Kept) -> None:
    """A hold that was granted without the store runs on the pool's clock, and leaves it when it ends."""
    await kept.falls()
    await kept.store.open(asking("a:1", 10, meter=MeterEntry("l4")))
    real = kept.inner.store
    assert isinstance(real, SqliteStore)
    kept.clock.advance(2)
    assert (await real.meters.read([("l4", "a:1")]))["a:1"].accrued_nusd == 2_000_000
    await kept.store.release("a:1")
    assert await real.meters.read([("l4", "a:1")]) == {}
    await kept.returns()


@pytest.mark.parametrize("bills_idle", [True, False, None])
async def test_what_the_stores_meters_called_idle_is_taken_out_where_it_cost(
    tmp_path: Path, bills_idle: bool | None
) -> None:
    """They took nothing for it where idle time is not billed, nor for a pool that is billed by the token (None)."""
    clock = ManualClock()
    beside = LocalMeters(clock, lambda _: asyncio.sleep(0))
    if bills_idle is not None:
        beside.set_rate("l4", clock.wall_us(), 3_600_000_000, 1, Billed(idle=bills_idle))
    made = setup(tmp_path, beside)
    assert await made.store.recover()
    await made.falls()
    await made.store.open(asking("a:1", 10))
    await made.store.settle(paid("a:1", 8))
    await made.returns()
    amounts = {row.account: row.amount_nusd for row in made.rows().values()}
    assert amounts == {"acme": 8, House.ADJUSTMENT: -8} if bills_idle else {"acme": 8}
    await made.store.aclose()


async def test_what_is_kept_is_bounded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound a request is refused; what is kept is not given up."""
    monkeypatch.setattr("pricing.budgets.outage.KEPT_AT_MOST", 3)
    assert KEPT_AT_MOST == 10_000
    await kept.falls()
    for index in range(3):
        await kept.store.open(asking(f"r{index}:1", 1))
        await kept.store.settle(paid(f"r{index}:1", 1))
    with pytest.raises(StoreUnavailable, match="endings wait to be written"):
        await kept.store.open(asking("r3:1", 1))
    await kept.returns()
    assert await kept.spent() == {"acme/day": 3, "globex/day": 0}


async def test_closing_says_what_is_lost(tmp_path: Path) -> None:
    """A stop in the midst of an outage does not pretend."""
    kept = setup(tmp_path)
    await kept.returns()
    await kept.falls()
    await kept.store.open(asking("a:1", 10))
    await kept.store.settle(paid("a:1", 10))
    with pytest.raises(StoreUnavailable, match="1 endings were not written: the store is down"):
        await kept.store.aclose()


async def test_the_store_is_asked_again_with_growing_pauses(kept: Kept) -> None:
    """One task asks, whatever the number of requests; the pauses double up to two seconds."""
    kept.inner.down = True
    pauses: list[int] = []
    came_back = asyncio.Event()

    def told(state: StoreState) -> None:
        if state.up:
            came_back.set()

    def jitter() -> float:
        pauses.append(kept.clock.mono_us())
        if len(pauses) == 8:
            kept.inner.down = False
        return 1.0

    real = kept.inner.store
    assert isinstance(real, SqliteStore)
    store = OutageStore(kept.inner, kept.clock, caps(), real.meters, on_change=told, jitter=jitter)
    with pytest.raises(StoreUnavailable):
        await store.open(asking("r:1", 1, allow=False))
    task = asyncio.create_task(store.keep_up())
    async with asyncio.timeout(10):
        await came_back.wait()
    task.cancel()
    gaps = [(late - early) / 1e6 for early, late in pairwise(pauses)]
    assert gaps == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])


async def test_a_replica_that_has_never_seen_the_caps_grants_nothing(tmp_path: Path) -> None:
    """Started in an outage it cannot know who is exhausted; it grants once the store was there."""
    kept = setup(tmp_path)
    await kept.falls()
    with pytest.raises(StoreUnavailable, match="has not seen yet who is out of budget"):
        await kept.store.open(asking("a:1", 1))
    assert kept.store.state().allowance_left_nusd == 0
    await kept.returns()
    await kept.falls()
    assert (await kept.store.open(asking("b:1", 1))).without_store
    await kept.store.release("b:1")
    await kept.returns()
    await kept.store.aclose()
