"""How fast the ledger's stream goes from Redis into PostgreSQL.

    python benchmarks/bench_ledger_drain.py [--entries 20000]

Redis, PostgreSQL (with fsync) and the drainers share the machine's cores, as they would in a small installation. Needs
redis-server and PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from pricing.clock import SystemClock
from pricing.ledger.entries import rows_entry
from pricing.ledger.place import PostgresUrl
from pricing.ledger.upgrade import ensure_current
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.drainer import Drainer
from pricing.redis.keys import prefix_of
from request_money import REQUEST, ROW
from results import Result, Target, number

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from support.real_postgres import running_postgres  # the servers of the tests
from support.real_redis import running_redis

ROWS_PER_S: Final = 5_000
BEGIN_US: Final = 1_793_491_200_000_000  # 2026-11-01
TENANTS: Final = 100


async def fill(client: RedisClient, namespace: str, entries: int) -> None:
    """Settlements of requests: one row of money and a summary with its decision each."""
    key = prefix_of(namespace) + b"rows"
    for begin in range(0, entries, 500):
        sent = []
        for index in range(begin, min(begin + 500, entries)):
            tenant, name = f"tenant-{index % TENANTS}", f"request-{index:08}"
            at_us = BEGIN_US + index * 1_000
            row = msgspec.structs.replace(
                ROW, row_id=f"{name}:1:attempt", account=tenant, tenant=tenant, request_id=name, at_us=at_us
            )
            summary = msgspec.structs.replace(REQUEST, request_id=name, tenant=tenant, at_us=at_us)
            sent.append(client.command("XADD", key, "*", *rows_entry([row], summary)))
        await asyncio.gather(*sent)


async def drain(redis_url: str, url: PostgresUrl, entries: int, drainers: int) -> tuple[float, float]:
    """Rows a second, and the drainers' CPU a row in µs. An entry is two rows: money, and a summary."""
    clients = [RedisClient(RedisAddress.from_url(redis_url), timeout_s=30) for _ in range(drainers)]
    namespace = f"bench-{drainers}"
    for client in clients:
        await client.connect()
    await fill(clients[0], namespace, entries)
    clock = SystemClock()
    made = [
        Drainer(client, url, clock, consumer=f"drainer-{index}", namespace=namespace)
        for index, client in enumerate(clients)
    ]

    async def until_empty(drainer: Drainer) -> None:
        while await drainer.step():
            pass

    begin, begin_cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(until_empty(drainer) for drainer in made))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    rows = 2 * sum(drainer.drained.entries for drainer in made)
    for drainer, client in zip(made, clients, strict=True):
        await drainer.aclose()
        await client.aclose()
    return rows / seconds, 1e6 * cpu / rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--entries", type=int, default=20_000)
    asked = options.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_redis(Path(folder), {"appendonly": "yes"}) as redis,
        running_postgres({"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB"}) as postgres,
    ):
        drained = []
        for drainers in (1, 2):
            url = PostgresUrl(postgres.new_database())
            ensure_current(url)
            drained.append((drainers, *uvloop.run(drain(redis.url, url, asked.entries, drainers))))
    rows = [(f"drained by {n}", f"{number(per_s)} rows/s", f"{number(us)} µs CPU/row") for n, per_s, us in drained]
    slowest = min(per_s for _, per_s, _ in drained)
    targets = (Target("rows drained", f"≥ {ROWS_PER_S:,}/s", f"{number(slowest)}/s", slowest >= ROWS_PER_S),)
    about = (
        f"{asked.entries:,} settlements of {TENANTS} tenants in a Redis stream, each a row of money and a summary, "
        "into PostgreSQL with fsync; each is added to the sums by hour and day."
    )
    print(Result("Ledger", about, ("what", "speed", "CPU of the drainers"), rows, targets).as_json())


if __name__ == "__main__":
    main()
