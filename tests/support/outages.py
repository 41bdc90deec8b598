"""A budget store in front of one that can be taken down, over a real file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.outage import OutageStore, StoreState
from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import OpenHold
from pricing.clock import ManualClock
from pricing.ledger.read import recent_rows
from pricing.ledger.rows import LedgerRow
from support.fragile_store import FragileStore
from support.money import cap, caps, wish
from support.values import replace

ALLOWANCE = 50


@dataclass
class Kept:
    """A store in front of a fragile one over a real file."""

    clock: ManualClock
    inner: FragileStore
    store: OutageStore
    path: Path
    told: list[StoreState]

    def rows(self) -> dict[str, LedgerRow]:
        return {row.row_id: row for row in recent_rows(self.path, 1_000)}

    async def spent(self) -> dict[str, int]:
        return {status.cap: status.spent_nusd for status in await self.store.statuses()}

    async def falls(self) -> None:
        """Down, and noticed."""
        self.inner.down = True
        assert not await self.store.recover()

    async def returns(self) -> None:
        self.inner.down = self.inner.deaf = False
        assert await self.store.recover()


def setup(folder: Path, beside: LocalMeters | None = None) -> Kept:
    """`beside`: meters of attempts that are let run meanwhile, other than the store's own."""
    clock = ManualClock()
    path = folder / "ledger.sqlite"
    table = caps(cap(100), cap(80, scope="tenant:globex"))
    real = SqliteStore(path, clock, table)
    real.meters.set_rate("l4", clock.wall_us(), 3_600_000_000, 1)
    real.meters.set_containers("l4", clock.wall_us(), 1, 0)
    inner = FragileStore(real)
    told: list[StoreState] = []
    store = OutageStore(
        inner,
        clock,
        table,
        beside or real.meters,
        on_change=told.append,
        jitter=lambda: 1.0,
        metered_beside=beside is not None,
    )
    store.allow(ALLOWANCE)
    return Kept(clock, inner, store, path, told)


def asking(hold_id: str, amount: int, *scopes: object, allow: bool = True, **more: object) -> OpenHold:
    return replace(wish(hold_id, amount, *scopes), without_store=allow, **more)  # type: ignore[arg-type]
