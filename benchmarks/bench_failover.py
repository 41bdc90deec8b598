"""What a failure costs in time, and what the outage of a pool loses.

    python bench_failover.py [--requests 300] [--streams 500] [--seconds 12]

First, one request after another to a ladder of two pools of which the first fails: the time from its failure to the
first byte of the next attempt at the second. Then many streams at once, twice: through a quiet run, and through one in
which the first pool dies under them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

import load
from bench_endpoint import PATH, body
from failing import Failing, How, Mortal, Seen, Well
from gateways import KEY, POOL, READY_S
from processes import free_port, resident_mb, running, wait_until_ready
from results import Result, Target, number

HOST: Final = "127.0.0.1"
STREAM_PACE_S: Final = 0.1  # 500 streams of 10 chunks/s are a quarter of what one core relays
STREAM_CHUNKS: Final = 30
QUIET_S: Final = 1.5  # until connections that are kept have been closed and memory is what stays

# Neither the breaker nor the shape keeps requests from the pool that fails: each is to meet it.
ALWAYS_TRIED: Final = """\
defaults:
  breaker:
    failures: 1000000
  shape_cooldown_s: 0.001
  retry_budget: 1.0
"""
POLICY: Final = """\
version: 1
description: two pools that are always on; written by benchmarks/bench_failover.py
price_book: modal-2026-10
pools:
  first:
    extends: {pool}
  second:
    extends: {pool}
classes:
  bench:
    objective: listed
    ladder:
      premium: [first, second]
endpoints:
  first:
    url: http://127.0.0.1:{first}
    always_on: 64
  second:
    url: http://127.0.0.1:{second}
    always_on: 64
tenants:
  bench:
    keys:
      - id: bench
        sha256: {sha256}
{defaults}"""


@dataclass(frozen=True, slots=True)
class Outage:
    """Streams that another pool could serve and that were lost; memory in MB after each run, and before both."""

    served: int
    lost: int
    cut: int
    before_mb: float
    after_quiet_mb: float
    after_outage_mb: float
    after_second_mb: float


@contextmanager
def sluice(folder: Path, core: int, first: int, second: int, defaults: str = "") -> Iterator[tuple[int, int]]:
    """An endpoint before two ports; yields its own port and its process id."""
    port, log, policy = free_port(), folder / "sluice.log", folder / "policy.yaml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    policy.write_text(POLICY.format(pool=POOL, first=first, second=second, sha256=digest, defaults=defaults))
    command = [str(Path(sys.executable).parent / "sluice"), "serve", "--policy", str(policy)]
    command += ["--ledger", str(folder / f"{port}.sqlite"), "--port", str(port)]
    with running(command, core=core, cwd=folder, log=log) as process:
        wait_until_ready(process, f"http://{HOST}:{port}/health/readiness", log, READY_S)
        yield port, process.pid


# -- one after another -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def pools(how: How, first: int, second: int, seen: Seen) -> AsyncIterator[None]:
    """The pool that fails, unless it is one that does not listen, and the one that is well."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: Well(0.0, 3, seen), HOST, second)]
    if how is not How.REFUSES:
        servers.append(await loop.create_server(lambda: Failing(how, seen), HOST, first))
    try:
        yield
    finally:
        for server in servers:
            server.close()


async def failovers(port: int, how: How, first: int, second: int, requests: int) -> list[float]:
    """Milliseconds from a failure to the first byte of the next attempt. Raises LoadError.

    Nobody sees a connection being refused, so there it is from the client's own first byte, and an upper bound.
    """
    seen, sent = Seen(), list[int]()
    request = (
        load.Target(port, PATH, body(streamed=True), KEY).encoded().replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
    )
    async with pools(how, first, second, seen):
        for _ in range(requests):
            reader, writer = await asyncio.open_connection(HOST, port)
            sent.append(time.perf_counter_ns())
            writer.write(request)
            answer = await reader.read()
            writer.close()
            if b"[DONE]" not in answer:
                raise load.LoadError(f"{how}: {answer[-300:].decode(errors='replace')}")
    failed = sent if how is How.REFUSES else seen.failed
    return [(arrived - since) / 1e6 for since, arrived in zip(failed, seen.arrived, strict=True)]


def one_by_one(folder: Path, core: int, requests: int) -> dict[How, list[float]]:
    first, second = free_port(), free_port()
    found = {}
    with sluice(folder, core, first, second, ALWAYS_TRIED) as (port, _):
        for how in How:
            uvloop.run(failovers(port, how, first, second, 10))  # warm: imports, connections, first rows
            found[how] = uvloop.run(failovers(port, how, first, second, requests))
    return found


