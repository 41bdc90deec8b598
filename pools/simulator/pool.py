"""One simulated pool: its containers, and how the platform starts, fills and stops them. Pure: time is passed in.

Like a Modal Server: with no container ready a request is refused at once, and the first such request starts a boot; a
container takes `max_concurrency` requests, then the platform refuses; above `target_concurrency` per container it
starts more, up to `max_containers`; one that was idle for `scaledown_window_s` stops, down to `min_containers`.
Requests go to the fullest container below its target, so that spare ones can go idle. A container whose engine died
refuses connections for 0.11 s (as measured on vLLM 0.32), is then gone, and is replaced.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from pools.simulator.bill import Phase, PhaseClock, PoolBill
from pools.simulator.engine import Engine, EngineSettings, Sequence
from pools.simulator.faults import Fault, FaultKind, Faults
from pools.simulator.media import ONE_AT_A_TIME, makes_media, media_profile
from pools.simulator.roofline import Deviation, profile_of
from pools.spec import PoolSpec

DEAD_LINGERS_US = 110_000
BOOT_JITTER_SIGMA = 0.05  # one boot against another of the same pool
US_PER_S = 1_000_000


class Refusal(Enum):
    """Why the platform did not hand a request to a container."""

    COLD = "cold"  # none is ready; one is starting
    FULL = "full"  # all are at max_concurrency
    GONE = "gone"  # the pool is down, or the container just died: the connection is cut


class Ending(Enum):
    """How a request left its container, other than by its client's leaving."""

    FINISHED = "finished"
    ENGINE_DIED = "engine_died"
    CUT = "cut"  # the container was taken away


@dataclass(slots=True, eq=False)
class Job:
    """One request in a container: its sequences (one for each choice) and the fault that will hit it."""

    sequences: tuple[Sequence, ...]
    fault: Fault | None = None
    engine: Engine | None = None  # stays when the request has left its container
    container: Container | None = None
    ending: Ending | None = None

    def produced(self) -> list[int]:
        """Tokens of each choice that exist by now."""
        return [self.engine.produced(sequence) for sequence in self.sequences] if self.engine else []

    @property
    def hangs(self) -> bool:
        """It holds its place in the container, and the engine never sees it."""
        return self.fault is not None and self.fault.kind is FaultKind.HANG

    def is_complete(self) -> bool:
        """Every choice has ended. One that stalls never is: it holds its place until the client leaves."""
        stalls = self.fault is not None and self.fault.kind is FaultKind.STALL
        return not stalls and all(sequence.ended_us is not None for sequence in self.sequences)


@dataclass(slots=True, eq=False)
class Container:
    """One container alive. `leaves_us` is set once its engine is dead."""

    id: str
    started_us: int
    ready_us: int
    engine: Engine
    phases: PhaseClock
    jobs: dict[Sequence, Job] = field(default_factory=dict)
    in_flight: int = 0
    leaves_us: int | None = None

    @property
    def ready(self) -> bool:
        return self.phases.phase is not Phase.BOOT


