"""One torture run: everything started, everything broken, everything put right again, and the books compared."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis.asyncio

from router.demo.processes import Child
from support.real_redis import RedisServer, running_redis
from support.torture.chaos import Chaos, Replica
from support.torture.load import Load
from support.torture.scene import LEASE_S, Size, Tenant, tenants, write_policy
from support.torture.watch import Watcher
from support.torture.wire import wire

PREFIX: Final = "{sluice}:"
DURABLE: Final = {"appendonly": "yes", "appendfsync": "always"}
QUIET_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is over: who took part, what they were told, what the watcher saw. Redis still answers."""

    cast: list[Tenant]
    load: Load
    chaos: Chaos
    watcher: Watcher
    totals_nusd: Mapping[str, int]  # what the store says that each scope has ever spent
    environ: Mapping[str, str]  # of a command that looks at what is left


@contextlib.asynccontextmanager
async def torture(folder: Path, postgres_url: str, size: Size, seed: int) -> AsyncIterator[Run]:
    """Play a run to its end: every hold has ended, every row is in PostgreSQL, the replicas have stopped."""
    cast = tenants(size)
    with running_redis(folder / "redis", DURABLE) as server:
        async with contextlib.AsyncExitStack() as stack:
            pools = await Child.start("simulate", ["--policy", str(_draft(folder, cast)), "--port", "0"], folder)
            stack.push_async_callback(pools.kill)
            write_policy(folder, cast, pools.url)
            replicas = [await _replica(stack, number, folder, server, postgres_url) for number in range(size.replicas)]
            urls = dict(enumerate(await asyncio.gather(*(one.start() for one in replicas))))
            load = Load(size, cast, seed, urls)
            chaos = Chaos(size, seed, replicas, server, urls, load.until)
            watcher = Watcher(server.url, PREFIX, cast)
            async with _running(watcher), asyncio.timeout(size.lasts_at_most_s):
                await asyncio.gather(load.run(), chaos.run())
                await _quiet(server)
            await asyncio.gather(*(one.stop() for one in replicas))
            totals = await _totals(server)
            yield Run(cast, load, chaos, watcher, totals, {**replicas[0].environ, "SLUICE_REDIS_URL": server.url})


def _draft(folder: Path, cast: list[Tenant]) -> Path:
    """The policy before the pools have an address: enough to know which pools to simulate."""
    write_policy(folder, cast, "http://127.0.0.1:1")
    return folder / "policy.yaml"


async def _replica(
    stack: contextlib.AsyncExitStack, number: int, folder: Path, server: RedisServer, postgres_url: str
) -> Replica:
    line = await stack.enter_async_context(wire(server.port))
    environ = {
        "SLUICE_REDIS_URL": f"redis://127.0.0.1:{line.port}",
        "SLUICE_LEDGER": postgres_url,
        "SLUICE_REPLICA": f"replica{number}",
    }
    replica = Replica(number, line, folder, environ)
    stack.push_async_callback(replica.kill)
    return replica


@contextlib.asynccontextmanager
async def _running(watcher: Watcher) -> AsyncIterator[None]:
    task = asyncio.create_task(watcher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _quiet(server: RedisServer) -> None:
    """Wait until the holds of the dead have ended and the last row is on its way no more."""
    client = redis.asyncio.Redis.from_url(server.url)
    await asyncio.sleep(LEASE_S)
    async with client, asyncio.timeout(QUIET_WITHIN_S):
        while await client.zcard(f"{PREFIX}leases") or await client.xlen(f"{PREFIX}rows"):
            pass


async def _totals(server: RedisServer) -> Mapping[str, int]:
    async with redis.asyncio.Redis.from_url(server.url, decode_responses=True) as client:
        found = await client.hgetall(f"{PREFIX}totals")
    return {str(scope): int(nusd) for scope, nusd in found.items()}
