"""The fair-share clock of one pool: whose money the busy seconds of its containers are.

With `n` containers ready, `R` requests running and a rate `r` each, `b = min(n, R, ceil(R / target_concurrency))`
containers serve. The pool's clock `V` advances by `b·r/Σw · dt`, and a request of weight `w` that ran from `a` to `e`
costs `w·(V(e) − V(a))`; the other `n − b` containers are idle, and those not yet ready are booting. Hence

    Σ charges = busy cost, and busy + boot + idle + adjustment = alive time × rate,

whatever the order of arrivals, departures, scalings and price changes. Boot or idle time that the provider does not
bill is counted like any other and costs 0: the right side is then billed time × rate. Nobody pays more than one
container's rate: a request whose weight would carry it above (possible only with unequal weights and several containers
serving) pays exactly that rate, and the others share the rest.

Everything is integer arithmetic. Costs are kept as nano-dollars per hour × microseconds, `V` in 2⁻²⁰ nano-dollar;
what a division leaves over is carried into the next one. Rounding errors of charges are carried from one
departure to the next, and the last to leave takes the remainder, so that a pool that is empty has charged its busy
cost to the nano-dollar. Time is passed in, in microseconds of any one clock; a clock that steps back stands still.

Time of containers counts as observed while a platform's list of them is fresh and shows at least as many as serve,
else as modelled. The meter keeps only when it last was modelled, so what an amount rests on is said as a whole: a
request, or a row of the house, that has any modelled time in it is modelled.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from pricing.ledger.rows import Evidence
from pricing.money import US_PER_HOUR, ceil_nusd, half_even_nusd
from pricing.prices.billed import ALL_BILLED, Billed

FINE = 1 << 20  # V counts in 1/FINE nano-dollar
LIST_GOOD_FOR_US = 60_000_000  # how long a list is fresh: four looks at the platform that is asked least often


@dataclass(frozen=True, slots=True)
class HouseCost:
    """What no request caused since the last drain: nano-dollars and container microseconds; how many containers began
    to boot; and what all of it rests on.

    `adjustment` is ready time that was learnt late, after the requests of that time had been charged; it is negative
    where time was counted, or charged, in which no container was known to be ready.
    """

    boot_nusd: int
    boot_us: int
    idle_nusd: int
    idle_us: int
    adjustment_nusd: int
    adjustment_us: int
    boots: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class MeterTotals:
    """Sums since the meter began. Each `_nusd` is its exact sum rounded once, half to even.

    `assumed_us` is the part of `busy_us` in which no container was known to be ready (see `PoolMeter.enter`).
    """

    busy_us: int
    busy_nusd: int
    boot_us: int
    boot_nusd: int
    idle_us: int
    idle_nusd: int
    adjustment_us: int
    adjustment_nusd: int
    charged_nusd: int
    assumed_us: int


@dataclass(slots=True)
class _Member:
    weight: int
    since_v: int  # reading of the clock it runs on when it last joined that clock
    carried: int  # 1/FINE nano-dollars from the clock it ran on before
    heavy: bool


class _Phase:
    """Container time of one phase and what it cost, in nano-dollars per hour × microseconds."""

    __slots__ = ("cost", "drained_nusd", "drained_us", "us")

    def __init__(self) -> None:
        self.us = 0
        self.cost = 0
        self.drained_us = 0
        self.drained_nusd = 0

    def add(self, us: int, rate_nusd_per_h: int) -> None:
        self.us += us
        self.cost += us * rate_nusd_per_h

    @property
    def nusd(self) -> int:
        return half_even_nusd(self.cost, US_PER_HOUR)

    def drain(self) -> tuple[int, int]:
        """Nano-dollars and microseconds since the last drain; all drains together are the phase's rounded sum."""
        nusd, us = self.nusd - self.drained_nusd, self.us - self.drained_us
        self.drained_nusd += nusd
        self.drained_us += us
        return nusd, us


