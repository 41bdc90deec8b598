"""Wakes of pools on Modal: a raised `min_containers` that goes back by itself.

A wake is a lease: as soon as a container serves, or after `LEASE_TIMES` the boot model, the setting is the row's again.
A deployment in between resets it; the next list finds that, and asks again while the lease runs. What a router that
died left behind would bill until the next deployment: the settings of pools that serve are looked at now and then, and
a minimum that is not the row's is taken back. So a row's `min_containers` is what holds; to keep more, change the row.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Collection, Mapping
from contextlib import suppress
from typing import Final, Protocol

from pools.modal.errors import NotDeployed
from pools.modal.settings import Watched
from pools.platform import PlatformUnavailable
from pricing.clock import US_PER_S, Clock

LOGGER: Final = logging.getLogger("sluice.modal")
LEASE_TIMES: Final = 2.0
"""Of the boot model: as long as the router waits for a wake."""

LOOK_S: Final = 300.0
"""How often the settings of pools that serve are looked at."""


class Autoscalers(Protocol):
    """The `min_containers` of deployed pools. Both raise PlatformUnavailable."""

    async def minimum(self, pool: str) -> int: ...

    async def set_minimum(self, pool: str, containers: int) -> None: ...


class Leases:
    """The wakes of this process."""

    def __init__(self, pools: Mapping[str, Watched], autoscalers: Autoscalers, clock: Clock) -> None:
        self._pools = pools
        self._autoscalers = autoscalers
        self._clock = clock
        self._until_us: dict[str, int] = {}  # monotonic
        self._look_us = clock.mono_us()

    def configure(self, pools: Mapping[str, Watched]) -> None:
        """Rows have changed. Pools that are leased must stay among them."""
        self._pools = pools

    @property
    def held(self) -> Collection[str]:
        return self._until_us.keys()

    async def take(self, pool: str) -> None:
        """Raise the minimum to one. Raises PlatformUnavailable; it is leased all the same, since an answer that is lost
        leaves open whether the minimum was raised; of a pool that is not deployed there is none.
        """
        self._until_us[pool] = self._clock.mono_us() + round(LEASE_TIMES * self._pools[pool].boot_s * US_PER_S)
        try:
            await self._autoscalers.set_minimum(pool, self._leased(pool))
        except NotDeployed:
            self._until_us.pop(pool, None)
            raise

    async def keep(self, alive: Collection[str], serving: Collection[str]) -> None:
        """After each list: end what is over, renew what was reset, take back what nobody leases. `alive` pools have a
        container, those `serving` one that is ready. Raises PlatformUnavailable once it has asked for every pool; the
        next list goes on.
        """
        now_us = self._clock.mono_us()
        troubles: list[str] = []
        for pool, until_us in list(self._until_us.items()):
            is_over = pool in serving or now_us >= until_us
            troubles += await _trouble_of(pool, self._end(pool) if is_over else self._renew(pool, alive))
        if now_us >= self._look_us:
            self._look_us = now_us + round(LOOK_S * US_PER_S)
            for pool in sorted(serving):
                troubles += await _trouble_of(pool, self._take_back(pool))
        if troubles:
            raise PlatformUnavailable("; ".join(troubles))

    async def _renew(self, pool: str, alive: Collection[str]) -> None:
        if pool not in alive and await self._autoscalers.minimum(pool) < self._leased(pool):
            LOGGER.warning("a deployment reset a wake; asking again", extra={"fields": {"pool": pool}})
            await self._autoscalers.set_minimum(pool, self._leased(pool))

    async def end_all(self) -> None:
        """Nobody is left who would: what cannot be taken back is said."""
        for pool in list(self._until_us):
            try:
                await self._end(pool)
            except PlatformUnavailable as trouble:
                LOGGER.error(
                    "a wake was not taken back; it bills", extra={"fields": {"pool": pool, "detail": str(trouble)}}
                )

    def _leased(self, pool: str) -> int:
        return max(1, self._pools[pool].min_containers)

    async def _end(self, pool: str) -> None:
        with suppress(NotDeployed):  # its App is gone, and what was raised with it
            await self._autoscalers.set_minimum(pool, self._pools[pool].min_containers)
        self._until_us.pop(pool, None)

    async def _take_back(self, pool: str) -> None:
        found = await self._autoscalers.minimum(pool)
        if found != self._pools[pool].min_containers:
            fields = {"pool": pool, "min_containers": found, "row": self._pools[pool].min_containers}
            LOGGER.warning("min_containers was not the row's; taken back", extra={"fields": fields})
            await self._autoscalers.set_minimum(pool, self._pools[pool].min_containers)


async def _trouble_of(pool: str, step: Awaitable[None]) -> list[str]:
    """What went wrong, so that the next pool is asked for all the same."""
    try:
        await step
    except PlatformUnavailable as trouble:
        return [f"{pool}: {trouble}"]
    return []