class SimulatedPool:
    """The state machine of one pool. Call `advance` (every method does) with a present that never goes back."""

    def __init__(
        self,
        spec: PoolSpec,
        rate_nusd_per_h: int,
        rng: random.Random,
        settings: EngineSettings,
        now_us: int,
        free: frozenset[Phase] = frozenset(),
    ) -> None:
        self.spec = spec
        self.deviation = Deviation.draw(rng)
        self.profile = (media_profile if makes_media(spec) else profile_of)(spec, self.deviation)
        self.faults = Faults(random.Random(rng.getrandbits(64)))
        self.settings = ONE_AT_A_TIME if makes_media(spec) else settings
        self.down = False
        self.boots = 0
        self._rng = rng
        self._stopped = PoolBill(rate_nusd_per_h, free=free)
        self._containers: list[Container] = []
        self._window_us = round(spec.scaledown_window_s * US_PER_S)
        for _ in range(spec.min_containers):
            self._start(now_us)

    # -- what the platform's control plane shows and takes

    def containers(self, now_us: int) -> tuple[Container, ...]:
        self.advance(now_us)
        return tuple(self._containers)

    def bill(self, now_us: int) -> PoolBill:
        """Container time so far, those alive included."""
        self.advance(now_us)
        total = replace(self._stopped)
        for container in self._containers:
            total.add(container.phases, now_us)
        return total

    def wake(self, now_us: int) -> bool:
        """Start a container unless one is alive or the pool is down; whether one was started."""
        self.advance(now_us)
        if self._containers or self.down:
            return False
        self._start(now_us)
        return True

    def take_down(self, now_us: int) -> None:
        """Stop everything, cut what runs, start nothing until `bring_up`."""
        self.advance(now_us)
        self.down = True
        for container in list(self._containers):
            self._end_all(container, Ending.CUT, now_us)
            self._stop(container, now_us)

    def bring_up(self, now_us: int) -> None:
        self.advance(now_us)
        self.down = False
        while len(self._containers) < self.spec.min_containers:
            self._start(now_us)

    # -- the data plane

    def ready_container(self, now_us: int) -> Container | Refusal:
        """The container that the next request goes to. With none alive, this starts a boot: any request does."""
        self.advance(now_us)
        if self.down:
            return Refusal.GONE
        ready = [container for container in self._containers if container.ready]
        healthy = [container for container in ready if container.leaves_us is None]
        if not healthy:
            if not self._containers:
                self._start(now_us)
            return Refusal.GONE if ready else Refusal.COLD
        below = [item for item in healthy if item.in_flight < self.spec.target_concurrency]
        if below:
            return max(below, key=lambda item: item.in_flight)
        least = min(healthy, key=lambda item: item.in_flight)
        if least.in_flight >= self.spec.max_concurrency:
            self._scale_up(self.in_flight + 1, now_us)
            return Refusal.FULL
        return least

    def place(self, job: Job, container: Container, now_us: int) -> None:
        """Put a request into the container that `ready_container` named at this same instant."""
        if not container.in_flight:
            container.phases.move(Phase.BUSY, now_us)
        container.in_flight += 1
        job.container = container
        job.engine = container.engine
        for sequence in job.sequences:
            container.jobs[sequence] = job
            if not job.hangs:
                container.engine.add(sequence, now_us)
        self._scale_up(self.in_flight, now_us)

    def abort(self, job: Job, now_us: int) -> None:
        """The client has left. Nothing happens to a request that has ended already."""
        self.advance(now_us)
        container = job.container
        if container is None:
            return
        for sequence in job.sequences:
            del container.jobs[sequence]
            if sequence.ended_us is None and not job.hangs:
                container.engine.remove(sequence)
        self._release(job, container, now_us)

    @property
    def in_flight(self) -> int:
        return sum(container.in_flight for container in self._containers)

    def next_milestone_us(self) -> int | None:
        """About when the next request gets its first token or ends; None when nothing runs."""
        instants = [container.engine.next_milestone_us() for container in self._containers]
        return min((instant for instant in instants if instant is not None), default=None)

    # -- time

    def advance(self, now_us: int) -> None:
        """Live through everything that was due by now, in the order in which it was due."""
        while True:
            for container in self._containers:
                self._advance_container(container, now_us)
            due = min(self._stops_due(now_us), default=None, key=lambda stop: stop[0])
            if due is None:
                return
            at_us, container = due
            self._stop(container, at_us)
            if container.leaves_us is not None:
                self._start(at_us)

    def _advance_container(self, container: Container, now_us: int) -> None:
        if not container.ready and container.ready_us <= now_us:
            container.phases.move(Phase.IDLE, container.ready_us)
        at_us = now_us
        for sequence in container.engine.advance(now_us):
            at_us = sequence.ended_us or at_us
            job = container.jobs.get(sequence)  # None: the same step ended all choices of its request
            if job is not None and job.is_complete() and not sequence.fatal:
                self._end_job(job, container, Ending.FINISHED, at_us)
        if container.engine.dead and container.leaves_us is None:
            self._end_all(container, Ending.ENGINE_DIED, at_us)
            container.leaves_us = at_us + DEAD_LINGERS_US

    def _stops_due(self, now_us: int) -> Iterator[tuple[int, Container]]:
        spare = len(self._containers) > self.spec.min_containers
        for container in self._containers:
            if container.leaves_us is not None:
                if container.leaves_us <= now_us:
                    yield container.leaves_us, container
            elif spare and container.phases.phase is Phase.IDLE:
                expires_us = container.phases.since_us + self._window_us
                if expires_us <= now_us:
                    yield expires_us, container

    def _start(self, now_us: int) -> None:
        boot_s = self.profile.boot_s * self._rng.lognormvariate(0.0, BOOT_JITTER_SIGMA)
        self.boots += 1
        self._containers.append(
            Container(
                id=f"ct-{self._rng.getrandbits(48):012x}",
                started_us=now_us,
                ready_us=now_us + round(boot_s * US_PER_S),
                engine=Engine(self.profile, self.settings),
                phases=PhaseClock(now_us),
            )
        )

    def _stop(self, container: Container, at_us: int) -> None:
        self._containers.remove(container)
        self._stopped.add(container.phases, at_us)

    def _scale_up(self, in_flight: int, now_us: int) -> None:
        wanted = min(self.spec.max_containers, -(-in_flight // self.spec.target_concurrency))
        while len(self._containers) < wanted:
            self._start(now_us)

    def _end_all(self, container: Container, ending: Ending, at_us: int) -> None:
        for job in dict.fromkeys(container.jobs.values()):
            self._end_job(job, container, ending, at_us)

    def _end_job(self, job: Job, container: Container, ending: Ending, at_us: int) -> None:
        job.ending = ending
        for sequence in job.sequences:
            del container.jobs[sequence]
        self._release(job, container, at_us)

    def _release(self, job: Job, container: Container, at_us: int) -> None:
        job.container = None
        container.in_flight -= 1
        if not container.in_flight:
            container.phases.move(Phase.IDLE, at_us)
