"""Holds that Redis does not have any more while their requests run: opened again, or ended for a true reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.outage import OutageStore
from pricing.clock import ManualClock
from pricing.errors import StoreUnavailable
from pricing.redis.store import BACKLOG_BYTES, RedisStore
from support.money import ACME, cap, caps, paid, request, wish
from support.real_redis import RedisServer
from support.stores import RedisBackend
from support.unsteady_client import Cut
from support.values import replace

TABLE = caps(cap(100))


@dataclass
class Scene:
    clock: ManualClock
    backend: RedisBackend
    redis: RedisStore
    store: OutageStore

    def lose_everything(self) -> None:
        """As a server that comes back empty."""
        for key in self.backend.server.command("KEYS", self.backend.key("*")):
            self.backend.server.command("DEL", key)

    async def money(self) -> tuple[int, int]:
        [status] = await self.redis.statuses()
        return status.spent_nusd, status.held_nusd


async def _nowhere(_: object) -> None:
    """No boot or idle time here."""


@pytest.fixture
async def scene(redis_server: RedisServer) -> AsyncIterator[Scene]:
    clock, backend = ManualClock(), RedisBackend(redis_server)
    redis = await backend.start(clock, TABLE, lambda _: None)
    meters = LocalMeters(clock, _nowhere)
    store = OutageStore(
        redis,
        clock,
        TABLE,
        meters,
        on_change=lambda _: None,
        jitter=lambda: 1.0,
        begin=redis.start,
        metered_beside=True,
    )
    assert await store.recover()
    yield Scene(clock, backend, redis, store)
    await backend.stop(redis)


async def test_a_running_hold_that_was_lost_is_opened_again_where_there_is_room(scene: Scene) -> None:
    """With what it is to hold now, in the windows of its beginning, and without counting its request once more."""
    hold = await scene.store.open(wish("a:1", 40))
    scene.lose_everything()
    scene.clock.advance(5)
    [extended] = await scene.store.extend([("a:1", 60)])
    assert (extended.granted, extended.amount_nusd, extended.store_down) == (True, 60, False)
    assert await scene.money() == (0, 60)
    again = await scene.redis.open(replace(wish("a:1", 60), anchor_us=hold.anchor_us))
    assert again.anchor_us == hold.anchor_us
    await scene.store.settle(paid("a:1", 50, request=request("a")))
    assert await scene.money() == (50, 0)


async def test_without_room_it_is_refused_for_that(scene: Scene) -> None:
    """Others have taken the room meanwhile; what the request has cost is written all the same."""
    await scene.store.open(wish("a:1", 40))
    scene.lose_everything()
    await scene.store.open(wish("b:1", 70))
    [extended] = await scene.store.extend([("a:1", 40)])
    assert (extended.granted, extended.store_down) == (False, False)
    await scene.store.settle(paid("a:1", 30))
    assert await scene.money() == (30, 70)


async def test_a_hold_whose_lease_another_replica_ended_grows_no_more(scene: Scene) -> None:
    """Its amount is spent, and no cap is to blame."""
    await scene.store.open(wish("a:1", 40))
    await scene.store.extend([("a:1", 40)])
    scene.clock.advance(30)
    assert await scene.redis.expire() == ["a:1"]
    [extended] = await scene.store.extend([("a:1", 50)])
    assert (extended.granted, extended.store_down) == (False, True)
    await scene.store.settle(paid("a:1", 30))
    assert await scene.money() == (40, 0)


async def test_what_ran_in_a_hold_before_its_first_tick_is_paid_though_its_lease_ended(scene: Scene) -> None:
    """Cut off for a whole lease before its second step, the hold was released; its replica writes what it cost."""
    await scene.store.open(wish("a:1", 40))
    scene.clock.advance(30)
    assert await scene.redis.expire() == ["a:1"]
    assert await scene.money() == (0, 0)
    await scene.store.settle(paid("a:1", 30, request=request("a")))
    assert await scene.money() == (30, 0)
    assert scene.backend.request("a") is not None


async def test_the_next_attempt_of_a_request_begins_though_the_last_ones_hold_was_lost(scene: Scene) -> None:
    """Both are paid."""
    hold = await scene.store.open(wish("a:1", 40))
    scene.lose_everything()
    await scene.store.settle_and_open(paid("a:1", 20), replace(wish("a:2", 40), anchor_us=hold.anchor_us))
    await scene.store.settle(paid("a:2", 30))
    assert await scene.money() == (50, 0)
    assert scene.store.room([ACME]).left_nusd == 50


async def test_a_request_that_ends_because_the_backlog_is_full_has_its_summary(scene: Scene) -> None:
    """Its last attempt was settled in the step that opened no further one; what it comes to is written all the same."""
    hold = await scene.store.open(wish("a:1", 40))
    scene.backend.server.command("SET", scene.backend.key("backlog"), BACKLOG_BYTES + 1)
    with pytest.raises(StoreUnavailable, match="wait in Redis for PostgreSQL, which is the limit"):
        await scene.store.settle_and_open(paid("a:1", 20), replace(wish("a:2", 40), anchor_us=hold.anchor_us))
    await scene.store.settle(paid("a:1", 20, request=request("a")))
    scene.backend.server.command("SET", scene.backend.key("backlog"), 0)
    assert await scene.store.recover()
    assert await scene.money() == (20, 0)
    assert scene.backend.request("a") is not None


async def test_what_an_emptied_redis_does_not_know_was_lost_however_long_ago(scene: Scene) -> None:
    """A settlement got no answer, then the server was emptied, and budgets came back only after it would have forgotten
    how the hold ended: what the attempt cost is written all the same.
    """
    server, key = scene.backend.server, scene.backend.key("installation")
    server.command("SET", key, "an id")
    scene.redis.installation = "an id"
    await scene.store.open(wish("a:1", 40))
    scene.backend.client(scene.redis).cut = Cut.UNSENT
    await scene.store.settle(paid("a:1", 30, request=request("a")))
    scene.lose_everything()
    for _ in range(3):
        scene.clock.advance(400)
        assert not await scene.store.recover()
    server.command("SET", key, "an id")
    assert await scene.store.recover()
    assert await scene.money() == (30, 0)
    assert scene.backend.request("a") is not None
