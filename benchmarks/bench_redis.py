"""What a request's money costs on Redis, and what the client has of it, beside redis-py.

    python benchmarks/bench_redis.py [--requests 6000]

The server has the last core, the caller the first. CPU is that of each process. Needs redis-server on the PATH.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import redis.asyncio
import uvloop

from bench_store import REQUEST, ROW, SCOPES
from pricing.budgets.caps import Cap, CapTable, Scope, ScopeKind, parse_window
from pricing.budgets.store import OpenHold, Settlement
from pricing.clock import SystemClock
from pricing.errors import StoreUnavailable
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.scripts import script_of
from pricing.redis.store import RedisStore
from processes import cpu_us, free_port, running
from results import Result, Target, number
from router.app import GC_THRESHOLDS

ROUNDS: Final = 3
AT_ONCE: Final = (1, 32, 128)
# A small look at a sum, so that most of the time is the client's.
RESERVE: Final = script_of("reserve", b"return {redis.call('HINCRBY', KEYS[1], 'held', ARGV[1]), ARGV[2]}")
KEYS: Final = ("{sluice}:bench",)
ARGS: Final = (1, "x" * 100)


@dataclass(frozen=True, slots=True)
class Load:
    """What is timed: `step`, with what `prepare` has made for it of a number beforehand, which is not timed."""

    prepare: Callable[[int], Any]
    step: Callable[[Any], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class Timed:
    """A load: steps a second; CPU of caller and server, median and 99th percentile of a step, all in µs."""

    per_s: float
    caller_us: float
    server_us: float
    p50_us: float
    p99_us: float


@contextmanager
def server(appendfsync: str) -> Iterator[Server]:
    """A Redis with an append-only file, on the last core."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("bench_redis needs redis-server on the PATH: install the distribution's package redis-server")
    port, core = free_port(), max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", appendfsync]
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
async def own_client(at: Server) -> AsyncIterator[Load]:
    client = await connected(at)
    yield Load(int, lambda _: client.evalsha(RESERVE, KEYS, ARGS))
    await client.aclose()


@asynccontextmanager
async def redis_py(at: Server) -> AsyncIterator[Load]:
    client = redis.asyncio.Redis.from_url(at.url, max_connections=max(AT_ONCE))
    await client.script_load(RESERVE.text)
    yield Load(int, lambda _: client.evalsha(RESERVE.sha.decode(), len(KEYS), *KEYS, *ARGS))
    await client.aclose()


@asynccontextmanager
async def hold_and_settle(at: Server, tenants: int) -> AsyncIterator[Load]:
    """A request's money: its hold in five scopes under three caps, then its settlement with a row and a summary."""
    client = await connected(at)
    windows = [parse_window(text) for text in ("24h", "7d", "1mo")]
    names = [f"tenant-{index}" for index in range(tenants)]
    caps = tuple(
        Cap(window.text, Scope(ScopeKind.TENANT, name), 10**15, window) for name in names for window in windows
    )
    table, clock = CapTable(caps, ZoneInfo("UTC")), SystemClock()
    store = RedisStore(client, clock, table, replica="bench", namespace=f"bench-{tenants}")
    await store.start()

    async def request(money: tuple[OpenHold, Settlement]) -> None:
        wish, settlement = money
        await store.open(wish)
        await store.settle(settlement)

    yield Load(lambda index: request_money(index, names[index % tenants], clock.wall_us()), request)
    await store.aclose()
    await client.aclose()


def request_money(index: int, tenant: str, at_us: int) -> tuple[OpenHold, Settlement]:
    name = f"request-{index}"
    ours = {"request_id": name, "tenant": tenant, "at_us": at_us}
    row = msgspec.structs.replace(ROW, row_id=f"{name}:1:attempt", account=tenant, **ours)
    scopes = (Scope(ScopeKind.TENANT, tenant), *SCOPES[1:])
    wish = OpenHold(f"{name}:1", name, scopes, 20_000, 30.0, on_expiry=row)
    return wish, Settlement(wish.hold_id, row.amount_nusd, (row,), msgspec.structs.replace(REQUEST, **ours))


