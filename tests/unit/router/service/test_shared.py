"""A replica's part in what replicas share: whose Redis it is, and whether the clocks agree."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import chain

import pytest

from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.outage import OutageStore
from pricing.clock import ManualClock
from pricing.errors import StoreUnavailable
from pricing.ledger.installation import remember_id
from pricing.ledger.place import PostgresUrl
from pricing.ledger.upgrade import ensure_current
from pricing.redis.address import RedisAddress
from pricing.redis.installation import ANOTHERS, LOST
from router.service.parts import Parts
from router.service.settings import Settings
from router.service.shared import SKEW_S, SKEWED, Shared
from router.service.store_gauges import StoreGauges
from support.money import cap, caps
from support.real_redis import RedisServer

TABLE = caps(cap(100))
NOWHERE = PostgresUrl("postgresql://nobody@127.0.0.1:1/none")


@dataclass
class Scene:
    """A namespace on a real Redis, and replicas of it whose clock stands still."""

    server: RedisServer
    namespace: str
    clock: ManualClock
    made: list[Shared]

    def key(self, name: str) -> str:
        return f"{{{self.namespace}}}:{name}"

    def replica(self, ledger: PostgresUrl) -> Shared:
        redis = RedisAddress.from_url(self.server.url)
        settings = Settings(ledger=ledger, redis=redis, namespace=self.namespace, replica=f"r{len(self.made)}")
        self.made.append(Shared(settings, self.clock, TABLE, on_warn=lambda _: None))
        return self.made[-1]


@pytest.fixture
async def scene(redis_server: RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    made = Scene(redis_server, f"shared-{id(request)}", ManualClock(time.time_ns() // 1000), [])
    yield made
    for shared in made.made:
        await shared.store.aclose()
        await shared.aclose()


async def test_a_redis_without_an_id_waits_for_the_ledger(scene: Scene, postgres_url: str) -> None:
    """It may be new or have lost everything: nobody serves from it before the ledger has said which."""
    with pytest.raises(StoreUnavailable, match="only the ledger can tell: ledger postgresql://127"):
        await scene.replica(NOWHERE).begin()
    url = PostgresUrl(postgres_url)
    new = scene.replica(url)
    await new.begin()
    assert new.store.installation is None
    ensure_current(url)
    remember_id(url, scene.namespace, "an id")
    with pytest.raises(StoreUnavailable) as lost:
        await scene.replica(url).begin()
    assert str(lost.value) == LOST


async def test_a_redis_with_an_id_is_used_without_the_ledger_until_that_is_another_ones(
    scene: Scene, postgres_url: str
) -> None:
    """Its id is what must stay there from then on; where the ledger knows another, it is the ledger that counts."""
    scene.server.command("SET", scene.key("installation"), "an id")
    alone = scene.replica(NOWHERE)
    await alone.begin()
    assert alone.store.installation == "an id"
    scene.server.command("DEL", scene.key("installation"))
    with pytest.raises(StoreUnavailable) as lost:
        await alone.begin()
    assert str(lost.value) == LOST
    scene.server.command("SET", scene.key("installation"), "another")
    with pytest.raises(StoreUnavailable) as others:
        await alone.store.expire()
    assert str(others.value) == ANOTHERS


@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0, 0.0])
async def test_how_far_clocks_are_apart_is_measured_and_warned_of(scene: Scene, ahead_s: float) -> None:
    """`sluice_store_clock_skew_seconds` is Redis's time less the replica's; beyond a few seconds there is a warning."""
    scene.clock.jump_wall(ahead_s)
    scene.server.command("SET", scene.key("installation"), "an id")
    shared = scene.replica(NOWHERE)
    await shared.begin()
    await shared.store.refresh([])
    await shared.store.expire()
    await shared.look_around()
    meters = LocalMeters(scene.clock, _nowhere)
    store = OutageStore(shared.store, scene.clock, TABLE, meters, on_change=lambda _: None, jitter=lambda: 1.0)
    gauges = StoreGauges(Parts(store, shared.meters, shared)).collect()
    samples = {sample.name: sample.value for sample in chain.from_iterable(family.samples for family in gauges)}
    assert abs(samples["sluice_store_clock_skew_seconds"] + ahead_s) < SKEW_S
    assert (SKEWED in shared.weaknesses) == (ahead_s != 0)


async def _nowhere(_: object) -> None:
    """No boot or idle time here."""
