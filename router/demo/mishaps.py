"""What goes wrong in the demo: one out-of-memory, one hang, one stream that breaks, each on a pool that is in use."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pricing.clock import US_PER_S, Clock
from router.demo.control import Control
from router.demo.load import Outcome
from router.demo.plan import PlannedRequest

RECENT: Final = 60
"""Answers that say which pools are in use."""


@dataclass(frozen=True, slots=True)
class Mishap:
    """Strikes one request after `share` of all have been sent."""

    name: str
    share: float
    fault: Mapping[str, Any]
    pools: tuple[str, ...]  # the first of these that is in use; else whichever is most in use


MISHAPS: Final = (
    Mishap("hang", 0.3, {"kind": "hang", "only_streams": True}, ("coder-7b-a10",)),
    Mishap("crash mid-stream", 0.45, {"kind": "crash_mid_stream", "only_streams": True}, ("vl-8b-fp8-l4",)),
    Mishap("out of memory", 0.6, {"kind": "out_of_memory"}, ("coder-30b-fp8-l40s",)),
)


@dataclass(frozen=True, slots=True)
class Struck:
    """A mishap, the pool it was ordered for, and when, in simulated seconds from the start."""

    mishap: Mishap
    pool: str
    at_s: float


class Mishaps:
    """Watches the load go by and gives the orders. Hand it every request that leaves and every outcome."""

    def __init__(self, control: Control, clock: Clock, total: int) -> None:
        self.struck: list[Struck] = []
        self._control = control
        self._clock = clock
        self._began_us = clock.mono_us()
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._sent = 0
        self._due = [(int(mishap.share * total), mishap, asyncio.Event()) for mishap in MISHAPS]

    def sent(self, _: PlannedRequest) -> None:
        self._sent += 1
        for after, _mishap, due in self._due:
            if self._sent > after:
                due.set()

    def ended(self, outcome: Outcome) -> None:
        if outcome.pool:
            self._recent.append(outcome.pool)

    async def strike(self) -> None:
        """Give every order when it is due; ends with the last. Raises DemoFailed."""
        for _, mishap, due in self._due:
            await due.wait()
            pool = self._choose(mishap, await self._control.alive())
            if pool is not None:
                await self._control.fail(pool, mishap.fault)
                at_s = (self._clock.mono_us() - self._began_us) / US_PER_S
                self.struck.append(Struck(mishap, pool, at_s))

    def _choose(self, mishap: Mishap, alive: Iterable[str]) -> str | None:
        """A pool that answered lately, or else one that boots; another one each time, as far as there are others."""
        used = Counter(self._recent) or Counter(alive)
        hit = {one.pool for one in self.struck}
        pools = [pool for pool, _ in used.most_common()]
        fresh = [pool for pool in pools if pool not in hit] or pools
        wanted = [pool for pool in mishap.pools if pool in fresh] or fresh
        return wanted[0] if wanted else None
