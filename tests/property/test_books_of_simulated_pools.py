"""Invariant 3 against pools that keep books of their own: charges and rows of the house are the provider's bill.

A simulated pool bills its containers by its own clock and events. The router's side sees what it would see of a real
one: its own requests, and the platform's list when it polls. What is not in a list is when a container ended: it is
dated by a rule (`pools.live.containers`), and the difference to the true end is the only one there may be.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from pools.live.containers import Containers
from pools.platform import ContainerInfo
from pools.simulator.bill import Phase
from pools.simulator.engine import EngineSettings
from pools.simulator.engine import Sequence as Answer
from pools.simulator.pool import Container, Job, Refusal, SimulatedPool
from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.store import MeterEntry
from pricing.clock import US_PER_S, ManualClock
from pricing.ledger.rows import House, LedgerRow, RowKind
from pricing.money import US_PER_HOUR
from pricing.prices.billed import ALL_BILLED, Billed
from pricing.prices.rates import ContainerRate
from support.simulated import SPEC
from support.values import replace

Action = tuple[str] | tuple[str, int] | tuple[str, int, int]
POOL = SPEC.name
WINDOW_S = 30.0
WINDOW_US = round(WINDOW_S * US_PER_S)
LONGEST_S = 20  # between two looks: shorter than a boot and the window, so that no container comes and goes unseen

weights = st.integers(1, 5)  # of a request, in what it shares with others
actions = st.lists(
    st.tuples(
        st.integers(0, LONGEST_S * US_PER_S),
        st.one_of(
            st.tuples(st.just("wake")),
            st.tuples(st.just("arrives"), st.integers(1, 400), weights),
            st.tuples(st.just("arrives"), st.integers(1, 400), weights),
            st.tuples(st.just("arrives and kills its engine"), st.integers(1, 400), weights),
            st.tuples(st.just("client leaves"), st.integers(0, 20)),
            st.tuples(st.just("crash")),
            st.tuples(st.just("price"), st.integers(0, 60_000_000_000)),
            st.tuples(st.just("time passes")),
        ),
    ),
    min_size=5,
    max_size=60,
)


class World:
    """One pool, the provider's bill of it, and the router's books beside it."""

    def __init__(self, seed: int, most: int, least: int, rate: int, billed: Billed, step_us: int) -> None:
        self.clock = ManualClock()
        spec = replace(
            SPEC, max_containers=most, min_containers=least, scaledown_window_s=WINDOW_S, target_concurrency=2
        )
        free = frozenset(map(Phase, billed.free))
        self.pool = SimulatedPool(spec, rate, random.Random(seed), EngineSettings(), self.now_us, free)
        self.rows: list[LedgerRow] = []
        self.meters = LocalMeters(self.clock, self._post)
        self.meters.set_rate(POOL, self.now_us, rate, spec.target_concurrency, billed)
        self.step_us = step_us
        self.containers = Containers(
            POOL, self.now_us, self.meters.set_containers, self.meters.missed, self.meters.listed, self.round_up
        )
        self.running: dict[str, Job] = {}
        self.charges: list[int] = []
        self.rate = rate
        self.billed = billed
        self.bill_cost = 0  # nano-dollars per hour × microseconds, each second at the price then in force
        self.billed_us = 0
        self.dating_cost = 0  # the same unit: by how much containers are believed to have lived longer than they did
        self.seen: dict[str, Container] = {}
        self.looked_us = self.now_us
        self.last_use_us = self.now_us
        self.crashed = False  # in this very action
        self.look()

    def round_up(self, pool: str, boot_us: int, ready_us: int) -> None:
        """As `router.money.meters.MeteredPools.ended` does."""
        rate = ContainerRate(self.rate, self.rate, 0, 0, "book", billed=self.billed, increment_us=self.step_us)
        self.meters.missed(pool, "ready", rate.rounding_us(boot_us, ready_us))

    async def _post(self, rows: Sequence[LedgerRow]) -> None:
        self.rows += rows

    @property
    def now_us(self) -> int:
        return self.clock.wall_us()

    # -- what happens ----------------------------------------------------------------------------------------------

    async def play(self, wait_us: int, action: Action) -> None:
        await self.pass_time(wait_us)
        self.look()
        match action:
            case ("wake",):
                self.pool.wake(self.now_us)
            case ("arrives", tokens, weight):
                self.arrive(tokens, weight, fatal=False)
            case ("arrives and kills its engine", tokens, weight):
                self.arrive(tokens, weight, fatal=True)
            case ("client leaves", place) if self.running:
                name = list(self.running)[place % len(self.running)]
                self.pool.abort(self.running[name], self.now_us)
                await self.leave(name)
            case ("crash",):
                self.pool.take_down(self.now_us)
                self.pool.bring_up(self.now_us)
                self.crashed = True
                await self.collect()
            case ("price", rate):
                self.add_to_bill()
                self.rate = rate
                self.meters.set_rate(POOL, self.now_us, rate, 2, self.billed)
        self.look()
        self.crashed = False

    async def pass_time(self, wait_us: int) -> None:
        """Move on by way of every instant at which an answer may end, so that its request leaves the meter there."""
        until_us = self.now_us + wait_us
        while self.now_us < until_us:
            milestone_us = self.pool.next_milestone_us() or until_us
            self.clock.advance((min(max(milestone_us, self.now_us + 1), until_us) - self.now_us) / US_PER_S)
            self.pool.advance(self.now_us)
            await self.collect()

    def arrive(self, tokens: int, weight: int, *, fatal: bool) -> None:
        container = self.pool.ready_container(self.now_us)
        if isinstance(container, Refusal):
            return
        job = Job((Answer(20, tokens, fatal=fatal),))
        self.pool.place(job, container, self.now_us)
        name = f"r{len(self.charges) + len(self.running)}"
        self.meters.enter(MeterEntry(POOL, weight, 20), name)
        self.running[name] = job

    async def collect(self) -> None:
        """Every answer that ended, by itself or with its container, leaves the meter."""
        for name in [name for name, job in self.running.items() if job.ending is not None]:
            await self.leave(name)

    async def leave(self, name: str) -> None:
        del self.running[name]
        self.charges.append((await self.meters.leave(POOL, name)).nusd)
        self.last_use_us = self.now_us

    # -- both sides look -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """The router polls the platform's list; the test notes how far off each end will be dated."""
        alive = {each.id: each for each in self.pool.containers(self.now_us)}
        idle_ends_us = None if self.running else self.last_use_us + WINDOW_US
        halfway_us = (self.looked_us + self.now_us) // 2
        believed_us = idle_ends_us if idle_ends_us and self.looked_us < idle_ends_us <= self.now_us else halfway_us
        for name in self.seen.keys() - alive.keys():
            late_us = believed_us - self.true_end_us(self.seen[name])
            is_billed = self.billed.idle if self.seen[name].ready else self.billed.boot
            self.dating_cost += late_us * self.rate if is_billed else 0
            self.add_rounding(self.seen[name], believed_us)
        self.seen = alive
        self.containers.observe(self.now_us, [info(each) for each in alive.values()], idle_ends_us)
        self.looked_us = self.now_us
        self.add_to_bill()

    def add_rounding(self, ended: Container, believed_us: int) -> None:
        """To the bill: a life, as it is dated, is billed in whole steps."""
        begin_us = ended.started_us if self.billed.boot else min(ended.ready_us, believed_us)
        self.bill_cost += -(believed_us - begin_us) % self.step_us * self.rate if self.step_us else 0

    def true_end_us(self, ended: Container) -> int:
        """As the pool knows it: it crashed just now, its engine had died, or nobody had used it for the window."""
        if self.crashed:
            return self.now_us
        return ended.phases.since_us + WINDOW_US if ended.leaves_us is None else ended.leaves_us

    def add_to_bill(self) -> None:
        """What the provider has billed since the last time, at the price since then."""
        billed_us = self.pool.bill(self.now_us).billed_us
        self.bill_cost += (billed_us - self.billed_us) * self.rate
        self.billed_us = billed_us

    async def close(self) -> None:
        for name in list(self.running):
            self.pool.abort(self.running[name], self.now_us)
            await self.leave(name)
        self.look()
        await self.meters.post_house({POOL: LABEL})


