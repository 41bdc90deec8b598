"""What the demo is played on: simulated pools, the endpoint in front of them, and one clock for all."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from policies.compile.load import load_policy
from policies.policy import Policy
from pricing.clock import ScaledClock
from router.demo.control import Control
from router.demo.load import Target
from router.demo.plan import PlannedRequest
from router.demo.processes import Child
from router.demo.tenants import new_keys, trial_budget_nusd, write_policy
from router.service.simulated import policy_part

ENDPOINTS: Final = "endpoints.yaml"
LEDGER: Final = "ledger.sqlite"


@dataclass(frozen=True, slots=True)
class Stage:
    """`control` is the simulated platform's control plane; `policy` what the endpoint serves."""

    clock: ScaledClock
    policy: Policy
    ledger: Path
    target: Target
    control: Control
    endpoint: Child


@asynccontextmanager
async def stage(folder: Path, speedup: float, seed: int, requests: Sequence[PlannedRequest]) -> AsyncIterator[Stage]:
    """Start everything inside a folder, for these requests; both processes have ended afterwards. Raises DemoFailed."""
    clock = ScaledClock(speedup)
    timing = ["--speedup", str(speedup), "--origin-us", str(clock.wall_us())]
    keys = new_keys(requests)
    files = folder / "policy"
    write_policy(files, keys, trial_budget_nusd(requests))
    pools = await Child.start("simulate", ["--policy", str(files), "--port", "0", "--seed", str(seed), *timing], folder)
    try:
        policy = _point_at(files, pools.url)
        endpoint = await _serve(folder, files, timing)
        try:
            async with aiohttp.ClientSession() as session:
                target = Target(endpoint.url, keys)
                yield Stage(clock, policy, folder / LEDGER, target, Control(session, pools.url), endpoint)
        finally:
            await endpoint.kill()
    finally:
        await pools.kill()


def _point_at(files: Path, pools_url: str) -> Policy:
    """Complete the set with the addresses of the simulated pools."""
    configured = _load(files, assume_deployed=True).pools
    (files / ENDPOINTS).write_text(f"{policy_part(pools_url, configured)}\n", encoding="utf-8")
    return _load(files, assume_deployed=False)


def _load(files: Path, *, assume_deployed: bool) -> Policy:
    return load_policy([files], environ={}, now_us=time.time_ns() // 1000, assume_deployed=assume_deployed)


async def _serve(folder: Path, files: Path, timing: list[str]) -> Child:
    where = ["--policy", str(files), "--ledger", str(folder / LEDGER), "--port", "0", "--log-level", "warning"]
    return await Child.start("serve", [*where, *timing], folder)
