"""What a request's money costs on Redis, and what the client has of it, beside redis-py.

    python benchmarks/bench_redis.py [--requests 4000]

The server has the last core, the caller the first. CPU is that of each process. Needs redis-server on the PATH.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis.asyncio
import uvloop

from pricing.clock import SystemClock
from pricing.errors import StoreUnavailable
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.scripts import script_of
from pricing.redis.store import RedisStore
from processes import free_port, running
from request_money import AT_ONCE, FEW, MANY, ROUNDS, Found, Load, hold_and_settle, in_turns, rows_of, tenant_caps
from results import Result, Target, number
from router.app import GC_THRESHOLDS

# A small look at a sum, so that most of the time is the client's.
RESERVE: Final = script_of("reserve", b"return {redis.call('HINCRBY', KEYS[1], 'held', ARGV[1]), ARGV[2]}")
KEYS: Final = ("{sluice}:bench",)
ARGS: Final = (1, "x" * 100)
FEW_TENANTS: Final = f"hold + settle, {FEW} tenants"
MANY_TENANTS: Final = f"hold + settle, {MANY:,} tenants"


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    pid: int


@contextmanager
def server(appendfsync: str) -> Iterator[Server]:
    """A Redis with an append-only file, on the last core.

    It never rewrites that file: a server does so when it has doubled, which would fall into one round or another.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("bench_redis needs redis-server on the PATH: install the distribution's package redis-server")
    port, core = free_port(), max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", appendfsync, "--auto-aof-rewrite-percentage", "0"]
        with running(command, core=core, cwd=Path(folder), log=Path(folder, "redis.log")) as process:
            yield Server(f"redis://127.0.0.1:{port}", process.pid)


async def connected(at: Server) -> RedisClient:
    """A client, as soon as the server answers."""
    client = RedisClient(RedisAddress.from_url(at.url), timeout_s=30)
    async with asyncio.timeout(10):
        while not client.connected:
            try:
                await client.connect()
            except StoreUnavailable:
                await asyncio.sleep(0.02)
    return client


@asynccontextmanager
async def own_client(at: Server, steps: int) -> AsyncIterator[Load]:
    client = await connected(at)
    yield Load(int, lambda _: client.evalsha(RESERVE, KEYS, ARGS), steps)
    await client.aclose()


@asynccontextmanager
async def redis_py(at: Server, steps: int) -> AsyncIterator[Load]:
    client = redis.asyncio.Redis.from_url(at.url, max_connections=max(AT_ONCE))
    await client.script_load(RESERVE.text)
    yield Load(int, lambda _: client.evalsha(RESERVE.sha.decode(), len(KEYS), *KEYS, *ARGS), steps)
    await client.aclose()


@asynccontextmanager
async def requests_of(at: Server, tenants: int, steps: int) -> AsyncIterator[Load]:
    client, clock = await connected(at), SystemClock()
    store = RedisStore(client, clock, tenant_caps(tenants), replica="bench", namespace=f"bench-{tenants}")
    await store.start()
    yield hold_and_settle(store, clock, tenants, steps)
    await store.aclose()
    await client.aclose()


async def flushed_every_second(at: Server, requests: int) -> dict[str, Found]:
    async with AsyncExitStack() as opened:
        loads = {
            "script, own client": own_client(at, 5 * requests),
            "script, redis-py asyncio": redis_py(at, requests),
            FEW_TENANTS: requests_of(at, FEW, requests),
            MANY_TENANTS: requests_of(at, MANY, requests),
        }
        return await in_turns({name: await opened.enter_async_context(each) for name, each in loads.items()}, at.pid)


async def flushed_always(at: Server, requests: int) -> dict[str, Found]:
    async with requests_of(at, FEW, requests) as load:
        return await in_turns({"hold + settle, appendfsync always": load}, at.pid)


def targets(found: dict[str, Found]) -> list[Target]:
    few, many = found[FEW_TENANTS], found[MANY_TENANTS]
    added_us, busiest_us = few.middle(1).p50_us, few.middle(AT_ONCE[-1]).caller_us
    times = many.over(few, lambda each: each.caller_us)
    speed = many.over(few, lambda each: each.per_s)
    return [
        Target("hold + settle at one caller, p50 µs", "below 1,000", number(added_us), added_us < 1_000),
        Target("caller's CPU for hold + settle under load, µs", "at most 20", number(busiest_us), busiest_us <= 20),
        Target(
            f"{MANY:,} tenants with 3 caps each, times the CPU of {FEW}", "at most 1.1", number(times), times <= 1.1
        ),
        Target(f"their requests/s, times those of {FEW}", "at least 0.9", number(speed), speed >= 0.9),
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=4_000)
    requests = options.parse_args().requests
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)  # as `sluice serve` has it
    with server("everysec") as at:
        found = uvloop.run(flushed_every_second(at, requests))
    with server("always") as at:
        found |= uvloop.run(flushed_always(at, requests))
    columns = ("what", "at once", "a second", "caller's CPU µs", "server's CPU µs", "p50 µs", "p99 µs")
    about = (
        "A script that adds to a sum, and a request's money: a hold in five scopes under three caps, then its "
        f"settlement with a row and a summary; {requests:,} requests a round, all loads in turns, median of {ROUNDS} "
        "rounds. A tenant's first request makes its keys and sums on the server and encodes its caps; it is not among "
        "the rounds. The server keeps an append-only file, flushed every second unless said; it does not rewrite it "
        "meanwhile, which any server does each time that file has doubled."
    )
    print(Result("Redis", about, columns, rows_of(found), targets(found)).as_json())


if __name__ == "__main__":
    main()
