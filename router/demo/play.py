"""The demo from its first process to its last row: start, send, break, wait for the last container, compare."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from policies.policy import Policy
from pricing.budgets.offline import cap_statuses
from pricing.clock import US_PER_S
from pricing.verify.sqlite import verify
from router.demo.baseline import baseline_nusd
from router.demo.bodies import Bodies
from router.demo.books import read_sums
from router.demo.load import Load, Outcome
from router.demo.mishaps import Mishaps
from router.demo.plan import PlannedRequest, plan
from router.demo.processes import DemoFailed
from router.demo.progress import Traffic
from router.demo.stage import Stage, stage
from router.demo.summary import Summary
from router.demo.trace import TraceRow

LOOK_EVERY_S: Final = 2.0  # simulated seconds between two looks at what is still alive
STOP_WITHIN_S: Final = 300.0  # simulated seconds beyond the longest idle window


@dataclass(frozen=True, slots=True)
class Setting:
    """How to play: `speedup` times faster than life, what is random from `seed`, files in `folder`."""

    speedup: float
    seed: int
    folder: Path


async def play(rows: Sequence[TraceRow], setting: Setting, screen: Console) -> tuple[Policy, Summary]:
    """Play a trace to its end. Raises DemoFailed where it cannot; whether all is well, `problems_of` says."""
    began_s = time.monotonic()
    requests = plan(rows, setting.seed)
    screen.print("starting the simulated pools and the endpoint")
    async with stage(setting.folder, setting.speedup, setting.seed, requests) as on:
        began_us = on.clock.mono_us()
        screen.print(f"{len(requests):,} requests through {on.target.url}/v1")
        screen.print(f"watch them at {on.target.url}/")
        mishaps = Mishaps(on.control, on.clock, len(requests))
        outcomes = await _send_all(requests, on, mishaps, Bodies(setting.seed), screen)
        screen.print("waiting for the last containers to stop: until then they are billed")
        await _all_stopped(on)
        simulated_s = (on.clock.mono_us() - began_us) / US_PER_S
        await on.endpoint.stop()
        wall_us = on.clock.wall_us()
        summary = Summary(
            outcomes=outcomes,
            sums=read_sums(on.ledger),
            bill=await on.control.bill(),
            baseline=baseline_nusd(on.policy, outcomes),
            caps=cap_statuses(on.ledger, on.policy.caps, wall_us),
            verification=verify(on.ledger, wall_us),
            struck=mishaps.struck,
            seed=setting.seed,
            speedup=setting.speedup,
            simulated_s=simulated_s,
            real_s=time.monotonic() - began_s,
        )
        return on.policy, summary


async def _send_all(
    requests: Sequence[PlannedRequest], on: Stage, mishaps: Mishaps, bodies: Bodies, screen: Console
) -> list[Outcome]:
    traffic = Traffic(screen, on.clock, len(requests))

    def sent(planned: PlannedRequest) -> None:
        traffic.sent(planned)
        mishaps.sent(planned)

    def ended(outcome: Outcome) -> None:
        traffic.ended(outcome)
        mishaps.ended(outcome)

    async with traffic.drawn():
        striking = asyncio.create_task(mishaps.strike())
        outcomes = await Load(on.target, bodies, on.clock, sent, ended).play(requests)
        await striking
    return outcomes


async def _all_stopped(on: Stage) -> None:
    """Wait until no container is alive, so that the bill is final. Raises DemoFailed when one stays."""
    longest_s = max(pool.scaledown_window_s for pool in on.policy.pools.values()) + STOP_WITHIN_S
    ends_us = on.clock.mono_us() + round(longest_s * US_PER_S)
    while alive := await on.control.alive():
        if on.clock.mono_us() > ends_us:
            raise DemoFailed(f"containers of {', '.join(alive)} are alive {longest_s:.0f} s after the last answer")
        await on.clock.sleep(LOOK_EVERY_S)
