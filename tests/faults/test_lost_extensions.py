"""A Redis that comes back without its latest steps, as after a failover: holds are there, and smaller than said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.outage import OutageStore
from pricing.budgets.store import Settlement
from pricing.clock import ManualClock
from pricing.errors import StoreUnavailable
from pricing.redis.store import RedisStore
from support.money import cap, caps, paid, row, wish
from support.real_redis import RedisServer
from support.stores import RedisBackend

TABLE = caps(cap(100))


@dataclass
class Replica:
    """One replica, and the server that loses what it was told last."""

    backend: RedisBackend
    redis: RedisStore
    store: OutageStore

    async def extended(self, hold_id: str, amount: int) -> None:
        """A hold of 60 whose extension is granted, and then lost."""
        await self.store.open(wish(hold_id, 60))
        server = self.backend.server
        kept = {key: server.command("DUMP", key) for key in server.command("KEYS", self.backend.key("*"))}
        assert (await self.store.extend([(hold_id, amount)]))[0].granted
        for key in server.command("KEYS", self.backend.key("*")):
            server.command("DEL", key)
        for key, value in kept.items():
            server.command("RESTORE", key, 0, value)

    async def spent(self) -> list[tuple[int, int]]:
        return [(each.spent_nusd, each.held_nusd) for each in await self.redis.statuses()]

    def rows(self) -> list[int]:
        return [each.amount_nusd for each in self.backend.rows()]


@pytest.fixture
async def replica(redis_server: RedisServer) -> AsyncIterator[Replica]:
    clock, backend = ManualClock(), RedisBackend(redis_server)
    redis = await backend.start(clock, TABLE, lambda _: None)
    members = LocalMeters(clock, _posted)
    store = OutageStore(redis, clock, TABLE, members, on_change=lambda _: None, jitter=lambda: 1.0)
    assert await store.recover()
    yield Replica(backend, redis, store)
    await backend.stop(redis)


async def _posted(_: object) -> None:
    """Nobody looks at these."""


async def test_what_was_granted_is_settled_though_its_extension_was_lost(replica: Replica) -> None:
    """The answer was given for it: it is spent and written once, and its hold is gone."""
    await replica.extended("r:1", 90)
    await replica.store.settle(paid("r:1", 85))
    assert (await replica.spent(), replica.rows()) == ([(85, 0)], [85])


async def test_an_ending_that_was_kept_does_not_keep_the_store_down(replica: Replica) -> None:
    """The answer ended in the outage that lost the extension; it is written, and the store is up again."""
    await replica.extended("r:1", 90)
    replica.store.fell(StoreUnavailable("it is failing over"))
    await replica.store.settle(paid("r:1", 85))
    assert await replica.store.recover()
    assert replica.store.state().kept == 0
    assert (await replica.spent(), replica.rows()) == ([(85, 0)], [85])


async def test_the_next_attempt_begins_though_the_last_one_s_extension_was_lost(replica: Replica) -> None:
    """A chain goes on: the first attempt's cost is spent, and the second has its hold."""
    await replica.extended("r:1", 90)
    hold = await replica.store.settle_and_open(paid("r:1", 85), wish("r:2", 10))
    assert (hold.amount_nusd, await replica.spent()) == (10, [(85, 10)])
    await replica.store.settle(paid("r:2", 10))
    assert replica.rows() == [85, 10]


async def test_a_cap_that_others_filled_meanwhile_does_not_change_what_was_promised(replica: Replica) -> None:
    """Asked to grow again, the smaller hold finds no room; what it was once granted is paid, and no more than that."""
    await replica.extended("r:1", 90)
    await replica.redis.open(wish("other:1", 40))
    [refused] = await replica.store.extend([("r:1", 90)])
    assert (refused.granted, refused.amount_nusd) == (False, 60)
    with pytest.raises(ValueError, match="do not fit its 60"):
        await replica.store.settle(paid("r:1", 91))
    await replica.store.settle(paid("r:1", 90))
    assert await replica.spent() == [(90, 40)]


async def test_a_settlement_that_never_fitted_is_its_caller_s_mistake(replica: Replica) -> None:
    """More than was ever granted, or rows of another sum, change nothing, alone or with a hold to open."""
    await replica.extended("r:1", 90)
    for wrong in (paid("r:1", 91), Settlement("r:1", 80, (row("r:1", 70),))):
        with pytest.raises(ValueError, match=r"do not fit|same money"):
            await replica.store.settle(wrong)
    with pytest.raises(ValueError, match="do not fit"):
        await replica.store.settle_and_open(paid("r:1", 91), wish("r:2", 10))
    assert (await replica.spent(), replica.rows()) == ([(0, 60)], [])
