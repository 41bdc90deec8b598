"""A measurement inside a test: against the small simulated pool, on its clock, or against a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pools.platforms.http import HttpPlatform
from pools.simulator import SimulatedPools
from pools.simulator.faults import parse_fault
from pools.spec import PoolSpec
from pools.wire.http import HttpBackend, make_session
from pricing.clock import Clock, ScaledClock
from pricing.prices.rates import ContainerRate
from router.measure.run import Measuring, Watch
from router.measure.subject import Shape, Subject
from support.scripted_server import Script, ScriptedServer, scripted
from support.simulated import RATE_NUSD_PER_H, SPEC, SPEEDUP

RATE = ContainerRate(RATE_NUSD_PER_H, RATE_NUSD_PER_H, 0, 0, "a-book", ("book 'a-book' does not state CPU",))
NOBODY = Watch()
SMALL = Shape(requests=8, concurrency=4, prompt_tokens=40, output_tokens=20)


@dataclass
class Simulation:
    """Simulated pools, and what a measurement of the one of them is given."""

    simulator: SimulatedPools
    measuring: Measuring

    @property
    def spec(self) -> PoolSpec:
        assert self.measuring.subject.pool is not None
        return self.measuring.subject.pool

    def bill(self) -> dict[str, int]:
        return self.simulator.bill()[self.spec.name]

    def fail(self, kind: str, **more: Any) -> None:
        """Order a fault of the pool."""
        self.simulator.pools[self.spec.name].faults.add(parse_fault({"kind": kind, **more}))


@contextlib.asynccontextmanager
async def measuring_simulated(
    shape: Shape = SMALL, spec: PoolSpec = SPEC, *, platform: bool = True, watch: Watch = NOBODY
) -> AsyncIterator[Simulation]:
    """One pool that sleeps. Without `platform` nobody lists its containers."""
    clock = ScaledClock(SPEEDUP)
    simulator = SimulatedPools([spec], {spec.name: RATE_NUSD_PER_H}, clock, 7)
    base_url = await simulator.start()
    subject = Subject(
        simulator.pool_url(spec.name),
        spec.served_model_name,
        spec,
        spec.boot_s,
        RATE_NUSD_PER_H,
        RATE,
        machine="a test",
    )
    async with _measuring(subject, shape, clock, base_url if platform else None, watch) as measuring:
        yield Simulation(simulator, measuring)
    await simulator.stop()


@contextlib.asynccontextmanager
async def measuring_script(
    script: Script, shape: Shape = SMALL, **subject: Any
) -> AsyncIterator[tuple[Measuring, ScriptedServer]]:
    """A server that answers byte by byte, in real time."""
    async with scripted(script) as server, measuring_at(server.url, shape, **subject) as measuring:
        yield measuring, server


@contextlib.asynccontextmanager
async def measuring_at(url: str, shape: Shape, **subject: Any) -> AsyncIterator[Measuring]:
    """A server that no catalogue knows, in real time."""
    async with _measuring(Subject(url, "m", **subject), shape, ScaledClock(), None, NOBODY) as measuring:
        yield measuring


@contextlib.asynccontextmanager
async def _measuring(
    subject: Subject, shape: Shape, clock: Clock, platform_url: str | None, watch: Watch
) -> AsyncIterator[Measuring]:
    async with make_session() as session:
        backend = HttpBackend(subject.url, session, clock, believed_asleep=lambda: True)
        platform = None if platform_url is None else HttpPlatform(platform_url, session)
        yield Measuring(subject, shape, backend, platform, clock, asyncio.Event(), watch)
