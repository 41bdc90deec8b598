"""A budget store in front of another, for the time in which that one is down.

    up ── a step raises StoreUnavailable ──> down ── the store answers, and has all that was kept ──> up

Up, every step goes through. Down, no request waits for the store: what ends is kept in memory, in order, and requests
that may start without a store get holds out of this replica's allowance. One task asks the store again, with growing
pauses; the store grants nothing before all that was kept is written.

Stated exception to the caps: after an outage one may be passed by what replicas granted meanwhile, each at most its
allowance. How that is written in the end: `kept.py` beside this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from pricing.budgets.allowance import Allowance, Tracked
from pricing.budgets.caps import CapTable, Scope
from pricing.budgets.kept import Kept
from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.settlement import check_settlement
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
    not_open,
)
from pricing.budgets.times import StepTimes
from pricing.clock import US_PER_S, Clock
from pricing.errors import BudgetExceeded, HoldEnded, RateLimited, StoreUnavailable
from pricing.ledger.rows import LedgerRow, RequestRow

FIRST_PAUSE_S: Final = 0.1  # between two questions to a store that is down; doubled each time ...
LONGEST_PAUSE_S: Final = 2.0  # ... up to this, which is what refused clients are told to wait
KEPT_AT_MOST: Final = 10_000  # endings kept in memory and holds granted here; a hold beyond is refused
SPARED_S: Final = 10.0  # after a long outage nobody's hold expires for so long: others write their endings first
NOTICED_WITHIN_S: Final = 2.0  # others may have noticed an outage so much later


class StoreState(msgspec.Struct, frozen=True):
    """What whoever watches may know. Counts are since the start; `down_since_us` is wall time, None while it is up."""

    down_since_us: int | None
    trouble: str
    kept: int
    allowed: int
    refused: int
    allowance_left_nusd: int

    @property
    def up(self) -> bool:
        return self.down_since_us is None


class OutageStore:
    """`BudgetStore` over `store`. `keep_up` must run beside the requests, as a task.

    `members` is the meter for attempts whose holds are granted here. `on_change` is told when an outage begins and
    ends; `jitter` gives factors from 0 to 1 for pauses, so that replicas do not come back in step. `begin` is what a
    store needs whenever it was not there: connections and the like. `metered_beside`: `members` is not the store's own
    meter, which calls the time of those attempts idle; where idle time costs, an adjustment then takes that out again.
    """

    def __init__(
        self,
        store: BudgetStore,
        clock: Clock,
        caps: CapTable,
        members: LocalMeters,
        *,
        on_change: Callable[[StoreState], None],
        jitter: Callable[[], float],
        begin: Callable[[], Awaitable[None]] | None = None,
        metered_beside: bool = False,
    ) -> None:
        self._store = store
        self._clock = clock
        self._tell = on_change
        self._jitter = jitter
        self._begin = begin
        self.open_times, self.settle_times = StepTimes(), StepTimes()
        self._allowance = Allowance(store, clock, caps, members)
        self._holds: dict[str, Tracked] = {}
        self._kept = Kept(store, self._allowance, members if metered_beside else None)
        self._woken = asyncio.Event()
        self._down_since_us: int | None = None
        self._trouble = ""
        self._refused = 0
        self._fell_us = 0  # monotonic, when the latest outage began
        self._spared_until_us = 0
        self._seen = False  # whether the store has shown its caps since this process began

    def allow(self, limit_nusd: int) -> None:
        """What this replica may grant in one outage."""
        self._allowance.limit_nusd = limit_nusd

    def replace_caps(self, caps: CapTable) -> None:
        self._store.replace_caps(caps)
        self._allowance.replace_caps(caps)

    def now_us(self) -> int:
        return self._store.now_us()

    # -- views -----------------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        return self._down_since_us is None

    def state(self) -> StoreState:
        return StoreState(
            down_since_us=self._down_since_us,
            trouble=self._trouble,
            kept=len(self._kept),
            allowed=self._allowance.granted,
            refused=self._refused,
            allowance_left_nusd=self._allowance.left_nusd if self._seen else 0,
        )

    def room(self, scopes: Sequence[Scope]) -> Room:
        return self._allowance.room(scopes)

    def refusal(self, scopes: Sequence[Scope], amount_nusd: int) -> BudgetExceeded | None:
        if not self._allowance.beside(scopes):
            return self._store.refusal(scopes, amount_nusd)
        return self._allowance.refusal(scopes, amount_nusd)

    def is_old(self, scopes: Sequence[Scope]) -> bool:
        return self.up and self._store.is_old(scopes)

    async def refresh(self, scopes: Sequence[Scope]) -> None:
        """Never raises StoreUnavailable: while the store is down, what was last seen is all there is."""
        if self.up:
            try:
                await self._store.refresh(scopes)
            except StoreUnavailable as trouble:
                self.fell(trouble)

    async def statuses(self, scopes: Sequence[Scope] | None = None) -> list[CapStatus]:
        return await self._store.statuses(scopes)

    async def rate_statuses(self, scopes: Sequence[Scope] | None = None) -> list[RateStatus]:
        return await self._store.rate_statuses(scopes)

    async def cap_counts(self) -> CapCounts:
        return await self._store.cap_counts()

    # -- holds -----------------------------------------------------------------------------------------------------

    async def open(self, wish: OpenHold) -> Hold:
        if self.up:
            began_us = self._clock.mono_us()
            try:
                hold = await self._store.open(wish)
            except StoreUnavailable as trouble:
                self.fell(trouble)
            else:
                self.open_times.add(self._clock.mono_us() - began_us)
                self._holds[wish.hold_id] = Tracked(wish, hold.anchor_us, hold.amount_nusd)
                return hold
        return self._grant(wish)

    def _grant(self, wish: OpenHold) -> Hold:
        """A hold out of the allowance. Raises BudgetExceeded, RateLimited, StoreUnavailable."""
        try:
            if not wish.without_store:
                raise StoreUnavailable(self._trouble)
            if not self._seen:
                raise StoreUnavailable(f"{self._trouble}; this process has not seen yet who is out of budget")
            if len(self._kept) + self._allowance.open_holds >= KEPT_AT_MOST:
                raise StoreUnavailable(f"{self._trouble}; {KEPT_AT_MOST} endings wait to be written")
            self._holds[wish.hold_id], hold = self._allowance.open(wish)
        except StoreUnavailable:
            self._refused += 1
            raise
        return hold

    async def settle_and_open(self, settlement: Settlement, wish: OpenHold) -> Hold:
        """On StoreUnavailable neither stands: the caller settles again when its request ends."""
        tracked = self._holds.get(settlement.hold_id)
        if self.up and not (tracked and tracked.granted_nusd):
            try:
                hold = await self._store.settle_and_open(settlement, wish)
            except (BudgetExceeded, RateLimited):
                self._holds.pop(settlement.hold_id, None)
                raise
            except StoreUnavailable as trouble:
                self.fell(trouble)
                if tracked is not None:
                    tracked.tried = True
            except HoldEnded:  # lost by the store: settled for itself, it is opened again
                if tracked is None:
                    raise
            except ValueError:  # so may an extension be
                if tracked is None or settlement.amount_nusd > tracked.most_nusd:
                    raise
            else:
                self._holds.pop(settlement.hold_id, None)
                self._holds[wish.hold_id] = Tracked(wish, hold.anchor_us, hold.amount_nusd)
                return hold
        try:
            hold = await self.open(wish)
        except (BudgetExceeded, RateLimited):
            await self.settle(settlement)
            raise
        await self.settle(settlement)
        return hold

    async def extend(self, wishes: Sequence[tuple[str, int]]) -> list[Extended]:
        """Never raises StoreUnavailable: what the store could not be asked is not granted, and says why."""
        answers: dict[str, Extended] = {}
        if self.up:
            try:
                asked = [wish for wish in wishes if not self._is_here(wish[0])]
                for answer, (hold_id, amount_nusd) in zip(await self._store.extend(asked), asked, strict=True):
                    answers[hold_id] = self._noted(answer) or await self._open_again(hold_id, amount_nusd)
            except StoreUnavailable as trouble:
                self.fell(trouble)
        return [answers.get(hold_id) or self._grow(hold_id, amount_nusd) for hold_id, amount_nusd in wishes]

    def _is_here(self, hold_id: str) -> bool:
        tracked = self._holds.get(hold_id)
        return tracked is not None and tracked.here

    def _noted(self, answer: Extended) -> Extended | None:
        """What the store has of a hold now; it may have taken over what was granted here while it was down. None where
        it does not have a hold of ours.
        """
        tracked = self._holds.get(answer.hold_id)
        if tracked is None:
            return answer
        if not (answer.granted or answer.amount_nusd or answer.good_for_s):
            return None
        whole_nusd = tracked.whole_nusd
        tracked.heard(answer.amount_nusd)
        if not tracked.granted_nusd:
            return answer
        self._allowance.regrant(tracked, max(0, whole_nusd - answer.amount_nusd))
        return replace(answer, amount_nusd=tracked.whole_nusd)

    async def _open_again(self, hold_id: str, amount_nusd: int) -> Extended:
        """The store has lost a hold that runs, as after a failover: open it anew, as far as caps have room. One that
        somebody has ended, because its lease was over, grows no more: not for want of room. Raises StoreUnavailable.
        """
        tracked = self._holds[hold_id]
        try:
            hold = await self._store.open(tracked.again(hold_id, max(amount_nusd, tracked.whole_nusd)))
        except (BudgetExceeded, HoldEnded) as refusal:
            ended = isinstance(refusal, HoldEnded)
            return Extended(hold_id, 0, granted=False, good_for_s=0.0, store_down=ended, why=str(refusal))
        self._allowance.regrant(tracked, 0)
        tracked.heard(hold.amount_nusd)
        return Extended(hold_id, hold.amount_nusd, granted=True, good_for_s=hold.good_for_s)

    def _grow(self, hold_id: str, amount_nusd: int) -> Extended:
        tracked = self._holds.get(hold_id)
        if tracked is None:
            return not_open(hold_id, None)
        return self._allowance.grow(tracked, amount_nusd)

    async def settle(self, settlement: Settlement) -> None:
        """Never raises StoreUnavailable: what cannot be written now is kept."""
        tracked = self._holds.get(settlement.hold_id)
        if self.up and not (tracked and tracked.granted_nusd):
            began_us = self._clock.mono_us()
            try:
                await self._kept.write(settlement, tracked)
            except StoreUnavailable as trouble:
                self.fell(trouble)
            else:
                self.settle_times.add(self._clock.mono_us() - began_us)
                self._holds.pop(settlement.hold_id, None)
                return
        if tracked is None:
            raise HoldEnded(f"hold {settlement.hold_id} has ended or was never opened; settle each hold once")
        check_settlement(settlement)
        await self._keep(settlement, tracked)

    async def release(self, hold_id: str, request: RequestRow | None = None) -> None:
        await self.settle(Settlement(hold_id, 0, (), request))

    async def expire(self) -> list[str]:
        """Holds granted here expire here; those of the store, but not right after an outage."""
        ended = []
        for settlement in self._allowance.expired():
            await self._keep(settlement, self._holds[settlement.hold_id])
            ended.append(settlement.hold_id)
        if self.up and self._clock.mono_us() >= self._spared_until_us:
            try:
                ended += await self._store.expire()
            except StoreUnavailable as trouble:
                self.fell(trouble)
        return ended

    # -- rows without a hold ---------------------------------------------------------------------------------------

    async def post(self, rows: Sequence[LedgerRow], pool_scopes: bool = True) -> None:
        self._must_be_up()
        try:
            await self._store.post(rows, pool_scopes)
        except StoreUnavailable as trouble:
            self.fell(trouble)
            raise

    async def record(self, request: RequestRow) -> None:
        """Raises StoreUnavailable: nothing bounds how many refused requests may come, so they are not kept."""
        self._must_be_up()
        try:
            await self._store.record(request)
        except StoreUnavailable as trouble:
            self.fell(trouble)
            raise

    def _must_be_up(self) -> None:
        if not self.up:
            raise StoreUnavailable(self._trouble)

    async def _keep(self, settlement: Settlement, tracked: Tracked) -> None:
        """Write it in its turn: now, if the store is up and only the hold is of an outage."""
        del self._holds[settlement.hold_id]
        granted = tracked.here or tracked.granted_nusd > 0
        self._allowance.end(tracked, settlement)
        self._kept.add(settlement, tracked, granted)
        if self.up:
            try:
                await self._kept.write_all()
            except StoreUnavailable as trouble:
                self.fell(trouble)

    # -- up and down -----------------------------------------------------------------------------------------------

    def fell(self, trouble: StoreUnavailable) -> None:
        """The store cannot be used. Also for whoever else finds that out."""
        self._trouble = str(trouble)
        self._woken.set()
        if self.up:
            self._down_since_us, self._fell_us = self._clock.wall_us(), self._clock.mono_us()
            self._allowance.begin()
            self._tell(self.state())

    async def recover(self) -> bool:
        """Ask the store once, and write what was kept. Whether it is up now."""
        try:
            if self._begin is not None:
                await self._begin()
            await self._store.check()
            await self._kept.write_all()
            if not self._seen:
                await self._store.statuses()
                self._seen = True
        except StoreUnavailable as trouble:
            self.fell(trouble)
            return False
        self._woken.clear()
        if not self.up:
            self._down_since_us, self._trouble = None, ""
            self._spared_until_us = self._spare_until_us()
            self._tell(self.state())
        return True

    def _spare_until_us(self) -> int:
        """Pauses grow with an outage, so that who fell with us is back within as long again. A connection that breaks
        time and again must not keep holds from expiring.
        """
        now_us = self._clock.mono_us()
        back_us = 2 * (now_us - self._fell_us) + round(NOTICED_WITHIN_S * US_PER_S)
        return now_us + min(back_us, round(SPARED_S * US_PER_S))

    async def keep_up(self) -> None:
        """Bring the store back up whenever it falls. Runs until it is cancelled."""
        while True:
            await self._woken.wait()
            pause_s = FIRST_PAUSE_S
            while not await self.recover():
                await self._clock.sleep(pause_s * self._jitter())
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def check(self) -> None:
        await self._store.check()

    async def aclose(self) -> None:
        """Write what is kept, then close the store. Raises StoreUnavailable, once it is closed, for what is lost."""
        try:
            await self._kept.write_all()
        except StoreUnavailable as trouble:
            raise StoreUnavailable(f"{len(self._kept)} endings were not written: {trouble}") from None
        finally:
            await self._store.aclose()
