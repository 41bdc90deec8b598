"""What 10,000 tenants cost a request, what a reload of theirs takes, and what requests feel of it.

    python benchmarks/bench_reload.py [--tenants 10000] [--rounds 5]

One cap of one tenant is changed in the file while requests come at a fixed pace; a request that had to wait counts from
when it was due. The endpoint has the first core, the upstream and the load the last.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

import load
from bench_endpoint import PATH, body
from gateways import KEY, READY_S, SLUICE
from processes import cpu_us, free_port, running, wait_until_ready
from results import Result, Target, number

HERE: Final = Path(__file__).resolve().parent
CLIENTS: Final = 16
PER_S: Final = 100  # requests a second over all clients: far below what one core serves
FEW: Final = 10  # tenants
POLL: Final = "defaults: {reload_poll_s: 0.5}\n"
LOOK_S: Final = 0.1
TENANT: Final = """\
  tenant-{number:05}:
    keys: [{{id: key-{number:05}, sha256: {sha256}}}]
    caps:
      - {{name: day, window: 24h, amount_usd: {amount}}}
      - {{name: week, window: 7d, amount_usd: 50}}
      - {{name: month, window: 1mo, amount_usd: 100, thresholds: {{warn: 80%, lower_tier: 90%}}}}
"""


@dataclass(slots=True)
class Measured:
    """Latencies of requests in microseconds, without a reload and beside one, and what each reload took."""

    without_us: list[float] = field(default_factory=list)
    beside_us: list[float] = field(default_factory=list)
    in_force_s: list[float] = field(default_factory=list)
    reload_cpu_s: list[float] = field(default_factory=list)
    request_cpu_us: dict[int, float] = field(default_factory=dict)  # by the number of tenants


def tenants_text(count: int, amount: int) -> str:
    """A file of tenants, each with a key and three caps; `amount` is that of one of them."""
    entries = (
        TENANT.format(number=n, sha256=hashlib.sha256(str(n).encode()).hexdigest(), amount=amount if n == 0 else 10)
        for n in range(count)
    )
    return "version: 1\ntenants:\n" + "".join(entries)


def replace_file(path: Path, text: str) -> None:
    """As editors and ConfigMaps do: never half a file."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.rename(path)


@contextmanager
def started(folder: Path, tenants: int, upstream: int, core: int) -> Iterator[tuple[int, int]]:
    """An endpoint with so many tenants; yields its port and process id."""
    port, log = free_port(), folder / "endpoint.log"
    command = [*SLUICE.prepare(folder, port, upstream), "--policy", str(folder / "tenants.yaml")]
    policy = folder / "policy.yaml"
    policy.write_text(policy.read_text(encoding="utf-8") + POLL, encoding="utf-8")
    replace_file(folder / "tenants.yaml", tenants_text(tenants, 10))
    with running(command, core=core, cwd=folder, log=log) as process:
        wait_until_ready(process, f"http://127.0.0.1:{port}{SLUICE.ready_path}", log, READY_S)
        yield port, process.pid


