"""Caps in metrics: as they stand, as long as they are few; how many are past their thresholds, always."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from pricing.budgets.caps import CapTable, Unlimited
from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import CapCounts
from pricing.clock import ManualClock
from pricing.errors import StoreUnavailable
from router.telemetry.budget_gauges import CAPS_SHOWN, BudgetGauges
from support.fragile_store import FragileStore
from support.money import cap, caps, paid, wish


class Unreadable(FragileStore):
    """Cannot be asked how its caps stand."""

    async def cap_counts(self) -> CapCounts:
        raise StoreUnavailable("the store is down")


async def shown(folder: Path, table: CapTable, *, broken: bool = False) -> list[str]:
    """The samples after one settled and one open hold of a tenant."""
    store = SqliteStore(folder / "ledger.sqlite", ManualClock(), table)
    await store.open(wish("r1:1", 3_000_000_000))
    await store.settle(paid("r1:1", 2_000_000_000))
    await store.open(wish("r2:1", 1_000_000_000))
    registry, gauges = CollectorRegistry(), BudgetGauges()
    registry.register(gauges)
    await gauges.look(store, table)
    if broken:
        await gauges.look(Unreadable(store), table)
    await store.aclose()
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def counts(warned: int, exhausted: int) -> list[str]:
    numbers = {"warned": warned, "lowering": 0, "exhausted": exhausted}
    return [f'sluice_budget_caps{{state="{state}"}} {number}.0' for state, number in numbers.items()]


async def test_each_cap_shows_spent_held_and_amount(tmp_path: Path) -> None:
    """In dollars, by cap; what is unlimited has no amount."""
    table = caps(cap(10_000_000_000), cap(Unlimited.UNLIMITED, name="month", window="1mo"))
    assert await shown(tmp_path, table) == [
        *counts(warned=0, exhausted=0),
        'sluice_budget_spent_usd{cap="acme/day"} 2.0',
        'sluice_budget_spent_usd{cap="acme/month"} 2.0',
        'sluice_budget_held_usd{cap="acme/day"} 1.0',
        'sluice_budget_held_usd{cap="acme/month"} 1.0',
        'sluice_budget_cap_usd{cap="acme/day"} 10.0',
    ]


async def test_many_caps_are_only_counted(tmp_path: Path) -> None:
    """Series follow the number of caps up to a bound; how many have warned or are exhausted is said beyond it."""
    table = caps(*(cap(10**12, name=f"cap{number}") for number in range(CAPS_SHOWN)), cap(3_000_000_000, name="full"))
    assert await shown(tmp_path, table) == counts(warned=0, exhausted=1)


async def test_a_store_that_is_down_has_no_old_numbers(tmp_path: Path) -> None:
    """The scrape works all the same."""
    assert await shown(tmp_path, caps(cap(10_000_000_000)), broken=True) == []
