"""Single-flight wake-ups: many wait, one wake goes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pools.live.all_pools import LivePools, LiveSettings
from pools.live.warmup import SHARED_LEASE_S, WarmUps
from pools.platform import ContainerInfo, PlatformUnavailable
from pricing.clock import Clock, ManualClock, ScaledClock
from pricing.errors import StoreUnavailable


@dataclass
class Platform:
    """Boots a container within `boot_s` of a wake; refuses the first `refusals` calls."""

    clock: Clock
    boot_s: float = 30.0
    refusals: int = 0
    woken: list[str] = field(default_factory=list)
    up: dict[str, int] = field(default_factory=dict)

    async def containers(self) -> Mapping[str, tuple[ContainerInfo, ...]]:
        now = self.clock.wall_us()
        return {
            pool: (ContainerInfo("c", "ready" if ready <= now else "booting", now, ready if ready <= now else None),)
            for pool, ready in self.up.items()
        }

    async def wake(self, pool: str) -> None:
        if self.refusals:
            self.refusals -= 1
            raise PlatformUnavailable("not now")
        self.woken.append(pool)
        self.up[pool] = self.clock.wall_us() + round(self.boot_s * 1e6)

    async def aclose(self) -> None:
        return None


def pools(clock: Clock) -> LivePools:
    live = LivePools(clock, on_change=lambda *_: None, on_missed=lambda *_: None)
    live.configure({"p": LiveSettings(boot_s=40, scaledown_window_s=60)})
    return live


async def settled(condition: Callable[[], bool]) -> None:
    """Let other tasks run until it holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- the condition is another object's state, which has no event
            await asyncio.sleep(0)


async def test_many_wait_and_one_wake_goes_out() -> None:
    """All of them are released when the container is ready."""
    clock = ManualClock()
    live, platform = pools(clock), Platform(clock)
    warmups = WarmUps(live, clock, platform)
    assert await asyncio.gather(*(warmups.wait_ready("p", 600) for _ in range(20))) == [True] * 20
    assert platform.woken == ["p"]
    assert live.state("p").ready == 1


async def test_a_pool_that_is_ready_is_not_woken() -> None:
    """Waiting for it ends at once."""
    clock = ManualClock()
    live, platform = pools(clock), Platform(clock)
    live.pool("p").seen_ready()
    assert await WarmUps(live, clock, platform).wait_ready("p", 60)
    assert platform.woken == []


async def test_a_wake_that_the_platform_refused_is_tried_again() -> None:
    """Three refusals, then it boots."""
    clock = ManualClock()
    live, platform = pools(clock), Platform(clock, refusals=3)
    assert await WarmUps(live, clock, platform).wait_ready("p", 600)
    assert platform.woken == ["p"]


async def test_a_boot_that_came_to_nothing_is_asked_for_again_while_someone_waits() -> None:
    """The lease is twice the boot model; after it the pool is woken anew."""
    clock = ManualClock()
    live, platform = pools(clock), Platform(clock, boot_s=10_000)
    waiting = asyncio.create_task(WarmUps(live, clock, platform).wait_ready("p", 600))
    await settled(lambda: len(platform.woken) == 2)
    platform.up["p"] = clock.wall_us()
    assert await waiting


async def test_a_wait_ends_with_its_time_and_the_boot_goes_on() -> None:
    """False for the one whose deadline was short; the pool is looked at until its lease ends."""
    clock = ScaledClock(400)
    live, platform = pools(clock), Platform(clock, boot_s=20)
    warmups = WarmUps(live, clock, platform)
    assert not await warmups.wait_ready("p", 2)
    assert live.state("p").booting == 1
    assert await warmups.wait_ready("p", 60)
    assert platform.woken == ["p"]
    await warmups.aclose()


async def test_nobody_waiting_lets_a_failed_wake_rest() -> None:
    """`start` alone gives up with the lease, and a later one tries again."""
    clock = ManualClock()
    live, platform = pools(clock), Platform(clock, refusals=10**6)
    warmups = WarmUps(live, clock, platform)
    warmups.start("p")
    await settled(lambda: not waking())
    assert platform.woken == []
    assert clock.mono_us() >= 80_000_000
    platform.refusals = 0
    warmups.start("p")
    await settled(lambda: live.state("p").ready == 1)


def waking() -> list[str]:
    """The wake-ups under way."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("wake ")]


async def test_without_a_platform_the_pool_itself_is_asked() -> None:
    """The first knock starts the boot, further ones see it through; one series of knocks serves all."""
    clock = ManualClock()
    live = pools(clock)
    knocked: list[int] = []

    async def knock(pool: str, timeout_s: float) -> bool:
        knocked.append(clock.mono_us())
        return clock.mono_us() >= 30_000_000

    warmups = WarmUps(live, clock, knock=knock)
    assert await asyncio.gather(*(warmups.wait_ready("p", 600) for _ in range(5))) == [True] * 5
    assert live.state("p").ready == 1
    assert knocked == sorted(set(knocked))


async def test_closing_ends_the_looking() -> None:
    """No task outlives `aclose`."""
    clock = ScaledClock()
    live, platform = pools(clock), Platform(clock)
    warmups = WarmUps(live, clock, platform)
    warmups.start("p")
    await settled(lambda: platform.woken == ["p"])
    await warmups.aclose()
    assert not waking()


@dataclass
class Leases:
    """One lease, as several replicas would share it."""

    clock: Clock
    holder: str = ""
    until_us: int = 0

    def of(self, replica: str) -> Lease:
        return Lease(self, replica)


@dataclass
class Lease:
    """One replica's hand on it; `down` says that nobody answers."""

    shared: Leases
    replica: str
    down: bool = False

    async def claim_wake(self, pool: str, lease_s: float) -> bool:
        if self.down:
            raise StoreUnavailable("nobody answers")
        shared, now_us = self.shared, self.shared.clock.mono_us()
        if shared.holder != self.replica and now_us < shared.until_us:
            return False
        shared.holder, shared.until_us = self.replica, now_us + round(lease_s * 1e6)
        return True


async def test_of_several_replicas_one_wakes_a_pool() -> None:
    """The others look until the container is there."""
    clock = ManualClock()
    platform, leases = Platform(clock), Leases(clock)
    replicas = [WarmUps(pools(clock), clock, platform, leases=leases.of(name)) for name in ("one", "two", "three")]
    assert await asyncio.gather(*(each.wait_ready("p", 600) for each in replicas)) == [True] * 3
    assert platform.woken == ["p"]


async def test_the_lease_of_a_replica_that_died_ends_by_itself() -> None:
    """It had not reached the platform yet: another one asks as soon as the lease is free, long before a boot's time."""
    clock = ManualClock()
    platform, leases = Platform(clock), Leases(clock)
    assert await leases.of("dead").claim_wake("p", SHARED_LEASE_S)
    begun_us = clock.mono_us()
    assert await WarmUps(pools(clock), clock, platform, leases=leases.of("one")).wait_ready("p", 600)
    assert platform.woken == ["p"]
    assert clock.mono_us() - begun_us < (SHARED_LEASE_S + 45) * 1e6


async def test_without_anybody_to_ask_every_replica_wakes_for_itself() -> None:
    """A boot too many costs less than requests that wait for none."""
    clock = ManualClock()
    platform = Platform(clock)
    assert await WarmUps(pools(clock), clock, platform, leases=Lease(Leases(clock), "one", down=True)).wait_ready(
        "p", 600
    )
    assert platform.woken == ["p"]
