"""Budgets that Redis has lost come back from the ledger's rows, and verifying then agrees."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pricing.budgets.store import Settlement
from pricing.errors import StoreUnavailable
from pricing.ledger.installation import known_id
from pricing.redis.changes import Change
from pricing.redis.restore import restore_budgets
from pricing.redis.store import RedisStore
from pricing.redis.verify import verify_shared
from support.money import cap, caps, request, row, wish
from support.shared_ledger import SharedLedger, shared_ledger
from support.values import replace


class Scene(SharedLedger):
    """A tenant that spends, and a Redis that forgets."""

    async def spend(self, hold_id: str, nusd: int) -> None:
        store = RedisStore(
            self.client,
            self.clock,
            caps(cap(10**12)),
            replica="r1",
            namespace=self.namespace,
            now=self.clock.wall_us,
        )
        await store.open(wish(hold_id, nusd))
        paid = replace(row(hold_id, nusd, at_us=self.clock.wall_us()), metered_nusd=nusd)
        summary = request(paid.request_id or "", at_us=self.clock.wall_us(), attempts=1)
        await store.settle(Settlement(hold_id, nusd, (paid,), summary))

    async def lose(self) -> None:
        keys = await self.client.command("KEYS", self.key("*"))
        await self.client.command("DEL", *keys)

    async def restore(self, write: bool = True) -> list[Change]:
        return await restore_budgets(self.client, self.namespace, self.url, write=write, now_us=self.clock.wall_us())

    async def spent(self) -> dict[bytes, bytes]:
        flat = await self.client.command("HGETALL", self.key("spent:tenant:acme"))
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def problems(self) -> tuple[str, ...]:
        return (await verify_shared(self.client, self.namespace, self.url)).problems


@pytest.fixture
async def scene(redis_url: str, postgres_url: str) -> AsyncIterator[Scene]:
    async with shared_ledger(redis_url, postgres_url) as ledger:
        made = Scene(ledger.client, ledger.url, ledger.namespace)
        yield made
        await made.aclose()


async def test_an_emptied_redis_gets_its_windows_back(scene: Scene) -> None:
    """Each 15 minutes have what was spent in them, a dry run changes nothing, a second run finds nothing to do."""
    await scene.spend("a:1", 700)
    scene.clock.advance(3600)
    await scene.spend("b:1", 50)
    before = await scene.spent()
    await scene.drain()
    await scene.lose()
    assert len(await scene.restore(write=False)) > 0
    assert await scene.spent() == {}
    await scene.restore()
    assert await scene.spent() == before
    assert await scene.problems() == ()
    assert await scene.restore() == []
    await scene.spend("c:1", 9)
    assert sum(map(int, (await scene.spent()).values())) == 759


async def test_what_still_waits_in_the_stream_is_counted_with_the_rest(scene: Scene) -> None:
    """After a crash that lost its last second, rows of the database and of the stream are one ledger."""
    await scene.spend("a:1", 700)
    await scene.drain()
    await scene.lose()
    await scene.spend("b:1", 50)
    await scene.restore()
    assert sum(map(int, (await scene.spent()).values())) == 750
    assert await scene.problems() == ()


async def test_a_redis_that_has_lost_its_budgets_is_down_until_they_are_restored(scene: Scene) -> None:
    """The tick after a loss says so, with the verb; once it has run, the store is whole again."""
    await scene.spend("a:1", 700)
    await scene.drain()
    await scene.restore()
    store = RedisStore(scene.client, scene.clock, caps(cap(10**12)), replica="r2", namespace=scene.namespace)
    store.installation = known_id(scene.url, scene.namespace)
    await store.start()
    await store.expire()
    await scene.lose()
    for step in (store.expire, store.start):
        with pytest.raises(StoreUnavailable, match="restore-budgets --write"):
            await step()
    await scene.restore()
    await store.start()
    await store.expire()
    await store.aclose()
