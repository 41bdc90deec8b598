"""What a request's money costs on SQLite: open a hold, then settle it with its row and summary.

    python benchmarks/bench_store.py [--requests 4000]

CPU is that of the whole process, event loop and writer thread together.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import uvloop

from pricing.budgets.caps import Cap, CapTable, Scope, ScopeKind, parse_window
from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import OpenHold, Settlement
from pricing.clock import SystemClock
from pricing.ledger.rows import LedgerRow, RequestRow, RowKind
from results import Result, number

SCOPES = (
    Scope(ScopeKind.TENANT, "acme"),
    Scope(ScopeKind.KEY, "acme-1"),
    Scope(ScopeKind.CLASS, "chat"),
    Scope(ScopeKind.POOL, "chat-l4"),
    Scope(ScopeKind.TAG, "batch"),
)
CAPS = CapTable(
    tuple(Cap(window, SCOPES[0], 10**15, parse_window(window)) for window in ("24h", "7d", "1mo")), ZoneInfo("UTC")
)
ROW = LedgerRow(
    row_id="",
    at_us=0,
    kind=RowKind.ATTEMPT,
    account="acme",
    amount_nusd=12_345,
    metered_nusd=12_345,
    pool="chat-l4",
    gpu="L4",
    model="qwen3-4b",
    policy_version="0123456789ab",
    price_books="modal-2026-10",
    tenant="acme",
    key_id="acme-1",
    attempt=1,
    request_class="chat",
    tier="standard",
    outcome="answered",
    duration_us=1_000_000,
    ttft_us=100_000,
    prompt_tokens=700,
    completion_tokens=200,
    tags=("batch",),
)
REQUEST = RequestRow(
    request_id="",
    at_us=0,
    tenant="acme",
    key_id="acme-1",
    endpoint="/v1/chat/completions",
    model_asked="chat",
    request_class="chat",
    tier_asked="standard",
    tier_served="standard",
    pool="chat-l4",
    outcome="served",
    status=200,
    error_code=None,
    attempts=1,
    stream=True,
    duration_us=1_000_000,
    prompt_tokens=700,
    completion_tokens=200,
    baseline_nusd=30_000,
    policy_version="0123456789ab",
    decisions_json=b'[{"chosen": {"pool": "chat-l4"}}]' * 20,
)


async def one_request(store: SqliteStore, clock: SystemClock, name: str) -> float:
    """Open and settle; returns the seconds that the two took."""
    begin = time.perf_counter()
    row = msgspec.structs.replace(ROW, row_id=f"{name}:1:attempt", request_id=name, at_us=clock.wall_us())
    summary = msgspec.structs.replace(REQUEST, request_id=name, at_us=clock.wall_us())
    hold = await store.open(OpenHold(f"{name}:1", name, SCOPES, 20_000, 30.0, on_expiry=row))
    await store.settle(Settlement(hold.hold_id, row.amount_nusd, (row,), summary))
    return time.perf_counter() - begin


async def run(clients: int, requests: int) -> tuple[str, ...]:
    """One row: clients at once, requests/s, CPU µs a request, median and 99th percentile of the time in µs."""
    with tempfile.TemporaryDirectory() as folder:
        clock = SystemClock()
        store = SqliteStore(Path(folder, "bench.sqlite"), clock, CAPS)
        latencies: list[float] = []

        async def client(name: int) -> None:
            taken = [await one_request(store, clock, f"{name}-{index}") for index in range(requests // clients)]
            latencies.extend(taken)

        begin, begin_cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(client(name) for name in range(clients)))
        seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
        await store.aclose()
    done = len(latencies)
    p50_s, p99_s = statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]
    return (str(clients), *(number(value) for value in (done / seconds, 1e6 * cpu / done, 1e6 * p50_s, 1e6 * p99_s)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=4_000)
    requests = options.parse_args().requests
    rows = [uvloop.run(run(clients, requests)) for clients in (1, 32, 256)]
    columns = ("clients", "requests/s", "CPU µs/request", "p50 µs", "p99 µs")
    about = (
        f"{requests:,} requests: a hold in five scopes under three caps, then its settlement with a row and a summary."
    )
    print(Result("Store", about, columns, rows).as_json())


if __name__ == "__main__":
    main()
