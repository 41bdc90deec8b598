"""Waking pools, once for all who wait.

A wake goes through the platform's control plane where there is one, else as one request to the pool itself, which boots
a sleeping pool just as a client's would. It holds a lease of `LEASE_TIMES` the pool's boot model: within it nobody
wakes the pool again; when it runs out without a container, and someone still waits, it is woken anew.

Among several replicas one wakes a pool: it has a shared lease, which it renews as long as it looks, and which ends soon
after a replica that died. The others look as well, and the first of them to find the lease free asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from pools.live.all_pools import LivePools
from pools.live.others import WakeLeases
from pools.platform import PlatformUnavailable, PoolPlatform
from pricing.clock import US_PER_S, Clock
from pricing.errors import StoreUnavailable

LEASE_TIMES: Final = 2.0  # of the boot model: as long as the pool is given before it is taken out of service
LOOKS_PER_BOOT: Final = 20  # how often a booting pool is looked at within its boot model ...
LOOK_AT_LEAST_S: Final = 0.25  # ... but not more often than this, seconds of the clock
RETRY_S: Final = (1.0, 2.0, 5.0)  # pauses after a wake that the platform did not take; the last one repeats
SHARED_LEASE_S: Final = 10.0  # twice the longest of these pauses: how long a replica may be silent about its wake ...
SHARED_LEASE_LOOKS: Final = 3  # ... or three looks, where that is longer

Knock = Callable[[str, float], Awaitable[bool]]  # pool, timeout_s -> a container answered


class WarmUps:
    """Single-flight wake-ups. `platform` may be replaced when the files change.

    `knock` asks the pool itself, as `HttpBackend.knock` does; it is used where there is no platform. `leases` say which
    replica wakes a pool; None where there is only this one.
    """

    def __init__(
        self,
        live: LivePools,
        clock: Clock,
        platform: PoolPlatform | None = None,
        knock: Knock | None = None,
        leases: WakeLeases | None = None,
    ) -> None:
        self.platform = platform
        self._live = live
        self._clock = clock
        self._knock = knock
        self._leases = leases
        self._waking: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, int] = {}

    async def wait_ready(self, pool: str, timeout_s: float) -> bool:
        """Wake the pool unless that is under way; True once a container is ready, False after `timeout_s`."""
        self._waiting[pool] = self._waiting.get(pool, 0) + 1
        try:
            async with self._clock.timeout(timeout_s):
                self.start(pool)
                return await self._live.pool(pool).became_ready.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting[pool] -= 1
            if not self._waiting[pool]:
                del self._waiting[pool]

    def start(self, pool: str) -> None:
        """Wake a pool without waiting for it. Does nothing where a container is ready or a wake is under way."""
        running = self._waking.get(pool)
        if (running is not None and not running.done()) or self._live.pool(pool).became_ready.is_set():
            return
        self._waking[pool] = asyncio.get_running_loop().create_task(self._wake(pool), name=f"wake {pool}")

    async def aclose(self) -> None:
        """Stop looking; boots that were asked for go on."""
        tasks = list(self._waking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wake(self, pool: str) -> None:
        """Ask, then look until a container is ready; again when a lease runs out and someone still waits."""
        ready = self._live.pool(pool).became_ready
        while not ready.is_set():
            until_us = self._clock.mono_us() + round(LEASE_TIMES * self._boot_s(pool) * US_PER_S)
            ours = await self._claimed(pool)
            if not ours or await self._ask(pool, until_us):
                self._live.pool(pool).waking()
                await self._watch(pool, ours, until_us)
            if pool not in self._waiting:
                return

    async def _watch(self, pool: str, ours: bool, until_us: int) -> None:
        """Look until a container is ready, the time is over, or the replica that woke the pool has gone."""
        ready = self._live.pool(pool).became_ready
        while not ready.is_set() and self._clock.mono_us() < until_us:
            await self._clock.sleep(self._pause_s(pool))
            await self._look(pool)
            if not ready.is_set() and await self._claimed(pool) and not ours:
                return

    async def _claimed(self, pool: str) -> bool:
        """Whether it is this replica's to wake the pool; renews its lease. Nobody to ask: a boot too many is better
        than none.
        """
        if self._leases is None:
            return True
        try:
            return await self._leases.claim_wake(pool, max(SHARED_LEASE_S, SHARED_LEASE_LOOKS * self._pause_s(pool)))
        except StoreUnavailable:
            return True

    def _boot_s(self, pool: str) -> float:
        return self._live.pool(pool).settings.boot_s

    def _pause_s(self, pool: str) -> float:
        return max(LOOK_AT_LEAST_S, self._boot_s(pool) / LOOKS_PER_BOOT)

    async def _ask(self, pool: str, until_us: int) -> bool:
        """True once the platform took the wake, or the pool itself was asked; False when the lease ran out."""
        if self.platform is None:
            await self._look(pool)
            return True
        pauses = iter(RETRY_S)
        pause_s = RETRY_S[-1]
        while self._clock.mono_us() < until_us:
            try:
                await self.platform.wake(pool)
            except PlatformUnavailable:
                pause_s = next(pauses, pause_s)
                await self._clock.sleep(pause_s)
                await self._claimed(pool)
            else:
                return True
        return False

    async def _look(self, pool: str) -> None:
        """See whether the container is up: in the platform's list, or by a knock, which on a pool that boots adds no
        cost.
        """
        if self.platform is None:
            if self._knock is not None and await self._knock(pool, LOOK_AT_LEAST_S):
                self._live.pool(pool).seen_ready()
            return
        try:
            listed = await self.platform.containers()
        except PlatformUnavailable as trouble:
            # What was last known of the others stays in force; the next look may get through.
            self._live.observe_containers(self._clock.wall_us(), trouble.listed, whole=False)
            return
        self._live.observe_containers(self._clock.wall_us(), listed)
