"""The endpoint under load, with LiteLLM beside it in the same run.

    python bench_endpoint.py [--seconds 5] [--rounds 3] [--only sluice]

One gateway at a time, pinned to the first core; the mock upstream and the load on the second. CPU is that of the
gateway's whole process tree, which neighbours on a shared machine disturb least. Rounds alternate between the gateways
and direct calls, and the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

import load
from gateways import BESIDE_US, READY_S, SLUICE, Gateway, install_litellm
from processes import cpu_us, free_port, resident_mb, running, wait_until_ready
from results import Result, Target, number

HERE: Final = Path(__file__).resolve().parent
PATH: Final = "/v1/chat/completions"
BODY_BYTES: Final = 1024
BUSY_CLIENTS: Final = 32
STREAMS: Final = 128
MEMORY_STREAMS: Final = 200
MEMORY_ROUNDS: Final = 3


@dataclass(slots=True)
class Measured:
    """The rounds of one gateway (or of direct calls, without CPU and memory)."""

    alone_p50_us: list[float] = field(default_factory=list)
    busy_per_s: list[float] = field(default_factory=list)
    busy_cpu_us: list[float] = field(default_factory=list)
    chunk_cpu_us: list[float] = field(default_factory=list)
    chunks_per_s: list[float] = field(default_factory=list)
    first_byte_us: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)  # idle, then after each round of streams


def body(streamed: bool) -> bytes:
    """A chat request of `BODY_BYTES`."""
    request = {"model": "bench", "max_tokens": 64, "stream": streamed, "messages": [{"role": "user", "content": ""}]}
    padding = BODY_BYTES - len(json.dumps(request))
    request["messages"] = [{"role": "user", "content": ("lorem ipsum " * BODY_BYTES)[:padding]}]
    return json.dumps(request).encode()


@contextmanager
def started(gateway: Gateway, upstream: int, folder: Path, core: int) -> Iterator[tuple[int, int]]:
    """Start a gateway; yields its port and process id once it is ready. Raises NotReady."""
    port, log = free_port(), folder / f"{gateway.name}.log"
    command = gateway.prepare(folder, port, upstream)
    with running(command, core=core, cwd=folder, log=log, environment=gateway.environment) as process:
        wait_until_ready(process, f"http://127.0.0.1:{port}{gateway.ready_path}", log, READY_S)
        yield port, process.pid


def requests(port: int, key: str, clients: int, seconds: float, streamed: bool = False) -> load.Tally:
    target = load.Target(port, PATH, body(streamed), key)
    return uvloop.run(load.run(target, clients=clients, seconds=seconds, streamed=streamed))


def speed_round(port: int, pid: int, key: str, seconds: float, into: Measured) -> None:
    """One client, then `BUSY_CLIENTS`, then `STREAMS` paced streams; each for `seconds`."""
    into.alone_p50_us.append(requests(port, key, 1, seconds).p50_us)
    before = cpu_us(pid)
    busy = requests(port, key, BUSY_CLIENTS, seconds)
    into.busy_cpu_us.append((cpu_us(pid) - before) / max(1, busy.answers))
    into.busy_per_s.append(busy.per_second)
    before = cpu_us(pid)
    streams = requests(port, key, STREAMS, seconds, streamed=True)
    into.chunk_cpu_us.append((cpu_us(pid) - before) / max(1, streams.events))
    into.chunks_per_s.append(streams.events / streams.seconds)
    into.first_byte_us.append(streams.first_byte_p50_us)


def memory_rounds(port: int, pid: int, key: str, seconds: float, into: Measured) -> None:
    """Resident memory before streams, and while each round of `MEMORY_STREAMS` streams is open."""
    into.memory_mb.append(resident_mb(pid))
    for _ in range(MEMORY_ROUNDS):
        into.memory_mb.append(uvloop.run(_memory_under_streams(port, pid, key, seconds)))


async def _memory_under_streams(port: int, pid: int, key: str, seconds: float) -> float:
    target = load.Target(port, PATH, body(streamed=True), key)
    loading = asyncio.create_task(load.run(target, clients=MEMORY_STREAMS, seconds=seconds, streamed=True))
    await asyncio.sleep(0.5 + seconds / 2)
    now_mb = resident_mb(pid)
    await loading
    return now_mb


def measure(gateways: Sequence[Gateway], seconds: float, rounds: int) -> dict[str, Measured]:
    """All gateways and direct calls, round by round."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    measured = {name: Measured() for name in ("direct", *(gateway.name for gateway in gateways))}
    with tempfile.TemporaryDirectory() as name:
        folder, upstream = Path(name), free_port()
        command = [sys.executable, str(HERE / "upstream.py"), "--port", str(upstream)]
        log = folder / "upstream.log"
        with running(command, core=cores[-1], cwd=folder, log=log) as process:
            wait_until_ready(process, f"http://127.0.0.1:{upstream}/", log, READY_S)
            for number_of_round in range(rounds):
                speed_round(upstream, process.pid, "", seconds, measured["direct"])
                for gateway in gateways:
                    with started(gateway, upstream, folder, cores[0]) as (port, pid):
                        requests(port, gateway.key, 4, 1.0)  # warm: imports, connections, first rows
                        speed_round(port, pid, gateway.key, seconds, measured[gateway.name])
                        if number_of_round == rounds - 1:
                            memory_rounds(port, pid, gateway.key, seconds, measured[gateway.name])
    return measured


