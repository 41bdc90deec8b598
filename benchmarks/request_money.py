"""The money of made-up requests as a load on a budget store: what is asked, and what it takes, so many at once."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from pricing.budgets.caps import Cap, CapTable, Scope, ScopeKind, parse_window
from pricing.budgets.store import BudgetStore, OpenHold, Settlement
from pricing.clock import Clock
from processes import cpu_us
from results import number

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from support.money import request as made_request  # those of the tests
from support.money import row as made_row

ROUNDS: Final = 5
AT_ONCE: Final = (1, 32, 128)
FEW: Final = 10
MANY: Final = 10_000
SHARED_SCOPES: Final = (
    Scope(ScopeKind.KEY, "acme-1"),
    Scope(ScopeKind.CLASS, "chat"),
    Scope(ScopeKind.POOL, "chat-l4"),
    Scope(ScopeKind.TAG, "batch"),
)
_SAME: Final[dict[str, Any]] = {
    "pool": "chat-l4",
    "key_id": "acme-1",
    "duration_us": 1_000_000,
    "policy_version": "0123456789ab",
}
_TOKENS: Final[dict[str, Any]] = {"prompt_tokens": 700, "completion_tokens": 200}
ROW: Final = made_row("request:1", 12_345, ttft_us=100_000, tags=("batch",), **_SAME, **_TOKENS)
REQUEST: Final = made_request(
    "request",
    stream=True,
    baseline_nusd=30_000,
    decisions_json=b'[{"chosen": {"pool": "chat-l4"}}]' * 20,
    **_SAME,
    **_TOKENS,
)


@dataclass(frozen=True, slots=True)
class Load:
    """What is timed: `step`, with what `prepare` has made for it of a number beforehand, which is not timed.

    A round is of so many `steps`; the numbers up to `first` have touched everything once. `after` ends what a round has
    left to do, which is not timed either.
    """

    prepare: Callable[[int], Any]
    step: Callable[[Any], Awaitable[object]]
    steps: int
    first: int = 200
    after: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Timed:
    """A round: steps a second; CPU of caller and server (0 without one), median and 99th percentile of a step in µs."""

    per_s: float
    caller_us: float
    server_us: float
    p50_us: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class Found:
    """A load: everything touched for the first time, 32 at once; then its rounds by how many were under way at once."""

    first: Timed
    rounds: Mapping[int, list[Timed]]

    def middle(self, at_once: int) -> Timed:
        """The round with the median CPU of the caller."""
        return sorted(self.rounds[at_once], key=lambda each: each.caller_us)[len(self.rounds[at_once]) // 2]

    def over(self, other: Found, of: Callable[[Timed], float]) -> float:
        """How many times the other's a figure is under load: the median of rounds that were run one after the other."""
        pairs = [pair for at in AT_ONCE[1:] for pair in zip(self.rounds[at], other.rounds[at], strict=True)]
        return statistics.median(of(ours) / of(theirs) for ours, theirs in pairs)


def tenant_caps(tenants: int) -> CapTable:
    """Three caps a tenant that never bite."""
    windows = [parse_window(text) for text in ("24h", "7d", "1mo")]
    names = [f"tenant-{index}" for index in range(tenants)]
    caps = (Cap(each.text, Scope(ScopeKind.TENANT, name), 10**15, each) for name in names for each in windows)
    return CapTable(tuple(caps), ZoneInfo("UTC"))


def hold_and_settle(store: BudgetStore, clock: Clock, tenants: int, steps: int) -> Load:
    """A request's money, the tenants in turns: its hold in five scopes under three caps, then its settlement with a row
    and a summary.
    """

    def prepare(index: int) -> tuple[OpenHold, Settlement]:
        name, tenant, at_us = f"request-{index}", f"tenant-{index % tenants}", clock.wall_us()
        ours = {"request_id": name, "tenant": tenant, "at_us": at_us}
        row = msgspec.structs.replace(ROW, row_id=f"{name}:1:attempt", account=tenant, **ours)
        scopes = (Scope(ScopeKind.TENANT, tenant), *SHARED_SCOPES)
        wish = OpenHold(f"{name}:1", name, scopes, 20_000, 30.0, on_expiry=row)
        return wish, Settlement(wish.hold_id, row.amount_nusd, (row,), msgspec.structs.replace(REQUEST, **ours))

    async def request(money: tuple[OpenHold, Settlement]) -> None:
        wish, settlement = money
        await store.open(wish)
        await store.settle(settlement)

    return Load(prepare, request, steps, max(200, tenants))


async def timed(load: Load, at_once: int, numbers: range, server: int | None) -> Timed:
    """Run a step for each number, so many at a time. `server` is a process whose CPU is counted too."""
    latencies: list[float] = []
    steps = iter([load.prepare(index) for index in numbers])

    async def caller() -> None:
        for made in steps:
            begin = time.perf_counter()
            await load.step(made)
            latencies.append(time.perf_counter() - begin)

    before_us = 0 if server is None else cpu_us(server)
    begin, begin_caller_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(at_once)))
    seconds, caller_s = time.perf_counter() - begin, time.process_time() - begin_caller_s
    server_us = 0 if server is None else cpu_us(server) - before_us
    load.after()
    done = len(latencies)
    p50_s, p99_s = statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]
    return Timed(done / seconds, 1e6 * caller_s / done, server_us / done, 1e6 * p50_s, 1e6 * p99_s)


async def in_turns(loads: Mapping[str, Load], server: int | None = None) -> dict[str, Found]:
    """Each load at each of AT_ONCE. Loads take turns, round by round, so that a busy neighbour meets all of them."""
    firsts = {name: await timed(load, AT_ONCE[1], range(load.first), server) for name, load in loads.items()}
    begins = {name: load.first for name, load in loads.items()}
    rounds: dict[str, dict[int, list[Timed]]] = {name: {at_once: [] for at_once in AT_ONCE} for name in loads}
    for at_once in AT_ONCE:
        for _ in range(ROUNDS):
            for name, load in loads.items():
                end = begins[name] + (load.steps if at_once > 1 else max(AT_ONCE[-1], load.steps // 4))
                rounds[name][at_once].append(await timed(load, at_once, range(begins[name], end), server))
                begins[name] = end
    return {name: Found(firsts[name], rounds[name]) for name in loads}


def rows_of(found: Mapping[str, Found]) -> list[tuple[str, ...]]:
    """A table: what, at once, a second, CPU of caller and server, p50, p99. What many tenants cost for the first time
    is a row of its own.
    """
    rows: list[tuple[str, ...]] = []
    for name, each in found.items():
        if f"{MANY:,}" in name:
            rows.append((f"{name}, each for the first time", str(AT_ONCE[1]), *_figures(each.first)))
        rows += [(name, str(at_once), *_figures(each.middle(at_once))) for at_once in AT_ONCE]
    return rows


def _figures(one: Timed) -> tuple[str, ...]:
    return tuple(map(number, (one.per_s, one.caller_us, one.server_us, one.p50_us, one.p99_us)))
