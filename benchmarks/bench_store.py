"""What a request's money costs on SQLite: open a hold, then settle it with its row and summary.

    python benchmarks/bench_store.py [--requests 4000]

CPU is that of the whole process on one core, event loop and writer thread together.
"""

from __future__ import annotations

import argparse
import gc
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop

from pricing.budgets.sqlite import SqliteStore
from pricing.clock import SystemClock
from pricing.ledger.sums_file import waiting
from request_money import AT_ONCE, FEW, MANY, ROUNDS, Found, hold_and_settle, in_turns, rows_of, tenant_caps
from results import Result, Target, number
from router.app import GC_THRESHOLDS

PER_S: Final = 2_000
ROWS_A_REQUEST: Final = 2  # of money, and a summary


Sums = list[float]  # CPU µs for each request of a round


def until_summed(ledger: Path, into: Sums) -> Callable[[], None]:
    """Waits until a store has added all that waits to the sums by hour, and notes what that took."""

    def wait() -> None:
        with closing(sqlite3.connect(ledger)) as connection:
            requests = waiting(connection) / ROWS_A_REQUEST
            begin_s = time.process_time()
            while waiting(connection):
                time.sleep(0.05)  # its thread goes on
            into.append(1e6 * (time.process_time() - begin_s) / requests)

    return wait


async def measured(folder: Path, requests: int) -> dict[int, tuple[Found, Sums]]:
    clock, sums = SystemClock(), {tenants: Sums() for tenants in (FEW, MANY)}
    async with AsyncExitStack() as opened:
        loads = {}
        for tenants in (FEW, MANY):
            path = folder / f"{tenants}.sqlite"
            store = SqliteStore(path, clock, tenant_caps(tenants))
            opened.push_async_callback(store.aclose)
            load = hold_and_settle(store, clock, tenants, requests)
            loads[f"{tenants:,} tenants"] = replace(load, after=until_summed(path, sums[tenants]))
        found = (await in_turns(loads)).values()
        return {tenants: (each, sums[tenants]) for tenants, each in zip((FEW, MANY), found, strict=True)}


def targets(few: Found, many: Found) -> list[Target]:
    slowest = min(found.middle(at_once).per_s for found in (few, many) for at_once in AT_ONCE[1:])
    times = many.over(few, lambda each: each.caller_us)
    speed = f"requests/s on one core, {AT_ONCE[1]} clients or more"
    against = f"{MANY:,} tenants with 3 caps each, times the CPU of {FEW}"
    return [
        Target(speed, f"at least {PER_S:,}", number(slowest), slowest >= PER_S),
        Target(against, "at most 1.1", number(times), times <= 1.1),
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=4_000)
    requests = options.parse_args().requests
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)  # as `sluice serve` has it
    with tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(measured(Path(folder), requests))
    names = {tenants: f"{tenants:,} tenants" for tenants in found}
    rows = [(*row[:4], *row[5:]) for row in rows_of({names[tenants]: each for tenants, (each, _) in found.items()})]
    for tenants, (_, sums) in found.items():
        rows.append((f"{names[tenants]}, sums by hour, later", "", "", number(statistics.median(sums)), "", ""))
    columns = ("what", "clients", "requests/s", "CPU µs/request", "p50 µs", "p99 µs")
    about = (
        "A hold in five scopes under three caps, then its settlement with a row and a summary, on one core; "
        f"{requests:,} requests a round, few and many tenants in turns, median of {ROUNDS} rounds. A tenant's first "
        "request makes its accounts; it is not among the rounds. Sums by hour are added when a store has nothing else "
        "to do, between the rounds."
    )
    print(Result("Store", about, columns, rows, targets(found[FEW][0], found[MANY][0])).as_json())


if __name__ == "__main__":
    main()