def version(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
        policy: dict[str, Any] = json.load(answer)["policy"]
    return str(policy["version"])


async def paced(port: int, seconds: float) -> list[float]:
    """Latencies at a fixed pace."""
    target = load.Target(port, PATH, body(streamed=False), KEY)
    tally = await load.run(target, clients=CLIENTS, seconds=seconds, pace_s=CLIENTS / PER_S)
    return tally.latencies_us


def reloaded(port: int, tenants: Path, text: str) -> float:
    """Change the file; seconds until the new policy is in force."""
    before, began = version(port), time.monotonic()
    replace_file(tenants, text)
    while version(port) == before:
        time.sleep(LOOK_S)
    return time.monotonic() - began


def request_cpu_us(port: int, pid: int, seconds: float) -> float:
    """CPU of a request where one follows the other."""
    target = load.Target(port, PATH, body(streamed=False), KEY)
    uvloop.run(load.run(target, clients=4, seconds=1.0))  # warm: imports, connections, first rows
    before = cpu_us(pid)
    tally = uvloop.run(load.run(target, clients=CLIENTS, seconds=seconds))
    return (cpu_us(pid) - before) / tally.answers


async def round_of(port: int, pid: int, folder: Path, text: str, seconds: float, into: Measured) -> None:
    """The same load twice: by itself, then beside a reload."""
    begin_us = cpu_us(pid)
    into.without_us += await paced(port, seconds)
    alone_us = cpu_us(pid) - begin_us
    begin_us = cpu_us(pid)
    loaded = asyncio.create_task(paced(port, seconds))
    into.in_force_s.append(await asyncio.to_thread(reloaded, port, folder / "tenants.yaml", text))
    into.beside_us += await loaded
    into.reload_cpu_s.append((cpu_us(pid) - begin_us - alone_us) / 1e6)


def measure(tenants: int, rounds: int, seconds: float) -> Measured:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    measured = Measured()
    with tempfile.TemporaryDirectory() as name:
        folder, upstream = Path(name), free_port()
        command = [sys.executable, str(HERE / "upstream.py"), "--port", str(upstream)]
        log = folder / "upstream.log"
        with running(command, core=cores[-1], cwd=folder, log=log) as process:
            wait_until_ready(process, f"http://127.0.0.1:{upstream}/", log, READY_S)
            with started(folder, FEW, upstream, cores[0]) as (port, pid):
                measured.request_cpu_us[FEW] = request_cpu_us(port, pid, seconds)
            with started(folder, tenants, upstream, cores[0]) as (port, pid):
                measured.request_cpu_us[tenants] = request_cpu_us(port, pid, seconds)
                for amount in range(11, 11 + rounds):
                    text = tenants_text(tenants, amount)
                    uvloop.run(round_of(port, pid, folder, text, seconds, measured))
    return measured


def percentile(values_us: list[float], share: float) -> float:
    """In milliseconds."""
    return statistics.quantiles(values_us, n=1000)[round(share * 1000) - 1] / 1000


def row(what: str, values_us: list[float]) -> list[str]:
    percentiles = [percentile(values_us, share) for share in (0.5, 0.99, 0.999)]
    return [what, *map(number, percentiles), number(max(values_us) / 1000)]


def targets(measured: Measured, tenants: int) -> list[Target]:
    times = measured.request_cpu_us[tenants] / measured.request_cpu_us[FEW]
    without, beside = (percentile(values, 0.99) for values in (measured.without_us, measured.beside_us))
    longest = max(measured.beside_us) / 1000
    return [
        Target(f"CPU of a request, times that with {FEW} tenants", "at most 1.1", number(times), times <= 1.1),
        Target("p99 that a reload adds, ms", "below 50", number(beside - without), beside - without < 50),
        Target("longest request beside a reload, ms", "below 250", number(longest), longest < 250),
    ]


def about(measured: Measured, tenants: int, rounds: int, seconds: float) -> str:
    cpu = {count: number(each) for count, each in measured.request_cpu_us.items()}
    reload_s, in_force_s = (number(statistics.median(each)) for each in (measured.reload_cpu_s, measured.in_force_s))
    times = number(percentile(measured.beside_us, 0.99) / percentile(measured.without_us, 0.99))
    return (
        f"A 1 KB chat request takes {cpu[tenants]} µs of CPU with {tenants:,} tenants of three caps each, {cpu[FEW]} "
        f"with {FEW}. Then one cap is changed in the file while requests come at {PER_S} a second: {rounds} "
        f"rounds of {seconds:g} s without and {seconds:g} s with one reload. It takes {reload_s} s of CPU beside what "
        f"the requests take, and is in force {in_force_s} s after the file has changed, half a second of which may be "
        f"the wait for the next look at the files. p99 beside a reload is {times} times the one without."
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tenants", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=5, choices=range(1, 20))
    options.add_argument("--seconds", type=float, default=4.0, help="each load's length; a reload must fit into it")
    given = options.parse_args()
    measured = measure(given.tenants, given.rounds, given.seconds)
    rows = [row("without a reload", measured.without_us), row("beside a reload", measured.beside_us)]
    columns = ("load", "p50 ms", "p99 ms", "p99.9 ms", "longest ms")
    text = about(measured, given.tenants, given.rounds, given.seconds)
    print(Result("Tenants and reloads", text, columns, rows, targets(measured, given.tenants)).as_json())


if __name__ == "__main__":
    main()