COLUMNS: Final = (
    "gateway",
    "requests/s, 32 clients",
    "CPU µs/request, 32 clients",
    "p50 µs, 1 client",
    "added p50 µs",
    "CPU µs/chunk, 128 streams",
    "chunks/s, 128 streams",
    "first byte p50 ms, 128 streams",
    "memory MB: idle, then 200 streams",
)


def row(name: str, measured: Measured, direct: Measured) -> list[str]:
    median = statistics.median
    return [
        name,
        number(median(measured.busy_per_s)),
        number(median(measured.busy_cpu_us)),
        number(median(measured.alone_p50_us)),
        number(median(measured.alone_p50_us) - median(direct.alone_p50_us)),
        number(median(measured.chunk_cpu_us)),
        number(median(measured.chunks_per_s)),
        number(median(measured.first_byte_us) / 1000),
        ", ".join(number(each) for each in measured.memory_mb),
    ]


def targets(measured: dict[str, Measured]) -> list[Target]:
    """What the project promises of its own endpoint; empty when it was not measured."""
    if SLUICE.name not in measured:
        return []
    ours, direct, median = measured[SLUICE.name], measured["direct"], statistics.median
    added = median(ours.alone_p50_us) - median(direct.alone_p50_us)
    found = [
        _below("CPU a request at 32 clients, µs", median(ours.busy_cpu_us), 400),
        _below("added p50 at one client, µs", added, 1500),
        _below("CPU a streamed chunk at 128 streams, µs", median(ours.chunk_cpu_us), 60),
        _below("memory under 200 streams, MB", max(ours.memory_mb), 200),
        _below("growth of memory from the first round of streams to the last, MB", _growth(ours), 5),
    ]
    if BESIDE_US.name in measured:
        times = median(ours.busy_per_s) / median(measured[BESIDE_US.name].busy_per_s)
        found.append(Target("requests/s, times LiteLLM's", "at least 25", number(times), times >= 25))
    return found


def _growth(measured: Measured) -> float:
    return measured.memory_mb[-1] - measured.memory_mb[1]


def _below(what: str, value: float, limit: float) -> Target:
    return Target(what, f"below {limit:,g}", number(value), value < limit)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=4.0, help="each load's length")
    options.add_argument("--rounds", type=int, default=3, choices=range(1, 10))
    options.add_argument("--only", choices=(SLUICE.name, BESIDE_US.name), help="one gateway alone")
    given = options.parse_args()
    gateways = [each for each in (SLUICE, BESIDE_US) if given.only in (None, each.name)]
    if BESIDE_US in gateways:
        install_litellm()
    measured = measure(gateways, given.seconds, given.rounds)
    rows = [row(name, each, measured["direct"]) for name, each in measured.items() if each.busy_per_s]
    about = (
        f"1 KB chat requests through one gateway at a time (one worker, one core) to an upstream that answers at once "
        f"and streams of 50 chunks paced 10 ms; {given.seconds:g} s a load, median of {given.rounds} rounds. All is "
        f"on that users have on: key check, budget, ledger row; for LiteLLM a master key, no database. `direct` is "
        f"without a gateway: its CPU is the upstream's own."
    )
    print(Result("Endpoint", about, COLUMNS, rows, targets(measured)).as_json())


if __name__ == "__main__":
    main()
