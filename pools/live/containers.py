"""How many containers of one pool are alive, as far as the router can know, and container time it learns of late.

Where a platform lists its containers, the list is the truth and says when each was started and ready; between two polls
the router goes on with what answers tell it. Where nobody lists, answers are all there is: one that comes proves a
container, a bare 503 starts a boot, and silence for the scale-down window ends the container. (More than one container
is never inferred.)

The meter is told counts as they are learnt, by `on_change`, so it is sometimes told late or wrong. What was told is
summed up beside what the list shows to have been true, and each poll reports the difference, by phase, through
`on_missed`; afterwards both sums are equal. A start is dated by the platform's `started_us`, the end of its boot by
`ready_us`. An end is not in a list: it is dated at the pool's scale-down instant (last use + window) where that lies
between the two polls and nothing was running, else halfway between the polls. So a container's alive time is wrong by
at most half a poll interval (a quarter on average, without bias), its phases by the difference of the clocks.

Containers that were alive before the router began to watch count from then on. Instants are microseconds of wall time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pools.platform import ContainerInfo
from pricing.clock import US_PER_S
from pricing.meter.meters import Phase

LATE_LIST_S: Final = 30.0  # twice what the latest list is behind, Modal's (docs/design.md)

OnChange = Callable[[str, int, int, int, bool], None]  # pool, now_us, ready, booting, whether a list says so
OnMissed = Callable[[str, Phase, int], None]  # pool, phase, duration_us (negative: was told too much)
OnListed = Callable[[str, int], None]  # pool, now_us: a list came, and all that it shows was told
OnEnded = Callable[[str, int, int], None]  # pool, boot_us, ready_us: a container that was listed has lived so long


def nobody(_: str, __: int) -> None:
    """Nobody asks how fresh the list is."""


def no_one(_: str, __: int, ___: int) -> None:
    """Nobody asks how long containers lived."""


@dataclass(slots=True)
class _Life:
    """One listed container: alive from `start_us`, serving from `ready_us`."""

    start_us: int
    ready_us: int | None = None

    def spent(self, until_us: int) -> tuple[int, int]:
        """Microseconds of (boot, ready) up to an instant."""
        ready_us = until_us if self.ready_us is None else min(self.ready_us, until_us)
        return max(0, ready_us - self.start_us), max(0, until_us - max(ready_us, self.start_us))


class Containers:
    """One pool's containers."""

    def __init__(
        self,
        pool: str,
        now_us: int,
        on_change: OnChange,
        on_missed: OnMissed,
        on_listed: OnListed = nobody,
        on_ended: OnEnded = no_one,
    ) -> None:
        self.ready = 0
        self.booting = 0
        self.listed = False  # a platform lists them
        self.serving_since_us: int | None = None  # of the ready container that has served longest; None without one
        self._pool = pool
        self._on_change = on_change
        self._on_missed = on_missed
        self._on_listed = on_listed
        self._on_ended = on_ended
        self._watched_us = now_us
        self._polled_us = now_us
        self._boot_began_us: int | None = None  # of a boot that no list has shown yet
        self._lives: dict[str, _Life] = {}
        self._gone: set[str] = set()  # listed as ready, and nobody was met there since ...
        self._gone_until_us = 0  # ... for as long as a list may be late
        self._ended = (0, 0)  # microseconds (boot, ready) of listed containers that have ended
        self._told = (0, 0)  # microseconds (boot, ready) that the meter has counted
        self._told_us = now_us

    # -- what answers tell -----------------------------------------------------------------------------------------

    def always(self, now_us: int, ready: int) -> None:
        """At least this many are ready whatever happens: a plain server, or a platform's minimum."""
        self._tell(now_us, max(self.ready, ready), self.booting)

    def answered(self, now_us: int) -> None:
        """A container answered, so at least one is ready, and a boot that was awaited is over."""
        self._gone.clear()
        if self.ready == 0:
            self._boot_began_us = None
            self._tell(now_us, 1, max(0, self.booting - 1))

    def boot_began(self, now_us: int) -> None:
        """A wake was asked for, or a request met a pool without containers, which starts one."""
        if self.ready == 0 and self.booting == 0:
            self._boot_began_us = now_us
            self._tell(now_us, 0, 1)

    def met_nobody(self, now_us: int) -> None:
        """A request came to a pool whose containers have ended unnoticed, and has started a boot. A list that is late
        and still shows them is not believed for `LATE_LIST_S`, unless something answers.
        """
        if self.ready:
            self._gone = {name for name, life in self._lives.items() if life.ready_us is not None}
            self._gone_until_us = now_us + round(LATE_LIST_S * US_PER_S)
            self._boot_began_us = now_us
            self._tell(now_us, 0, max(1, self.booting))
        else:
            self.boot_began(now_us)

    def gone(self, now_us: int) -> None:
        """Nothing answers there any more. A list, where there is one, knows better."""
        if not self.listed:
            self._boot_began_us = None
            self._tell(now_us, 0, 0)

    def scale_down(self, now_us: int, ended_us: int, kept: int) -> None:
        """Without a list: the scale-down window passed at `ended_us`, now or earlier; `kept` containers stay."""
        if not self.listed and self.ready > kept:
            late_us = max(0, now_us - max(ended_us, self._watched_us)) * (self.ready - kept)
            self._tell(now_us, kept, self.booting)
            if late_us:
                self._miss("ready", -late_us)

    # -- what other replicas tell ----------------------------------------------------------------------------------

    def heard(self, now_us: int, ready: int, booting: int) -> None:
        """What all replicas together know, where no list says more: the meter has counted it already."""
        if self.listed or (ready, booting) == (self.ready, self.booting):
            return
        self._boot_began_us = now_us if booting else None
        self._count(now_us)
        self._become(now_us, ready, booting)

    # -- what a list tells -----------------------------------------------------------------------------------------

    def observe(self, now_us: int, infos: Iterable[ContainerInfo], scale_down_us: int | None) -> None:
        """Take in a platform's list. `scale_down_us`: when an idle pool's window passes; None while it is busy.

        The first list is told in any case: meters that outlive this process may remember other containers.
        """
        first, self.listed = not self.listed, True
        alive = {info.id: info for info in infos}
        for name in [name for name in self._lives if name not in alive]:
            boot, ready = self._lives.pop(name).spent(self._dated_end(now_us, scale_down_us))
            self._ended = (self._ended[0] + boot, self._ended[1] + ready)
            self._on_ended(self._pool, boot, ready)
        for info in alive.values():
            self._note(info, now_us)
        self._gone = self._gone & self._lives.keys() if now_us < self._gone_until_us else set()
        there = [life for name, life in self._lives.items() if name not in self._gone]
        ready_now = sum(life.ready_us is not None for life in there)
        self._boot_began_us = None
        self._tell(now_us, ready_now, len(there) - ready_now, first=first)
        serving = (life.ready_us for life in there if life.ready_us is not None)
        self.serving_since_us = min(serving, default=None)
        self._correct(now_us)
        self._polled_us = now_us
        self._on_listed(self._pool, now_us)

    def boot_age_s(self, now_us: int) -> float | None:
        """How long the oldest boot under way has lasted; None without one."""
        if self.booting == 0:
            return None
        starts = [life.start_us for life in self._lives.values() if life.ready_us is None]
        began_us = self._boot_began_us if self._boot_began_us is not None else min(starts, default=self._told_us)
        return max(0, now_us - began_us) / US_PER_S

    def _note(self, info: ContainerInfo, now_us: int) -> None:
        life = self._lives.get(info.id)
        if life is None:
            start_us = min(max(info.started_us, self._watched_us), now_us)
            life = self._lives[info.id] = _Life(start_us)
        if info.state == "ready" and life.ready_us is None:
            learnt_us = (max(self._polled_us, life.start_us) + now_us) // 2 if info.ready_us is None else info.ready_us
            life.ready_us = min(max(learnt_us, life.start_us), now_us)

    def _dated_end(self, now_us: int, scale_down_us: int | None) -> int:
        if scale_down_us is not None and self._polled_us < scale_down_us <= now_us:
            return scale_down_us
        return (self._polled_us + now_us) // 2

    def _correct(self, now_us: int) -> None:
        spent = [life.spent(now_us) for life in self._lives.values()]
        self._miss("boot", self._ended[0] + sum(boot for boot, _ in spent) - self._told[0])
        self._miss("ready", self._ended[1] + sum(ready for _, ready in spent) - self._told[1])

    # -- telling ---------------------------------------------------------------------------------------------------

    def _tell(self, now_us: int, ready: int, booting: int, *, first: bool = False) -> None:
        self._count(now_us)
        if first or (ready, booting) != (self.ready, self.booting):
            self._become(now_us, ready, booting)
            self._on_change(self._pool, now_us, ready, booting, self.listed)

    def _count(self, now_us: int) -> None:
        """Add up what the meter has counted since the last time."""
        dt_us = max(0, now_us - self._told_us)
        self._told = (self._told[0] + self.booting * dt_us, self._told[1] + self.ready * dt_us)
        self._told_us = max(now_us, self._told_us)

    def _become(self, now_us: int, ready: int, booting: int) -> None:
        if ready == 0 or self.ready == 0:
            self.serving_since_us = now_us if ready else None
        self.ready, self.booting = ready, booting

    def _miss(self, phase: Phase, duration_us: int) -> None:
        boot, ready = self._told
        self._told = (boot + duration_us, ready) if phase == "boot" else (boot, ready + duration_us)
        if duration_us:
            self._on_missed(self._pool, phase, duration_us)