class PoolMeter:
    """One pool's meter. Not thread-safe; O(1) per arrival and departure while weights are equal."""

    def __init__(
        self, pool: str, rate_nusd_per_h: int, target_concurrency: int, now_us: int, billed: Billed = ALL_BILLED
    ) -> None:
        if rate_nusd_per_h < 0 or target_concurrency < 1:
            raise ValueError(f"pool {pool}: a meter needs a rate of 0 or more and a target concurrency of 1 or more")
        self.pool = pool
        self._price(rate_nusd_per_h, billed)
        self._target = target_concurrency
        self._now_us = now_us
        self._ready = 0
        self._booting = 0
        self._told = False
        self._listed = False
        self._began = 0  # containers since the last drain
        self._fresh_until_us = 0
        self._modelled_us = 0  # the last instant that was
        self._drained_us = now_us
        self._members: dict[str, _Member] = {}
        self._by_weight: list[tuple[int, str]] = []
        self._light_weight = 0
        self._heavy: list[str] = []
        self._v = 0  # per unit of weight, for light members
        self._u = 0  # one whole container, for heavy members
        self._left_over = 0  # of the last division, 1/FINE nano-dollars × US_PER_HOUR
        self._busy = _Phase()
        self._boot = _Phase()
        self._idle = _Phase()
        self._adjustment = _Phase()
        self._assumed_us = 0
        self._asked_us = 0  # where idle time is free, since the last list: containers asked for beyond those known,
        self._spare_us = 0  # and idle time
        self._departed = 0  # 1/FINE nano-dollars of all who have left
        self._charged_nusd = 0

    @property
    def running(self) -> int:
        return len(self._members)

    def set_containers(self, now_us: int, ready: int, booting: int, *, listed: bool = False) -> None:
        """The containers from this instant on, `listed` by a platform or as answers tell. Raises ValueError for a
        negative count.

        Those that are more than before have begun to boot, but for those that were ready when this meter, or the
        list, began: nobody knows since when.
        """
        if ready < 0 or booting < 0:
            raise ValueError(f"pool {self.pool}: {ready} ready and {booting} booting cannot be; counts are 0 or more")
        self._advance(now_us)
        known = self._told and listed == self._listed
        more = ready + booting - self._ready - self._booting if known else booting - self._booting
        self._began += max(0, more)
        self._ready = ready
        self._booting = booting
        self._told, self._listed = True, listed
        self._regroup()

    def listed(self, now_us: int) -> None:
        """A platform's list came that shows what was told, what was missed before it included."""
        self._advance(now_us)
        self._asked_us = self._spare_us = 0
        self._fresh_until_us = max(self._fresh_until_us, now_us + LIST_GOOD_FOR_US)

    def set_rate(self, now_us: int, rate_nusd_per_h: int, billed: Billed = ALL_BILLED) -> None:
        """A price book takes effect at this instant; what ran before keeps its old price."""
        self._advance(now_us)
        self._price(rate_nusd_per_h, billed)

    def _price(self, rate_nusd_per_h: int, billed: Billed) -> None:
        self._rate = rate_nusd_per_h
        self._boot_rate = rate_nusd_per_h if billed.boot else 0
        self._idle_rate = rate_nusd_per_h if billed.idle else 0
        self.bills_idle = billed.idle

    def set_target(self, now_us: int, target_concurrency: int) -> None:
        """The files ask for another number of requests a container."""
        self._advance(now_us)
        self._target = target_concurrency
        self._regroup()

    def enter(self, now_us: int, member: str, weight: int = 1) -> None:
        """A request was dispatched to this pool. Raises ValueError for a weight below 1 or a member that is running.

        While requests run and no container is known to be ready, they are metered on one that is assumed. The
        adjustment takes that time back at once, so that all phases together are always the containers that were told;
        whoever learns later that a container was there tells `missed`.
        """
        if weight < 1:
            raise ValueError(f"pool {self.pool}: weight {weight} of {member} is below 1")
        if member in self._members:
            raise ValueError(f"pool {self.pool}: {member} is already running")
        self._advance(now_us)
        self._members[member] = _Member(weight, self._v, 0, heavy=False)
        insort(self._by_weight, (weight, member))
        self._light_weight += weight
        self._regroup()

    def accrued(self, now_us: int, member: str) -> int:
        """Nano-dollars that a running request has cost so far, rounded half to even. Raises KeyError."""
        self._advance(now_us)
        return half_even_nusd(self._fine_cost(self._members[member]), FINE)

    def share_nusd_per_h(self, now_us: int, member: str) -> int:
        """What a running request pays per hour at this instant, rounded up. Raises KeyError."""
        self._advance(now_us)
        entry = self._members[member]
        if entry.heavy:
            return self._rate
        shared = self._serving() - len(self._heavy)
        return ceil_nusd(entry.weight * shared * self._rate, self._light_weight)

    def leave(self, now_us: int, member: str) -> int:
        """A request ended; returns its charge in nano-dollars. Raises KeyError for one that is not running."""
        self._advance(now_us)
        entry = self._members.pop(member)
        self._departed += self._fine_cost(entry)
        del self._by_weight[bisect_left(self._by_weight, (entry.weight, member))]
        if entry.heavy:
            self._heavy.remove(member)
        else:
            self._light_weight -= entry.weight
        if self._members:
            due_nusd = half_even_nusd(self._departed, FINE)
            self._regroup()
        else:
            due_nusd = self._rebase()
        charge_nusd = due_nusd - self._charged_nusd
        self._charged_nusd = due_nusd
        return charge_nusd

    def missed(self, phase: str, duration_us: int) -> None:
        """Container time learnt late, at the rate in force: `boot` goes to the boot row, the rest to the adjustment.

        Negative where time was counted that no container lived. Charges already settled stay as they are.

        Where idle time is free, time that was learnt late counts as busy as far as requests asked for more containers
        than were known, and time that is taken back as idle as far as any was counted; both since the last list.
        """
        if phase == "boot":
            self._boot.add(duration_us, self._boot_rate)
            return
        busy_us = duration_us if self.bills_idle else self._missed_busy_us(duration_us)
        self._adjustment.add(busy_us, self._rate)
        self._adjustment.add(duration_us - busy_us, self._idle_rate)

    def _missed_busy_us(self, duration_us: int) -> int:
        if duration_us > 0:
            busy_us = min(duration_us, self._asked_us)
            self._asked_us -= busy_us
            return busy_us
        idle_us = min(-duration_us, self._spare_us)
        self._spare_us -= idle_us
        return duration_us + idle_us

    def drain(self, now_us: int) -> HouseCost:
        """Boot, idle and adjustment since the last drain; the drains add up to `totals` exactly."""
        self._advance(now_us)
        evidence, boots = self.evidence(self._drained_us), self._began
        self._drained_us, self._began = self._now_us, 0
        return HouseCost(*self._boot.drain(), *self._idle.drain(), *self._adjustment.drain(), boots, evidence)

    def evidence(self, since_us: int) -> Evidence:
        """What the time from an instant until the last step rests on."""
        return Evidence.MODELLED if self._modelled_us > since_us else Evidence.OBSERVED

    def totals(self, now_us: int) -> MeterTotals:
        self._advance(now_us)
        return MeterTotals(
            busy_us=self._busy.us,
            busy_nusd=self._busy.nusd,
            boot_us=self._boot.us,
            boot_nusd=self._boot.nusd,
            idle_us=self._idle.us,
            idle_nusd=self._idle.nusd,
            adjustment_us=self._adjustment.us,
            adjustment_nusd=self._adjustment.nusd,
            charged_nusd=self._charged_nusd,
            assumed_us=self._assumed_us,
        )

    def _serving(self) -> int:
        """Containers that serve: b = min(n, R, ceil(R / target_concurrency)), and at least one if any request runs."""
        running = len(self._members)
        asked, most = -(-running // self._target), self._ready or 1  # nobody asks for more than run
        return asked if asked < most else most

    def _advance(self, now_us: int) -> None:
        dt_us = now_us - self._now_us
        if dt_us <= 0:
            return
        self._now_us = now_us
        serving = self._serving()
        if serving > self._ready or (now_us > self._fresh_until_us and (self._ready or self._booting)):
            self._modelled_us = now_us
        if self._booting:
            self._boot.add(self._booting * dt_us, self._boot_rate)
        if serving > self._ready:
            assumed = serving - self._ready
            self._adjustment.add(-assumed * dt_us, self._rate)
            self._assumed_us += assumed * dt_us
        elif serving < self._ready:
            self._idle.add((self._ready - serving) * dt_us, self._idle_rate)
        if not self.bills_idle:
            self._asked_us += max(0, -(-len(self._members) // self._target) - self._ready) * dt_us
            self._spare_us += max(0, self._ready - serving) * dt_us
        if serving:
            self._busy.add(serving * dt_us, self._rate)
            self._turn_clocks(serving, dt_us)

    def _turn_clocks(self, serving: int, dt_us: int) -> None:
        one_container = self._rate * dt_us * FINE
        heavy_u = one_container // US_PER_HOUR
        to_share = serving * one_container + self._left_over - len(self._heavy) * heavy_u * US_PER_HOUR
        light_v, self._left_over = divmod(to_share, self._light_weight * US_PER_HOUR)
        self._u += heavy_u
        self._v += light_v

    def _fine_cost(self, entry: _Member) -> int:
        if entry.heavy:
            return entry.carried + self._u - entry.since_v
        return entry.carried + entry.weight * (self._v - entry.since_v)

    def _rebase(self) -> int:
        """The pool is empty: clocks go back to 0, and all that was busy is due. Returns that sum."""
        self._v = self._u = self._left_over = self._light_weight = 0
        self._departed = self._busy.cost * FINE // US_PER_HOUR
        return self._busy.nusd

    def _regroup(self) -> None:
        """Put every member whose weight asks for more than one container on the whole-container clock.

        From the heaviest down: with h of them set apart and the weights S of the rest, the next of weight w pays
        more than one container when w·(b − h) > S. The last member never does, because b ≤ R.
        """
        serving, rest = self._serving(), self._light_weight
        heavy: list[str] = []
        if self._heavy:
            rest += sum(self._members[name].weight for name in self._heavy)
        for weight, name in reversed(self._by_weight):
            if weight * (serving - len(heavy)) <= rest:
                break
            heavy.append(name)
            rest -= weight
        if heavy != self._heavy:
            self._move(set(self._heavy) ^ set(heavy))
            self._heavy = heavy

    def _move(self, names: set[str]) -> None:
        """Take members from the clock they run on to the other one."""
        for name in names:
            entry = self._members[name]
            entry.carried = self._fine_cost(entry)
            entry.heavy = not entry.heavy
            entry.since_v = self._u if entry.heavy else self._v
            self._light_weight += -entry.weight if entry.heavy else entry.weight
