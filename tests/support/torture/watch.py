"""Somebody who trusts nobody: reads the store's own keys all the while, with a client that is not the product's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import redis.asyncio
from redis.exceptions import RedisError

from pricing.budgets.outage import SPARED_S
from support.torture.scene import Tenant

LOOK_EVERY_S: Final = 0.05
GRACE_S: Final = SPARED_S + 5.0  # a hold may outlive its lease while Redis is down, and for a while after that


@dataclass
class Watcher:
    """Looks at spent + held of every tenant, and at leases, again and again; `problems` says what should not be.

    Windows are a day and a run lasts minutes, so that all buckets count.
    """

    url: str
    prefix: str
    cast: Sequence[Tenant]
    problems: list[str] = field(default_factory=list)
    looks: int = 0
    nearest: float = 0.0  # how much of its cap the fullest tenant ever used

    async def run(self) -> None:
        """Until cancelled. While Redis is down there is nothing to see."""
        client = redis.asyncio.Redis.from_url(self.url, socket_timeout=1.0)
        try:
            while True:
                with contextlib.suppress(RedisError, OSError):
                    await self.look(client)
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await client.aclose()

    async def look(self, client: redis.asyncio.Redis) -> None:
        """Once, in one transaction."""
        async with client.pipeline(transaction=True) as pipe:
            for one in self.cast:
                pipe.hvals(f"{self.prefix}spent:tenant:{one.name}")
                pipe.hvals(f"{self.prefix}held:tenant:{one.name}")
            pipe.time()
            pipe.zrange(f"{self.prefix}leases", 0, 0, withscores=True)
            *sums, now, oldest = await pipe.execute()
        self.looks += 1
        for index, one in enumerate(self.cast):
            used = sum(int(value) for value in (*sums[2 * index], *sums[2 * index + 1]))
            self.nearest = max(self.nearest, used / one.cap_nusd)
            if used > one.cap_nusd:
                self.problems.append(f"{one.name}: spent and holds {used} of {one.cap_nusd} nano-dollars")
        late_s = now[0] + now[1] / 1e6 - oldest[0][1] / 1e6 if oldest else 0.0
        if late_s > GRACE_S:
            self.problems.append(f"hold {oldest[0][0].decode()} is open {late_s:.1f} s after its lease")
