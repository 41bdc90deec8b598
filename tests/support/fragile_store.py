"""A budget store that is down when a test says so; some answers may be lost after the step was taken."""

from __future__ import annotations

from collections.abc import Sequence

from pricing.budgets.caps import CapTable, Scope
from pricing.budgets.store import (
    BudgetStore,
    CapCounts,
    CapStatus,
    Extended,
    Hold,
    OpenHold,
    RateStatus,
    Room,
    Settlement,
)
from pricing.errors import BudgetExceeded, StoreUnavailable
from pricing.ledger.rows import LedgerRow, RequestRow


class FragileStore:
    """`BudgetStore` over a real one. `down`: no step reaches it. `deaf`: steps are taken, answers are lost.

    As the protocol has it, an opening without an answer leaves no hold, and what was settled can be settled again.
    """

    def __init__(self, store: BudgetStore) -> None:
        self.store = store
        self.down = False
        self.deaf = False
        self.asked: list[str] = []
        self._settled: set[str] = set()  # without an answer

    def _before(self, step: str) -> None:
        self.asked.append(step)
        if self.down:
            raise StoreUnavailable("the store is down")

    async def _after(self, opened: str | None = None, settled: str | None = None) -> None:
        if not self.deaf:
            return
        if opened is not None:
            await self.store.release(opened)
        if settled is not None:
            self._settled.add(settled)
        raise StoreUnavailable("the answer was lost")

    def replace_caps(self, caps: CapTable) -> None:
        self.store.replace_caps(caps)

    def room(self, scopes: Sequence[Scope]) -> Room:
        return self.store.room(scopes)

    def refusal(self, scopes: Sequence[Scope], amount_nusd: int) -> BudgetExceeded | None:
        return self.store.refusal(scopes, amount_nusd)

    def now_us(self) -> int:
        return self.store.now_us()

    def is_old(self, scopes: Sequence[Scope]) -> bool:
        return self.store.is_old(scopes)

    async def refresh(self, scopes: Sequence[Scope]) -> None:
        self._before("refresh")
        await self.store.refresh(scopes)

    async def open(self, wish: OpenHold) -> Hold:
        self._before(f"open {wish.hold_id}")
        hold = await self.store.open(wish)
        await self._after(opened=wish.hold_id)
        return hold

    async def extend(self, wishes: Sequence[tuple[str, int]]) -> list[Extended]:
        self._before("extend")
        answers = await self.store.extend(wishes)
        await self._after()
        return answers

    async def settle(self, settlement: Settlement) -> None:
        self._before(f"settle {settlement.hold_id}")
        if settlement.hold_id not in self._settled:
            await self.store.settle(settlement)
            await self._after(settled=settlement.hold_id)

    async def settle_and_open(self, settlement: Settlement, wish: OpenHold) -> Hold:
        self._before(f"settle {settlement.hold_id}, open {wish.hold_id}")
        hold = await self.store.settle_and_open(settlement, wish)
        await self._after(wish.hold_id, settlement.hold_id)
        return hold

    async def release(self, hold_id: str, request: RequestRow | None = None) -> None:
        self._before(f"release {hold_id}")
        await self.store.release(hold_id, request)

    async def post(self, rows: Sequence[LedgerRow], pool_scopes: bool = True) -> None:
        self._before("post")
        await self.store.post(rows, pool_scopes)

    async def record(self, request: RequestRow) -> None:
        self._before(f"record {request.request_id}")
        await self.store.record(request)

    async def expire(self) -> list[str]:
        self._before("expire")
        return await self.store.expire()

    async def statuses(self, scopes: Sequence[Scope] | None = None) -> list[CapStatus]:
        return await self.store.statuses(scopes)

    async def rate_statuses(self, scopes: Sequence[Scope] | None = None) -> list[RateStatus]:
        return await self.store.rate_statuses(scopes)

    async def cap_counts(self) -> CapCounts:
        return await self.store.cap_counts()

    async def check(self) -> None:
        self._before("check")
        await self.store.check()

    async def aclose(self) -> None:
        await self.store.aclose()
