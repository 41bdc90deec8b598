"""`sluice serve`: run the endpoint; with `--simulate`, on simulated pools of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from policies.compile.load import load_policy
from pools.simulator import SimulatedPools
from pricing.clock import Clock, ScaledClock, SystemClock
from pricing.errors import SluiceError
from router.app import serve as serve_endpoint
from router.cli.options import OriginOption, SpeedupOption
from router.cli.simulate import free_phases, simulated_pools
from router.service.service import Service
from router.service.settings import Settings, misspelt
from router.service.simulated import Simulated
from router.telemetry.log import LOGGER, configure

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class BadSettings(SluiceError):
    """An environment variable or option is wrong; the message names it."""


@app.command()
def serve(
    policy: Annotated[list[Path] | None, typer.Option(help="Policy file or folder; else SLUICE_POLICY.")] = None,
    ledger: Annotated[
        str | None, typer.Option(help="Ledger file, or postgresql:// address; else SLUICE_LEDGER or ./sluice.sqlite.")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="Redis of several replicas, redis://…; a password is safer in SLUICE_REDIS_URL.")
    ] = None,
    redis_namespace: Annotated[
        str | None, typer.Option(help="Whose keys in that Redis; else SLUICE_REDIS_NAMESPACE or sluice.")
    ] = None,
    replica: Annotated[
        str | None, typer.Option(help="Name of this replica, no two alike; else SLUICE_REPLICA or a made-up one.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; else SLUICE_HOST or 127.0.0.1.")] = None,
    port: Annotated[str | None, typer.Option(help="Port, 0 for a free one; else SLUICE_PORT or 8080.")] = None,
    grace_s: Annotated[float, typer.Option(min=0, help="How long a stop waits for running requests.")] = 30.0,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    simulate: Annotated[
        bool, typer.Option(help="Serve from simulated pools in this process, whatever endpoints: say.")
    ] = False,
    speedup: SpeedupOption = 1,
    origin_us: OriginOption = None,
) -> None:
    """Run the endpoint until interrupted; then finish what runs, settle it, and stop."""
    given = {
        "SLUICE_LEDGER": ledger,
        "SLUICE_REDIS_URL": redis_url,
        "SLUICE_REDIS_NAMESPACE": redis_namespace,
        "SLUICE_REPLICA": replica,
        "SLUICE_HOST": host,
        "SLUICE_PORT": port,
        "SLUICE_LOG_LEVEL": log_level,
    }
    for name, meant in misspelt(os.environ).items():
        typer.echo(f"environment variable {name} is not read; did you mean {meant}?", err=True)
    settings = _settings(given)
    settings = replace(settings, policy_paths=tuple(policy or settings.policy_paths), grace_s=grace_s)
    clock = SystemClock() if speedup == 1 else ScaledClock(speedup, origin_us)
    try:
        configure(settings.log_level)
    except ValueError:
        raise BadSettings(f"log level '{settings.log_level}' is not one of debug, info, warning, error") from None
    uvloop.run(_run_simulated(settings, clock) if simulate else serve_endpoint(settings, clock, os.environ, _announce))


def _settings(given: Mapping[str, str | None]) -> Settings:
    """Options are variables of the environment that the command line has the last word on.

    Raises BadSettings in the words of whoever said it: `--port` is wrong, or `SLUICE_PORT`.
    """
    said = {name: text for name, text in given.items() if text}
    try:
        return Settings.from_environ({**os.environ, **said})
    except ValueError as error:
        words = str(error)
        for name in said:
            words = words.replace(name, f"--{name.removeprefix('SLUICE_').lower().replace('_', '-')}")
        raise BadSettings(words) from None


def _announce(url: str, service: Service) -> None:
    policy, state = service.policy, service.store.state()
    typer.echo(f"sluice serves {url}/v1  (policy {policy.version}, prices {policy.price_book})")
    typer.echo(f"dashboard: {url}/")
    if not state.up:
        typer.echo(f"the budget store is down, and requests wait for on_store_down: {state.trouble}")
    if not policy.endpoints:
        typer.echo("no pool has an endpoint yet: add endpoints: to the policy, or try `sluice serve --simulate`")
    if not policy.tenants:
        typer.echo("no tenants are configured: only this machine is served, as tenant 'local'")
        typer.echo(f"try: curl {url}/v1/chat/completions -H 'content-type: application/json' \\")
        typer.echo("""       -d '{"model": "chat", "messages": [{"role": "user", "content": "hello"}]}'""")


async def _run_simulated(settings: Settings, clock: Clock) -> None:
    """Simulated pools for every pool that has containers, in the place of whatever the files name.

    Variables that the files name need not be set: nothing that they could hold is used.
    """
    now_us = time.time_ns() // 1000
    loaded = load_policy(settings.policy_paths, environ=os.environ, now_us=now_us, assume_deployed=True)
    specs = simulated_pools(loaded)
    rates = {spec.name: loaded.rates[spec.name].nusd_per_h for spec in specs}
    free = {spec.name: free_phases(loaded, spec) for spec in specs}
    pools = SimulatedPools(specs, rates, clock, seed=0, free=free)
    base_url = await pools.start("127.0.0.1", 0)
    simulated = Simulated(base_url, frozenset(pools.pools))
    try:
        await serve_endpoint(
            replace(settings, simulated=simulated, assume_deployed=True), clock, os.environ, _announce_simulated
        )
    finally:
        await pools.stop()


def _announce_simulated(url: str, service: Service) -> None:
    """Nobody shall take a trial for the real thing: said on the terminal, in the log, and by `/health`."""
    _announce(url, service)
    replaced = service.policy.replaced
    typer.echo(f"SIMULATED: every answer comes from this process; what it costs goes into {service.settings.ledger}")
    if service.clock.speedup != 1:
        typer.echo(f"SIMULATED: time goes {service.clock.speedup:g} times as fast, and what is written is dated ahead")
    if replaced:
        typer.echo(f"SIMULATED: nothing is sent to what the policy names: {', '.join(replaced)}")
    LOGGER.warning("pools are simulated", extra={"fields": {"replaced": replaced}})