LABEL = LedgerRow("", 0, RowKind.IDLE, House.IDLE, 0, 0, POOL, SPEC.gpu.id, SPEC.model.id, "v", "book")


def info(container: Container) -> ContainerInfo:
    """A container as the platform lists it."""
    if container.ready:
        return ContainerInfo(container.id, "ready", container.started_us, container.ready_us)
    return ContainerInfo(container.id, "booting", container.started_us, None)


def played(
    seed: int,
    most: int,
    least: int,
    rate: int,
    steps: list[tuple[int, Action]],
    billed: Billed = ALL_BILLED,
    step_us: int = 0,
) -> World:
    async def run() -> World:
        world = World(seed, most, least, rate, billed, step_us)
        for wait_us, action in steps:
            await world.play(wait_us, action)
        await world.close()
        return world

    return asyncio.run(run())


def written_nusd(world: World) -> int:
    return sum(world.charges) + sum(row.amount_nusd for row in world.rows)


def without_deaths(steps: list[tuple[int, Action]]) -> list[tuple[int, Action]]:
    return [(wait_us, action) for wait_us, action in steps if action[0] != "arrives and kills its engine"]


rates = st.integers(1_000_000, 60_000_000_000)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 2),
    st.integers(2, 4),
    rates,
    st.booleans(),
    st.sampled_from([0, US_PER_S // 10, US_PER_S, 60 * US_PER_S]),
    actions,
)
def test_charges_and_the_house_are_the_bill(
    seed: int, least: int, most: int, rate: int, bills_boot: bool, step_us: int, steps: list[tuple[int, Action]]
) -> None:
    """To a nano-dollar a request, of any weight, whatever arrives, leaves, boots, stops, crashes or changes price,
    whether boots are billed or not, and in steps of any length.
    """
    world = played(seed, most, least, rate, steps, Billed(boot=bills_boot), step_us)
    believed_nusd = (world.bill_cost + world.dating_cost) / US_PER_HOUR
    assert abs(written_nusd(world) - believed_nusd) <= len(world.charges) + len(world.rows)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 1), rates, st.booleans(), actions)
def test_a_container_that_idles_for_free_is_billed_for_what_it_serves(
    seed: int, least: int, rate: int, bills_boot: bool, steps: list[tuple[int, Action]]
) -> None:
    """As exactly, where there is one container, since which of several serves is not seen from outside, and where none
    dies between two looks: its end may be dated before its last request's.
    """
    world = played(seed, 1, least, rate, without_deaths(steps), Billed(boot=bills_boot, idle=False))
    believed_nusd = (world.bill_cost + world.dating_cost) / US_PER_HOUR
    assert abs(written_nusd(world) - believed_nusd) <= len(world.charges) + len(world.rows)
    assert all(row.amount_nusd == 0 for row in world.rows if row.account == House.IDLE)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3), rates, actions)
def test_containers_whose_end_is_seen_leave_no_difference(
    seed: int, least: int, rate: int, steps: list[tuple[int, Action]]
) -> None:
    """Where none ends between two polls, charges and rows are the bill itself."""
    world = played(seed, least, least, rate, without_deaths(steps))
    assert world.dating_cost == 0
    assert abs(written_nusd(world) - world.bill_cost / US_PER_HOUR) <= len(world.charges) + len(world.rows)
