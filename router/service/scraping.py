"""Asking engines what they run, where asking costs nothing: `/metrics` of pools that are awake anyway.

A pool that scales down by itself is asked only while requests of ours run in it: to its platform a look is a request,
which would wake it, or keep it alive for another window. Plain servers and Deployments, which nobody ends for being
idle, are asked whenever they serve. Looks are far apart and short; a pool that does not answer is asked less often.

Where several containers serve and each has an address of its own, all of them are asked there, and what they say is
added up; else whoever answers at the pool's address speaks for itself alone. No key goes to a container's own address:
engines need none for their metrics, and who has that address now is known from a list only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from policies.policy import Policy
from pools.live.all_pools import LivePools
from pools.live.engine_metrics import SPEAKS_METRICS, EngineLoad, read_load, together
from pools.wire.http import HttpBackend
from pricing.clock import US_PER_S, Clock

LOOK_S: Final = 10.0
"""Between two looks at all pools, seconds of the clock."""

WITHIN_S: Final = 2.0
"""For an answer."""

LESS_OFTEN_S: Final = (20.0, 640.0)
"""Until a pool that did not answer is asked again: the first, doubled each time, up to the second."""


class Scraping:
    """One look after the other; the caller paces them."""

    def __init__(
        self, live: LivePools, backends: Mapping[str, HttpBackend], at: Callable[[str], HttpBackend], clock: Clock
    ) -> None:
        """`at` makes a backend of a container's own address."""
        self._live = live
        self._backends = backends
        self._at = at
        self._clock = clock
        self._silent: dict[str, tuple[int, float]] = {}  # monotonic instant to ask again at, and the pause before it

    async def look(self, policy: Policy) -> None:
        """Ask all pools of which it is worth it, side by side. Raises nothing for what they answer."""
        await asyncio.gather(*(self._ask(name) for name in self.worth_asking(policy)))

    def worth_asking(self, policy: Policy) -> list[str]:
        """Pools with such an engine that serve, and would go on doing so without being asked."""
        steady = () if policy.kubernetes is None else policy.kubernetes.deployments
        return [name for name in policy.endpoints if name in policy.pools and self._worth(policy, name, name in steady)]

    def _worth(self, policy: Policy, name: str, steady: bool) -> bool:
        state = self._live.state(name)
        if policy.pools[name].engine not in SPEAKS_METRICS or not state.ready:
            return False
        if self._silent.get(name, (0, 0.0))[0] > self._clock.mono_us():
            return False
        return steady or bool(policy.endpoints[name].always_on) or state.in_flight > 0

    async def _ask(self, name: str) -> None:
        before = self._live.in_flight([name])
        addresses = self._live.addresses(name)
        asked = [self._at(address) for address in addresses] if len(addresses) > 1 else [self._backends[name]]
        pages = await asyncio.gather(*(one.metrics(WITHIN_S) for one in asked))
        loads = [load for page in pages if (load := _load(page)) is not None]
        if len(loads) < len(asked):
            self._less_often(name)
            return
        self._silent.pop(name, None)
        self._live.engine_said(name, together(loads), before)

    def _less_often(self, name: str) -> None:
        pause_s = min(2 * self._silent.get(name, (0, LESS_OFTEN_S[0] / 2))[1], LESS_OFTEN_S[1])
        self._silent[name] = (self._clock.mono_us() + round(pause_s * US_PER_S), pause_s)


def _load(page: str | None) -> EngineLoad | None:
    """What a container said; None for nothing that can be read."""
    try:
        return None if page is None else read_load(page)
    except ValueError:
        return None