async def timed(load: Load, at: Server, at_once: int, numbers: range) -> Timed:
    """Run a step for each number, so many at a time."""
    latencies: list[float] = []
    steps = iter([load.prepare(index) for index in numbers])

    async def caller() -> None:
        for made in steps:
            begin = time.perf_counter()
            await load.step(made)
            latencies.append(time.perf_counter() - begin)

    begin, begin_caller_s, begin_server_us = time.perf_counter(), time.process_time(), cpu_us(at.pid)
    await asyncio.gather(*(caller() for _ in range(at_once)))
    seconds, caller_s = time.perf_counter() - begin, time.process_time() - begin_caller_s
    done = len(latencies)
    p50_s, p99_s = statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]
    server_us = (cpu_us(at.pid) - begin_server_us) / done
    return Timed(done / seconds, 1e6 * caller_s / done, server_us, 1e6 * p50_s, 1e6 * p99_s)


async def loads(opened: Callable[[Server], AbstractAsyncContextManager[Load]], at: Server, steps: int) -> list[Timed]:
    """Each load of AT_ONCE: of its rounds the one with the median CPU of the caller."""
    async with opened(at) as load:
        await timed(load, at, 1, range(200))  # warm: connections, scripts, first keys
        begin, found = 200, []
        for at_once in AT_ONCE:
            share = steps if at_once > 1 else steps // 4
            rounds = []
            for _ in range(ROUNDS):
                rounds.append(await timed(load, at, at_once, range(begin, begin + share)))
                begin += share
            found.append(sorted(rounds, key=lambda each: each.caller_us)[ROUNDS // 2])
        return found


def targets(found: dict[str, list[Timed]]) -> list[Target]:
    few, many = found["hold + settle, 10 tenants"], found["hold + settle, 10,000 tenants"]
    added_us, busiest = few[0].p50_us, few[-1].caller_us
    times = many[-1].caller_us / busiest
    return [
        Target("hold + settle at one caller, p50 µs", "below 1,000", number(added_us), added_us < 1_000),
        Target("caller's CPU for hold + settle under load, µs", "at most 20", number(busiest), busiest <= 20),
        Target("10,000 tenants with 3 caps each, times the CPU of 10", "at most 1.1", number(times), times <= 1.1),
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=6_000)
    requests = options.parse_args().requests
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)  # as `sluice serve` has it
    found: dict[str, list[Timed]] = {}
    with server("everysec") as at:
        found["script, own client"] = uvloop.run(loads(own_client, at, 5 * requests))
        found["script, redis-py asyncio"] = uvloop.run(loads(redis_py, at, requests))
        for tenants in (10, 10_000):
            opened = partial(hold_and_settle, tenants=tenants)
            found[f"hold + settle, {tenants:,} tenants"] = uvloop.run(loads(opened, at, requests))
    with server("always") as at:
        opened = partial(hold_and_settle, tenants=10)
        found["hold + settle, appendfsync always"] = uvloop.run(loads(opened, at, requests))
    rows = [
        (what, str(at_once), *map(number, (one.per_s, one.caller_us, one.server_us, one.p50_us, one.p99_us)))
        for what, each in found.items()
        for at_once, one in zip(AT_ONCE, each, strict=True)
    ]
    columns = ("what", "at once", "a second", "caller's CPU µs", "server's CPU µs", "p50 µs", "p99 µs")
    about = (
        "A script that adds to a sum, and a request's money: a hold in five scopes under three caps, then its "
        f"settlement with a row and a summary; {requests:,} requests a load, median of {ROUNDS} rounds. The server "
        "keeps an append-only file, flushed every second unless said."
    )
    print(Result("Redis", about, columns, rows, targets(found)).as_json())


if __name__ == "__main__":
    main()
