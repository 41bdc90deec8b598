"""Two replicas that share pools through a real Redis: load, out-of-memory and wakes of one are known to the other."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pools.failures.classes import AttemptFailed, FailureClass
from pools.live.all_pools import LivePools, LiveSettings
from pools.live.breaker import BreakerLimits, ShapeBreaker
from pools.live.state import PoolState, shape_bucket
from pools.spec import KvCache
from pricing.budgets.store import MeterEntry
from pricing.clock import ManualClock
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.meters import SharedMeters
from pricing.redis.signals import SharedSignals
from pricing.redis.store import RedisStore
from support.money import cap, caps, wish
from support.real_redis import RedisServer
from support.values import replace

POOL = "l4"
COOLDOWN_S = 300.0


@dataclass(frozen=True)
class Needs:
    """A request's size: its KV tokens are its tokens."""

    total_tokens: int

    def kv_tokens(self, cache: KvCache) -> int:
        return self.total_tokens


@dataclass(frozen=True)
class Limits:
    shape_cooldown_s: float = COOLDOWN_S

    @property
    def breaker(self) -> BreakerLimits:
        return self

    failures: int = 5
    window_s: float = 30.0
    half_open_after_s: float = 15.0


OUT = AttemptFailed(FailureClass.OUT_OF_MEMORY, "CUDA out of memory")
DIED = AttemptFailed(FailureClass.UNAVAILABLE, "engine dead", engine_died=True)


class Replica:
    """What one process has: a store, the meters, the signals, and what it believes of pools."""

    def __init__(self, client: RedisClient, clock: ManualClock, namespace: str, name: str) -> None:
        now = clock.wall_us
        self.store = RedisStore(client, clock, caps(cap(10**15)), replica=name, namespace=namespace, now=now)
        self.meters = SharedMeters(client, namespace, name, clock, now=now)
        self.signals = SharedSignals(client, namespace, name, clock, now=now)
        self.live = LivePools(
            clock,
            on_change=self.meters.set_containers,
            on_missed=self.meters.missed,
            elsewhere=self.meters.elsewhere,
            shapes=self.signals,
        )
        self.meters.on_heard = lambda heard: self.live.heard(*heard)
        self.meters.set_rate(POOL, clock.wall_us(), 3_600_000_000, 4)
        self.live.configure({POOL: LiveSettings(boot_s=40, scaledown_window_s=60)})

    async def run(self, member: str, tokens: int) -> None:
        self.live.enter(POOL, member, Needs(tokens))
        await self.store.open(replace(wish(member, 10), meter=MeterEntry(POOL, kv_tokens=tokens)))

    async def end(self, member: str) -> None:
        await self.meters.leave(POOL, member)
        self.live.leave(POOL, member)

    async def tick(self) -> PoolState:
        await self.meters.read([])
        self.live.heard_shapes(await self.signals.shapes([POOL]))
        return self.live.state(POOL)

    def fails(self, failure: AttemptFailed, tokens: int) -> None:
        self.live.failed(POOL, failure, Needs(tokens), 0, Limits())


@dataclass
class Two:
    clock: ManualClock
    one: Replica
    two: Replica

    async def later(self, seconds: int) -> None:
        """Time passes, with a tick of both each second."""
        for _ in range(seconds):
            self.clock.advance(1)
            await self.one.tick()
            await self.two.tick()


@pytest.fixture
async def replicas(redis_server: RedisServer) -> AsyncIterator[Two]:
    clock, namespace = ManualClock(), uuid.uuid4().hex
    clients = [RedisClient(RedisAddress.from_url(redis_server.url)) for _ in range(2)]
    for client in clients:
        await client.connect()
    one, two = (Replica(client, clock, namespace, name) for client, name in zip(clients, ("one", "two"), strict=True))
    await one.tick()
    await two.tick()
    yield Two(clock, one, two)
    for each, client in zip((one, two), clients, strict=True):
        await each.signals.aclose()
        await each.meters.aclose()
        await client.aclose()


async def test_admission_counts_what_other_replicas_run(replicas: Two) -> None:
    """Both requests and KV tokens of the pool are those of all replicas; one's own are counted once."""
    await replicas.one.run("a:1", 1_000)
    await replicas.two.run("b:1", 200)
    for each in (replicas.one, replicas.two):
        state = await each.tick()
        assert (state.in_flight, state.kv_tokens_in_flight) == (2, 1_200)
        assert each.live.in_flight([POOL]) == 2
    await replicas.one.end("a:1")
    state = await replicas.two.tick()
    assert (state.in_flight, state.kv_tokens_in_flight) == (1, 200)


