"""What the router believes about all pools just now.

`states()` is asked for by every request: snapshots are made again only when something happened, or after `SNAPSHOT_S`,
since they hold times that pass by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

from pools.failures.classes import AttemptFailed
from pools.live.containers import Containers, OnChange, OnEnded, OnListed, OnMissed, no_one, nobody
from pools.live.engine_metrics import EngineLoad
from pools.live.others import Elsewhere, Others, ShapeReports, nothing_elsewhere
from pools.live.pool import SNAPSHOT_S, FailureLimits, LivePool, LiveSettings, Sized
from pools.live.state import PoolState
from pools.live.waiting_lines import Ticket, WaitingLines
from pools.platform import ContainerInfo
from pricing.clock import US_PER_S, Clock

__all__ = ["LivePools", "LiveSettings"]

LOOK_AGAIN_S: Final = 1.0  # how long the first in a line may miss what nobody tells of: a breaker that half opens ...
LOOK_AGAIN_BEHIND_S: Final = 5.0  # ... and those behind it, who are many: 500 of them decide a hundred times a second


class LivePools:
    """Belief about all pools. Every method belongs to the event loop's thread.

    `on_change(pool, now_us, ready, booting, listed)`, `on_missed(pool, phase, duration_us)`,
    `on_listed(pool, now_us)` and `on_ended(pool, boot_us, ready_us)` tell the meter about containers: see
    `pools.live.containers`. `elsewhere` is what other replicas run in a pool, where there are others, and `shapes` is
    told of out-of-memory, for them to hear of it.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        on_change: OnChange,
        on_missed: OnMissed,
        on_listed: OnListed = nobody,
        on_ended: OnEnded = no_one,
        elsewhere: Elsewhere = nothing_elsewhere,
        shapes: ShapeReports | None = None,
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._on_missed = on_missed
        self._on_listed = on_listed
        self._on_ended = on_ended
        self._elsewhere = elsewhere
        self._shapes = shapes
        self._pools: dict[str, LivePool] = {}
        self._states: dict[str, PoolState] = {}
        self._fresh_until_us = 0
        self.lines = WaitingLines()

    def configure(self, settings: Mapping[str, LiveSettings]) -> None:
        """Take the pools of the files, and keep what is known of those that stay.

        A pool that went is kept as one without an endpoint: requests that began under the old files may still use it.
        """
        for name, pool in self._pools.items():
            if name not in settings:
                pool.configure(replace(pool.settings, deployed=False))
        for name, each in settings.items():
            if name not in self._pools:
                told = (self._on_change, self._on_missed, self._on_listed, self._on_ended)
                containers = Containers(name, self._clock.wall_us(), *told)
                others = Others(partial(self._elsewhere, name), self._shapes)
                self._pools[name] = LivePool(name, each, self._clock, containers, self._touched, others)
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

    def enter(self, pool: str, member: str, needs: Sized) -> None:
        """Right after the decision, before anything is waited for: whoever decides next must see what this one takes,
        and that a half-open pool's one probe is out.
        """
        self._pools[pool].enter(member, needs)

    def leave(self, pool: str, member: str) -> None:
        self._pools[pool].leave(member)
        self.lines.wake(pool)

    def answering(self, pool: str, ttft_s: float) -> None:
        if self._pools[pool].answering(ttft_s):
            self.lines.wake(pool)

    def answered(self, pool: str) -> None:
        self._pools[pool].answered()

    def failed(
        self,
        pool: str,
        failure: AttemptFailed,
        needs: Sized,
        dispatched_us: int,
        limits: FailureLimits,
        *,
        failed_alike: bool = False,
    ) -> None:
        self._pools[pool].failed(failure, needs, dispatched_us, limits, failed_alike=failed_alike)

    def engine_said(self, pool: str, load: EngineLoad, sent_from_here: int) -> None:
        """What a pool's engine says of itself, see `LivePool.engine_said`."""
        self._pools[pool].engine_said(load, sent_from_here)

    def addresses(self, pool: str) -> tuple[str, ...]:
        """Where each container of a pool can be asked by itself, see `LivePool.addresses`."""
        return self._pools[pool].addresses

    def in_flight(self, pools: Iterable[str]) -> int:
        """Requests running in these pools together, those of other replicas among them."""
        return sum(self._pools[name].in_flight for name in pools if name in self._pools)

    async def wait_for_room(self, ticket: Ticket, pools: Iterable[str], timeout_s: float) -> None:
        """Wait in the lines of these pools until it is this request's turn to look for room, or there is another
        reason to: a breaker or a shape's cooldown ends without anybody leaving. Its places stay until `lines.leave`.
        """
        self.lines.join(ticket, pools)
        look_again_s = self._look_again_s(ticket.pools) if self.lines.is_first(ticket) else LOOK_AGAIN_BEHIND_S
        with suppress(TimeoutError):
            async with self._clock.timeout(min(timeout_s, look_again_s)):
                await ticket.woken.wait()
        ticket.woken.clear()

    def _look_again_s(self, pools: Iterable[str]) -> float:
        """When the first in line looks: a pause that ends sooner is not slept through."""
        pauses_s = (self.state(pool).breaker_retry_s for pool in pools if pool in self._pools)
        return min((pause_s for pause_s in pauses_s if 0 < pause_s < LOOK_AGAIN_S), default=LOOK_AGAIN_S)

    # -- other replicas --------------------------------------------------------------------------------------------

    def heard(self, pool: str, ready: int, booting: int, idle_us: int | None) -> None:
        """What all replicas together know of a pool: its containers, and how long ago its last request ended (None:
        some run, or none ever did).
        """
        if pool in self._pools:
            self._pools[pool].heard(ready, booting, idle_us)
            self.lines.wake(pool)

    def heard_shapes(self, pools: Mapping[str, Mapping[int, float]]) -> None:
        """Shapes that cool down after out-of-memory that any replica saw, and for how many more seconds."""
        for pool, shapes in pools.items():
            if pool in self._pools:
                self._pools[pool].heard_shapes(shapes)

    # -- containers ------------------------------------------------------------------------------------------------

    def observe_containers(
        self, now_us: int, listed: Mapping[str, Sequence[ContainerInfo]], *, whole: bool = True
    ) -> None:
        """Take in the platform's list at an instant of wall time. A pool that is not in it has no container, unless
        it is a plain server that no platform runs, or the list is not `whole`.
        """
        for name, pool in self._pools.items():
            if name in listed or (whole and not pool.settings.always_on):
                pool.observe(now_us, listed.get(name, ()))
        self.lines.wake_all_first()

    def _touched(self) -> None:
        self._fresh_until_us = 0