# -- an outage ---------------------------------------------------------------------------------------------------------


async def streams(
    port: int, first: int, second: int, clients: int, seconds: float, dies: bool
) -> tuple[load.Tally, int]:
    """Streams all the while; the first pool dies at half the time, or does not. Returns how many it then cut, too."""
    loop = asyncio.get_running_loop()
    alive: set[Mortal] = set()
    dying = await loop.create_server(lambda: Mortal(STREAM_PACE_S, STREAM_CHUNKS, alive), HOST, first, backlog=1024)
    well = await loop.create_server(lambda: Mortal(STREAM_PACE_S, STREAM_CHUNKS, set()), HOST, second, backlog=1024)
    target = load.Target(port, PATH, body(streamed=True), KEY)
    asked = asyncio.create_task(load.tallied(target, clients=clients, seconds=seconds, streamed=True))
    cut = 0
    if dies:
        await asyncio.sleep(seconds / 2)
        dying.close()
        cut = len(alive)
        for connection in list(alive):
            connection.die()
    tally = await asked
    dying.close()
    well.close()
    return tally, cut


def outage(folder: Path, core: int, clients: int, seconds: float) -> Outage:
    """A quiet run, an outage, and another one. The first takes memory that the allocator keeps for the next: what a
    second one adds is what would add up.
    """
    first, second = free_port(), free_port()
    with sluice(folder, core, first, second) as (port, pid):
        before_mb = resident_mb(pid)
        uvloop.run(streams(port, first, second, clients, seconds, dies=False))
        time.sleep(QUIET_S)
        after_quiet_mb = resident_mb(pid)
        tally, cut = uvloop.run(streams(port, first, second, clients, seconds, dies=True))
        time.sleep(QUIET_S)
        after_outage_mb = resident_mb(pid)
        again, _ = uvloop.run(streams(port, first, second, clients, seconds, dies=True))
        time.sleep(QUIET_S)
        lost = sum(len(each.wrong) + each.unfinished for each in (tally, again))
        served = tally.answers + again.answers
        return Outage(served, lost, cut, before_mb, after_quiet_mb, after_outage_mb, resident_mb(pid))


# -- results -----------------------------------------------------------------------------------------------------------


def rows(times: dict[How, list[float]], seen: Outage, clients: int) -> list[list[str]]:
    found = [
        [f"first pool {how}", f"{len(each)}", number(statistics.median(each)), number(_p95(each)), "0", "–"]
        for how, each in times.items()
    ]
    resident = (seen.before_mb, seen.after_quiet_mb, seen.after_outage_mb, seen.after_second_mb)
    memory = ", ".join(number(each) for each in resident)
    total = f"{seen.served + seen.lost:,}"
    return [*found, [f"first pool dies under {seen.cut} of {clients} streams", total, "–", "–", f"{seen.lost}", memory]]


def _p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, round(0.95 * len(values)))]


def targets(times: dict[How, list[float]], seen: Outage) -> list[Target]:
    slowest = max(statistics.median(each) for each in times.values())
    grown = seen.after_second_mb - seen.after_outage_mb
    return [
        Target("failure to the next attempt's first byte, p50 ms", "below 10", number(slowest), slowest < 10),
        Target("requests lost in an outage that another pool could serve", "0", f"{seen.lost}", seen.lost == 0),
        Target("memory that a second outage adds to the first, MB", "below 5", number(grown), grown < 5),
    ]


COLUMNS: Final = (
    "what fails",
    "requests",
    "p50 ms",
    "p95 ms",
    "lost",
    "memory MB: idle, after a quiet run, after this, after another",
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=300, help="for each way of failing")
    options.add_argument("--streams", type=int, default=500)
    options.add_argument("--seconds", type=float, default=12.0, help="of each of the two runs with streams")
    given = options.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    with tempfile.TemporaryDirectory() as name:
        times = one_by_one(Path(name), cores[0], given.requests)
        seen = outage(Path(name), cores[0], given.streams, given.seconds)
    about = (
        "1 KB streamed chat requests to a ladder of two pools of which the first fails. Times are from the failure, as "
        "the pool that fails saw it, to the first byte of the next attempt at the second pool (where connections are "
        "refused: from the client's own first byte, an upper bound); nothing waits deliberately. The outage: streams "
        f"of {STREAM_CHUNKS} chunks paced {STREAM_PACE_S * 1000:g} ms, asked for again and again for "
        f"{given.seconds:g} s; at half of it the first pool closes its port and resets every connection."
    )
    print(Result("Failover", about, COLUMNS, rows(times, seen, given.streams), targets(times, seen)).as_json())


if __name__ == "__main__":
    main()