async def test_a_pool_is_idle_when_nobody_uses_it(replicas: Two) -> None:
    """Its window runs from the last end on any replica, so that it does not look asleep to one and awake to another."""
    replicas.one.live.pool(POOL).seen_ready()
    await replicas.later(50)
    await replicas.one.run("a:1", 10)
    await replicas.later(50)
    assert replicas.two.live.state(POOL).idle_s is None
    await replicas.one.end("a:1")
    await replicas.later(20)
    for each in (replicas.one, replicas.two):
        state = each.live.state(POOL)
        assert (state.idle_s, state.ready) == (20.0, 1)
    await replicas.later(41)
    assert (replicas.one.live.state(POOL).ready, replicas.two.live.state(POOL).ready) == (0, 0)


async def test_a_container_that_one_replica_met_is_known_to_all(replicas: Two) -> None:
    """Where no platform lists containers."""
    replicas.one.live.pool(POOL).waking()
    await replicas.one.tick()
    assert (await replicas.two.tick()).booting == 1
    replicas.one.live.pool(POOL).seen_ready()
    await replicas.one.tick()
    state = await replicas.two.tick()
    assert (state.ready, state.booting) == (1, 0)
    assert replicas.two.live.pool(POOL).became_ready.is_set()


async def test_out_of_memory_on_one_replica_is_out_on_all_within_a_tick(replicas: Two) -> None:
    """The shape is not tried again by a replica that has not seen it fail."""
    replicas.one.fails(OUT, 3_000)
    await replicas.one.tick()
    replicas.clock.advance(10)
    state = await replicas.two.tick()
    assert state.shapes_open == {shape_bucket(3_000)}
    assert state.shapes_retry_s == pytest.approx(COOLDOWN_S - 10)
    replicas.clock.advance(COOLDOWN_S)
    assert (await replicas.two.tick()).shapes_open == frozenset()


async def test_deaths_that_different_replicas_saw_count_together(replicas: Two) -> None:
    """One death is no proof, and is one however many replicas report it; a second one is."""
    replicas.one.fails(DIED, 3_000)
    replicas.two.fails(DIED, 3_000)
    await replicas.one.tick()
    assert (await replicas.two.tick()).shapes_open == frozenset()
    replicas.clock.advance(60)
    replicas.two.fails(DIED, 3_000)
    await replicas.two.tick()
    assert (await replicas.one.tick()).shapes_open == {shape_bucket(3_000)}


async def test_one_replica_wakes_a_pool_and_its_lease_ends_by_itself(replicas: Two) -> None:
    """Renewed by its holder, refused to the other, free once the holder is silent."""
    one, two = replicas.one.signals, replicas.two.signals
    assert await one.claim_wake(POOL, 10)
    assert not await two.claim_wake(POOL, 10)
    replicas.clock.advance(8)
    assert await one.claim_wake(POOL, 10)
    replicas.clock.advance(8)
    assert not await two.claim_wake(POOL, 10)
    replicas.clock.advance(2)
    assert await two.claim_wake(POOL, 10)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seen=st.lists(
        st.tuples(
            st.sampled_from(["out_of_memory", "engine_died"]),
            st.integers(8, 10),
            st.sampled_from([1, 4, 5, 60, 299, 300, 1_799, 1_800]),
        ),
        max_size=12,
    )
)
async def test_replicas_together_judge_as_one_would_alone(redis_server: RedisServer, seen: list[Any]) -> None:
    """The rules in Redis are those of the breaker in this process, for any sequence of reports."""
    clock, alone = ManualClock(), ShapeBreaker()
    client = RedisClient(RedisAddress.from_url(redis_server.url))
    await client.connect()
    shared = SharedSignals(client, uuid.uuid4().hex, "one", clock, now=clock.wall_us)
    for kind, shape, pause_s in seen:
        getattr(alone, kind)(shape, clock.mono_us(), COOLDOWN_S)
        getattr(shared, kind)(POOL, shape, COOLDOWN_S)
        clock.advance(pause_s)
        found = (await shared.shapes([POOL]))[POOL]
        assert set(found) == alone.open_shapes(clock.mono_us())
        assert max(found.values(), default=0) == alone.retry_s(clock.mono_us())
    await client.aclose()
