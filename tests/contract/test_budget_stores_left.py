"""What every budget store does when a process, a caller or its clock leaves it, asked of each of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pricing.ledger.rows import RowKind
from support.money import ACME, paid, request, wish
from support.stores import TABLE, SqliteBackend, StoreSetup, running


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[StoreSetup]:
    async with running(SqliteBackend(tmp_path), TABLE) as made:
        yield made


async def test_a_hold_that_nobody_ends_is_settled_as_an_estimate(setup: StoreSetup) -> None:
    """Its lease runs out, its amount is spent and marked; a late settlement adds what the meter said, at amount 0."""
    await setup.store.open(wish("r:1", 30))
    await setup.store.extend([("r:1", 35)])
    setup.clock.advance(29)
    assert await setup.store.expire() == []
    setup.clock.advance(1)
    assert await setup.store.expire() == ["r:1"]
    await setup.store.settle(paid("r:1", 22, request=request("r")))
    rows = setup.rows()
    assert (rows["r:1:attempt"].amount_nusd, rows["r:1:attempt"].estimated) == (35, True)
    late = rows["r:1:late"]
    assert (late.kind, late.amount_nusd, late.metered_nusd) == (RowKind.LATE, 0, 22)
    assert (await setup.spent())["acme/day"] == 35
    assert setup.request("r") is not None


async def test_a_hold_that_never_saw_a_tick_is_settled_where_its_opener_was_there_and_else_released(
    setup: StoreSetup,
) -> None:
    """The embedded store knows that it was used; of a shared one its replica may never have heard the answer."""
    await setup.store.open(wish("r:1", 30))
    setup.clock.advance(30)
    assert await setup.store.expire() == ["r:1"]
    embedded = isinstance(setup.backend, SqliteBackend)
    assert (await setup.spent())["acme/day"] == (30 if embedded else 0)
    assert [(each.amount_nusd, each.estimated) for each in setup.rows().values()] == ([(30, True)] if embedded else [])
    assert await setup.left(ACME) == (70 if embedded else 100)


async def test_everything_is_there_after_a_restart(setup: StoreSetup) -> None:
    """Spend, open holds with what is left of their leases, and warnings that were sent."""
    await setup.store.open(wish("r:1", 85))
    await setup.store.settle(paid("r:1", 85))
    await setup.store.open(wish("s:1", 10, lease_s=30))
    assert [warning.cap for warning in setup.warnings] == ["acme/day"]
    setup.clock.advance(20)
    await setup.restart()
    assert await setup.left(ACME) == 5
    assert await setup.store.expire() == []
    await setup.store.open(wish("t:1", 1))
    await setup.store.settle(paid("t:1", 1))
    assert len(setup.warnings) == 1
    setup.clock.advance(10)
    assert await setup.store.expire() == ["s:1"]


async def test_a_clock_set_back_does_not_lengthen_a_lease(embedded: StoreSetup) -> None:
    """In one process leases run on the monotonic clock; after a restart what is left is at most a whole lease."""
    await embedded.store.open(wish("r:1", 10, lease_s=30))
    embedded.clock.jump_wall(-3_600)
    await embedded.restart()
    embedded.clock.advance(30)
    assert await embedded.store.expire() == ["r:1"]


async def test_a_caller_that_gives_up_leaves_no_hold(setup: StoreSetup) -> None:
    """When the task that opens a hold is cancelled before the answer, the money is free again."""
    task = asyncio.create_task(setup.store.open(wish("r:1", 60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await setup.left(ACME) == 100
    await setup.restart()
    assert await setup.left(ACME) == 100


async def test_a_cancelled_settlement_still_counts(setup: StoreSetup) -> None:
    """Once asked for, a settlement is written, whether or not its caller waits."""
    await setup.store.open(wish("r:1", 60))
    task = asyncio.create_task(setup.store.settle(paid("r:1", 50)))
    await asyncio.sleep(0)
    task.cancel()
    await setup.restart()
    assert (await setup.spent())["acme/day"] == 50
