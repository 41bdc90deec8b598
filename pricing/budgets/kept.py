"""What ended while a budget store was down, in order, until the store has it.

A hold that was granted without the store is told to it when it has ended: opened as `granted`, then settled. It gets a
new name each time that is tried, since a store may bar the name of a hold whose opening it could not answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from msgspec.structs import replace

from pricing.budgets.allowance import Allowance, Tracked
from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.store import BudgetStore, Settlement
from pricing.errors import HoldEnded, StoreUnavailable
from pricing.ledger.rows import WITHOUT_STORE, House, LedgerRow, RowKind


class Kept:
    """The endings of one replica. `beside`: attempts granted here ran on meters of their own, and the store's called
    their time idle; where that costs anything, an adjustment takes it out again.
    """

    def __init__(self, store: BudgetStore, allowance: Allowance, beside: LocalMeters | None) -> None:
        self._store = store
        self._allowance = allowance
        self._beside = beside
        self._endings: deque[tuple[Settlement, Tracked]] = deque()
        self._writing = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._endings)

    def add(self, settlement: Settlement, tracked: Tracked, granted: bool) -> None:
        """`granted`: all or some of the hold was granted without the store."""
        self._endings.append((self._marked(settlement, tracked) if granted else settlement, tracked))

    async def write_all(self) -> None:
        """In order, each until it is written. Raises StoreUnavailable."""
        async with self._writing:
            while self._endings:
                settlement, tracked = self._endings[0]
                with suppress(HoldEnded):  # whoever ended it has written its money
                    if tracked.here:
                        settlement = replace(settlement, hold_id=await self._told(tracked, settlement.amount_nusd))
                    await self.write(settlement, tracked)
                self._endings.popleft()
                self._allowance.known(tracked)

    async def write(self, settlement: Settlement, tracked: Tracked | None) -> None:
        """Settle; a hold that the store has lost is opened anew, and one whose extension it has lost, as in a failover,
        is settled for all the same. Raises StoreUnavailable, and HoldEnded where somebody else has ended it.
        """
        try:
            await self._settle(settlement, tracked)
        except StoreUnavailable:
            if tracked is not None:
                tracked.tried = True
            raise
        except HoldEnded:
            if tracked is None:
                raise
            try:
                await self._store.open(replace(tracked.again(settlement.hold_id, tracked.whole_nusd), granted=True))
                await self._store.settle(settlement)
            except HoldEnded:
                if not tracked.tried:
                    raise
        if tracked is not None and tracked.tried and settlement.request is not None:
            await self._store.record(settlement.request)  # what the store may have known was settled without it

    async def _settle(self, settlement: Settlement, tracked: Tracked | None) -> None:
        try:
            await self._store.settle(settlement)
        except ValueError:
            if tracked is None or settlement.amount_nusd > tracked.most_nusd:
                raise
            await self._store.settle(replace(settlement, may_exceed_hold=True))

    async def _told(self, tracked: Tracked, amount_nusd: int) -> str:
        """The store's name of a hold that was granted here; it is opened there, if it is not."""
        if tracked.told is None:
            tracked.tries += 1
            name = f"{tracked.wish.hold_id}~{tracked.tries}"
            await self._store.open(replace(tracked.again(name, amount_nusd), granted=True))
            tracked.told = name
        return tracked.told

    def _marked(self, settlement: Settlement, tracked: Tracked) -> Settlement:
        """As readers of the ledger can tell it. The store has counted no tokens for a hold that it never saw."""
        rows, more_tokens = list(settlement.rows), settlement.more_tokens
        if tracked.here:
            more_tokens = 0
            if self._beside is not None:
                rows += _not_idle(settlement, self._beside)
        marked = tuple(replace(row, tags=(*row.tags, WITHOUT_STORE)) for row in rows)
        return replace(settlement, rows=marked, may_exceed_hold=True, more_tokens=more_tokens)


def _not_idle(settlement: Settlement, beside: LocalMeters) -> Iterable[LedgerRow]:
    """What the store's meters have called idle while the attempt ran, taken out again where they took money for it."""
    nusd = sum(row.amount_nusd for row in settlement.rows)
    for row in settlement.rows:
        if row.kind is RowKind.ATTEMPT and nusd and beside.bills_idle(row.pool):
            yield replace(
                row,
                row_id=f"{row.request_id}:{row.attempt}:{RowKind.ADJUSTMENT}",
                kind=RowKind.ADJUSTMENT,
                account=House.ADJUSTMENT,
                amount_nusd=-nusd,
                metered_nusd=-nusd,
            )
