"""What replicas tell each other of pools, beside their meters: shapes that ran out of memory, and who wakes a pool.

A failure that one replica paid for need not be paid for by all, and a boot that one has asked for need not be bought
twice. Nothing here is money: while Redis is down, each replica goes by what it sees itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from pricing.clock import US_PER_S, Clock
from pricing.redis.client import RedisClient
from pricing.redis.connection import Word
from pricing.redis.outbox import Outbox
from pricing.redis.steps import Steps


class _Report(NamedTuple):
    kind: Literal["out_of_memory", "engine_died"]
    pool: str
    shape: int
    mono_us: int
    cooldown_us: int


class SharedSignals:
    """One replica's part in them. `now` gives the instants of all steps, microseconds since the epoch; None: the
    server's clock does. Belongs to one event loop.
    """

    def __init__(
        self, client: RedisClient, namespace: str, replica: str, clock: Clock, *, now: Callable[[], int] | None = None
    ) -> None:
        self._steps = Steps(client, namespace, clock, now)
        self._replica = replica
        self._clock = clock
        self._reports = Outbox(client, self._send)

    # -- shapes ----------------------------------------------------------------------------------------------------

    def out_of_memory(self, pool: str, shape: int, cooldown_s: float) -> None:
        """An engine said so: the shape is out, for every replica. Does not wait."""
        self._report("out_of_memory", pool, shape, cooldown_s)

    def engine_died(self, pool: str, largest_shape: int, cooldown_s: float) -> None:
        """A strike on the largest shape in flight; a second one, whoever saw it, puts the shape out. Does not wait."""
        self._report("engine_died", pool, largest_shape, cooldown_s)

    async def shapes(self, pools: Iterable[str]) -> Mapping[str, Mapping[int, float]]:
        """The shapes of each pool that are out, with the seconds that are left. Raises StoreUnavailable."""
        await self._reports.flush()
        asked = tuple(pools)
        replies = await self._steps.run("shapes_read", *asked)
        return {
            pool: {shape: left_us / US_PER_S for shape, left_us in zip(found[::2], found[1::2], strict=True)}
            for pool, found in zip(asked, replies, strict=True)
        }

    def _report(self, kind: Literal["out_of_memory", "engine_died"], pool: str, shape: int, cooldown_s: float) -> None:
        self._reports.put(_Report(kind, pool, shape, self._clock.mono_us(), round(cooldown_s * US_PER_S)))

    async def _send(self, reports: Sequence[_Report]) -> None:
        words: list[Word] = []
        for report in reports:
            age_us = self._clock.mono_us() - report.mono_us
            words += [report.kind, report.pool, report.shape, age_us, report.cooldown_us]
        await self._steps.run("shapes_report", *words)

    # -- waking ----------------------------------------------------------------------------------------------------

    async def claim_wake(self, pool: str, lease_s: float) -> bool:
        """Take the lease on waking a pool, or renew it; False where another replica has it. It ends by itself.

        Raises StoreUnavailable.
        """
        taken: int = await self._steps.run("warm", pool, self._replica, round(lease_s * US_PER_S))
        return taken == 1

    async def aclose(self) -> None:
        """Send what is left to be said, where that is possible."""
        await self._reports.aclose()
