"""What the router believes about all pools just now.

`states()` is asked for by every request: snapshots are made again only when something happened, or after `SNAPSHOT_S`,
since they hold times that pass by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pools.containers import Containers, OnChange, OnMissed
from pools.failures import AttemptFailed
from pools.live_pool import SNAPSHOT_S, FailureLimits, LivePool, LiveSettings, Sized
from pools.platform import ContainerInfo
from pools.state import PoolState
from pricing.clock import US_PER_S, Clock

__all__ = ["LivePools", "LiveSettings"]


class LivePools:
    """Belief about all pools. Every method belongs to the event loop's thread.

    `on_change(pool, now_us, ready, booting)` and `on_missed(pool, phase, duration_us)` tell the meter about containers:
    see `pools.containers`.
    """

    def __init__(self, clock: Clock, *, on_change: OnChange, on_missed: OnMissed) -> None:
        self._clock = clock
        self._on_change = on_change
        self._on_missed = on_missed
        self._pools: dict[str, LivePool] = {}
        self._states: dict[str, PoolState] = {}
        self._fresh_until_us = 0
        self._room = asyncio.Event()

    def configure(self, settings: Mapping[str, LiveSettings]) -> None:
        """Take the pools of the files, and keep what is known of those that stay.

        A pool that went is kept as one without an endpoint: requests that began under the old files may still use it.
        """
        for name, pool in self._pools.items():
            if name not in settings:
                pool.configure(replace(pool.settings, deployed=False))
        for name, each in settings.items():
            if name not in self._pools:
                containers = Containers(name, self._clock.wall_us(), self._on_change, self._on_missed)
                self._pools[name] = LivePool(name, each, self._clock, containers, self._touched)
            self._pools[name].configure(each)
        self._touched()

    def pool(self, name: str) -> LivePool:
        """Raises KeyError for a pool that no files named."""
        return self._pools[name]

    def states(self) -> Mapping[str, PoolState]:
        """A snapshot of every pool. The mapping is never changed afterwards."""
        now_us = self._clock.mono_us()
        if now_us >= self._fresh_until_us:
            self._states = {name: pool.state(now_us) for name, pool in self._pools.items()}
            self._fresh_until_us = now_us + round(SNAPSHOT_S * US_PER_S)
        return self._states

    def state(self, name: str) -> PoolState:
        return self._pools[name].state(self._clock.mono_us())

    # -- requests --------------------------------------------------------------------------------------------------

    def claim(self, pool: str, member: str) -> None:
        """Right after the decision: a half-open pool's one probe is this request."""
        self._pools[pool].claim(member)

    def enter(self, pool: str, member: str, needs: Sized) -> None:
        self._pools[pool].enter(member, needs)

    def leave(self, pool: str, member: str) -> None:
        self._pools[pool].leave(member)
        self._wake_those_who_wait_for_room()

    def answering(self, pool: str, ttft_s: float) -> None:
        self._pools[pool].answering(ttft_s)

    def answered(self, pool: str) -> None:
        self._pools[pool].answered()

    def failed(self, pool: str, failure: AttemptFailed, total_tokens: int, limits: FailureLimits) -> None:
        self._pools[pool].failed(failure, total_tokens, limits)

    def in_flight(self, pools: Iterable[str]) -> int:
        """Requests running in these pools together."""
        return sum(self._pools[name].in_flight for name in pools if name in self._pools)

    async def wait_for_room(self, timeout_s: float) -> bool:
        """True once a request has left some pool or a container has come; False after `timeout_s`."""
        try:
            async with self._clock.timeout(timeout_s):
                return await self._room.wait()
        except TimeoutError:
            return False

    # -- containers ------------------------------------------------------------------------------------------------

    def observe_containers(self, now_us: int, listed: Mapping[str, Sequence[ContainerInfo]]) -> None:
        """Take in the platform's list at an instant of wall time. A pool that is not in it has no container, unless
        it is a plain server that no platform runs.
        """
        for name, pool in self._pools.items():
            if name in listed or not pool.settings.always_on:
                pool.observe(now_us, listed.get(name, ()))
        self._wake_those_who_wait_for_room()

    def _wake_those_who_wait_for_room(self) -> None:
        self._room.set()  # wakes all who wait now ...
        self._room.clear()  # ... and none of those who come later

    def _touched(self) -> None:
        self._fresh_until_us = 0
