"""The simulated pools on a running clock: one timer for all of them, and a bell for each request that waits.

The engines compute many steps for each turn of the event loop. A turn comes when the next request is about to get its
first token or to end, and else every `TICK_S` of real time; all tokens of a turn leave in one write. Several tokens
in a chunk are also what vLLM sends under load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from pools.simulator.pool import Job, SimulatedPool
from pricing.clock import US_PER_S, Clock

TICK_S = 0.02  # real seconds
SHORTEST_TICK_S = 0.001  # milestones closer together than this share a turn


@dataclass(slots=True, eq=False)
class Ticket:
    """One request that waits for tokens. `bell` rings when there are more, or when it has ended."""

    job: Job
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    _seen: int = 0

    def ring_if_news(self) -> None:
        total = sum(self.job.produced())
        if total != self._seen or self.job.ending is not None:
            self._seen = total
            self.bell.set()

    async def news(self) -> None:
        await self.bell.wait()
        self.bell.clear()


class LivePools:
    """Pools by name on one clock. Instants are microseconds since the epoch and never go back."""

    def __init__(self, pools: Mapping[str, SimulatedPool], clock: Clock, origin_us: int) -> None:
        self.pools = pools
        self.clock = clock
        self._origin_us = origin_us
        self._tickets: dict[Ticket, SimulatedPool] = {}
        self._timer: asyncio.TimerHandle | None = None

    def now_us(self) -> int:
        return self._origin_us + self.clock.mono_us()

    def watch(self, pool: SimulatedPool, job: Job) -> Ticket:
        """Follow a request that was just placed; `forget` it when it is done with."""
        ticket = Ticket(job)
        self._tickets[ticket] = pool
        self._schedule()
        return ticket

    def forget(self, ticket: Ticket) -> None:
        del self._tickets[ticket]

    def ring_all(self) -> None:
        """Something happened outside the timer's turns."""
        for ticket in self._tickets:
            ticket.ring_if_news()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        self._timer = None
        now_us = self.now_us()
        for pool in set(self._tickets.values()):
            pool.advance(now_us)
        self.ring_all()
        if self._tickets:
            self._schedule()

    def _schedule(self) -> None:
        """Set the timer, or bring it forward."""
        milestones = [pool.next_milestone_us() for pool in set(self._tickets.values())]
        next_us = min((instant for instant in milestones if instant is not None), default=None)
        delay_s = TICK_S
        if next_us is not None:
            until_s = (next_us - self.now_us()) / US_PER_S / self.clock.speedup
            delay_s = min(max(until_s, SHORTEST_TICK_S), TICK_S)
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + delay_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(delay_s, self._turn)
