"""Budgets that Redis has lost come back from the ledger's rows, and verifying then agrees."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pricing.budgets.store import Settlement
from pricing.errors import StoreUnavailable
from pricing.ledger.installation import known_id
from pricing.redis.changes import Change
from pricing.redis.restore import Restoring, restore_budgets
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


async def test_nothing_is_spent_between_a_loss_and_the_look_that_finds_it(scene: Scene) -> None:
    """The script that opens holds finds an emptied server by itself, and one that is another installation's."""
    store = RedisStore(scene.client, scene.clock, caps(cap(10**12)), replica="r1", namespace=scene.namespace)
    await scene.restore()
    store.installation = known_id(scene.url, scene.namespace)
    await store.start()
    await store.open(wish("a:1", 9))
    await scene.lose()
    with pytest.raises(StoreUnavailable, match="restore-budgets --write"):
        await store.open(wish("b:1", 9))
    await scene.client.command("SET", scene.key("installation"), "another")
    with pytest.raises(StoreUnavailable, match="the budgets of another ledger"):
        await store.open(wish("c:1", 9))
    await store.aclose()


async def test_verifying_an_emptied_redis_does_not_agree(scene: Scene) -> None:
    """Neither at once, when its stream begins anew before all that the ledger has, nor once it has gone on."""
    await scene.spend("a:1", 700)
    await scene.restore()
    await scene.drain()
    await scene.lose()
    emptied = await scene.problems()
    assert any("restore-budgets --write" in problem for problem in emptied)
    assert any("tenant acme: its ledger rows are $0.000000700, its budgets say $0.000000000" in one for one in emptied)
    await scene.spend("b:1", 50)
    assert any("restore-budgets --write" in problem for problem in await scene.problems())
    await scene.restore()
    assert await scene.problems() == ()


async def test_a_redis_that_lost_its_end_is_told_from_one_that_did_not(scene: Scene) -> None:
    """Rows beyond the end of its stream count, and are named as what they are."""
    await scene.spend("a:1", 700)
    await scene.drain()
    kept = await scene.client.command("DUMP", scene.key("rows"))
    spent = await scene.client.command("HGETALL", scene.key("totals"))
    await scene.spend("b:1", 50)
    await scene.drain()
    await scene.client.command("RESTORE", scene.key("rows"), 0, kept, "REPLACE")
    await scene.client.command("HSET", scene.key("totals"), *spent)
    problems = await scene.problems()
    assert "Redis has lost what came last" in problems[0]
    assert "tenant acme: its ledger rows are $0.000000750, its budgets say $0.000000700" in problems


async def test_nothing_is_taken_from_a_budget(scene: Scene) -> None:
    """A ledger that has lost rows, or has set some aside, gives no money back."""
    await scene.spend("a:1", 700)
    await scene.drain()
    await scene.spend("b:1", 50)
    [entry] = await scene.stream.range("-", "+", 10)
    await scene.stream.set_aside(entry, "for a test")
    assert not [change for change in await scene.restore() if "tenant:" in change.name]
    await scene.lose()
    await scene.spend("c:1", 5)
    scene.query("DELETE FROM ledger_rows")
    await scene.restore()
    assert sum(map(int, (await scene.spent()).values())) == 5


async def test_one_restores_at_a_time_and_only_for_as_long_as_its_lease_is_its_own(scene: Scene) -> None:
    """A second one is refused; one that lost its lease, or whose server was emptied meanwhile, writes nothing more."""
    await scene.spend("a:1", 700)
    await scene.drain()
    await scene.client.command("SET", scene.key("restoring"), "another", "PX", 20_000)
    with pytest.raises(StoreUnavailable, match=r"somebody restores budgets just now.*in (20|19) s"):
        await scene.restore()
    await scene.client.command("DEL", scene.key("restoring"))
    await scene.lose()
    mine = Restoring(scene.client, scene.namespace)
    await mine.begin()
    await scene.lose()
    change = Change("tenant:acme", {0: 700}, "totals", "tenant:acme", 700)
    for step in (mine.write(change, scene.clock.wall_us()), mine.done("id")):
        with pytest.raises(StoreUnavailable, match="run `sluice ledger restore-budgets --write` again"):
            await step
    await mine.end()
    assert await scene.client.command("KEYS", scene.key("*")) == []
    await scene.restore()
    assert await scene.client.command("EXISTS", scene.key("restoring")) == 0
    assert await scene.problems() == ()
