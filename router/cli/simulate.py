"""`sluice simulate`: simulated pools in a process of their own, and the policy part that points a router at them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from policies.compile.load import load_policy
from policies.policy import Policy
from pools.simulator import SimulatedPools, speaks_chat
from pools.simulator.bill import Phase
from pools.spec import PoolSpec
from pricing.clock import ScaledClock
from pricing.errors import SluiceError
from pricing.money import format_usd
from pricing.nearest import nearest
from router.cli.options import WHOSE_FILES, OriginOption, SpeedupOption, policy_paths
from router.service.listening import cannot_listen
from router.service.simulated import policy_part

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class NothingToSimulate(SluiceError):
    """The pools that were asked for are not in the policy, or speak no chat API."""


@app.command()
def simulate(
    policy: Annotated[list[Path] | None, typer.Option(help=WHOSE_FILES)] = None,
    pool: Annotated[list[str] | None, typer.Option(help="A pool to run; else all that answer chat.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port, 0 for a free one.")] = 8900,
    speedup: SpeedupOption = 1.0,
    seed: Annotated[int, typer.Option(help="Of boots, deviations and faults by rate.")] = 0,
    origin_us: OriginOption = None,
) -> None:
    """Run simulated pools that answer like vLLM, until interrupted; then print what they billed."""
    now_us = time.time_ns() // 1000
    loaded = load_policy(policy_paths(policy), environ=os.environ, now_us=now_us, assume_deployed=True)
    specs = chosen_pools(loaded, pool or [])
    rates = {spec.name: loaded.rates[spec.name].nusd_per_h for spec in specs}
    origin_us = now_us if origin_us is None else origin_us
    free = {spec.name: free_phases(loaded, spec) for spec in specs}
    simulated = SimulatedPools(specs, rates, ScaledClock(speedup, origin_us), seed, free=free)
    uvloop.run(_run(simulated, host, port, f"speedup {speedup:g}, origin_us {origin_us}, seed {seed}"))


def simulated_pools(policy: Policy) -> list[PoolSpec]:
    """Every pool of a policy that has containers, those that make pictures and clips included.

    Raises NothingToSimulate.
    """
    return chosen_pools(policy, [name for name, spec in policy.pools.items() if spec.terms is None])


def chosen_pools(policy: Policy, names: Iterable[str]) -> list[PoolSpec]:
    """The named pools of a policy, or all that speak the chat API. Raises NothingToSimulate."""
    ours = [name for name, spec in policy.pools.items() if speaks_chat(spec) and spec.terms is None]
    wanted = list(names) or ours
    unknown = [name for name in wanted if name not in policy.pools]
    if unknown:
        hint = nearest(unknown[0], policy.pools) or f"; it has {', '.join(sorted(policy.pools))}"
        raise NothingToSimulate(f"no pool '{unknown[0]}' in this policy{hint}")
    sold = [name for name in wanted if policy.pools[name].terms is not None]
    if sold:
        raise NothingToSimulate(f"pool '{sold[0]}' is billed by the token: it has no containers to simulate")
    if not wanted:
        raise NothingToSimulate("this policy has no pool that answers chat; name another with --policy")
    return [policy.pools[name] for name in wanted]


def free_phases(policy: Policy, spec: PoolSpec) -> frozenset[Phase]:
    """What the pool's price book does not bill."""
    return frozenset(map(Phase, policy.rates[spec.name].billed.free))


async def _run(simulated: SimulatedPools, host: str, port: int, clock: str) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        base_url = await simulated.start(host, port)
    except (OSError, UnicodeError) as error:
        raise cannot_listen(host, port, error) from None
    typer.echo(f"# simulated pools ({clock}); put this file beside the router's policy:")
    typer.echo(policy_part(base_url, simulated.pools))
    await stopped.wait()
    for name, bill in simulated.bill().items():
        if bill["alive_us"]:
            typer.echo(f"# {name}: {bill['alive_us'] / 1e6:.1f} container-seconds, {format_usd(bill['billed_nusd'])}")
    await simulated.stop()
