"""What a replica grants by itself while its budget store is down: at most a sum per outage, over all tenants.

A cap as the store last showed it still holds, less what was granted here and the store does not know of yet: a tenant
known to be out of budget stays out. Rate limits count what starts here. Belongs to `outage.py` beside this, which says
when the store is down and writes what ended here once it is back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from pricing.budgets.book import BudgetBook
from pricing.budgets.caps import CapTable, Scope
from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.settlement import expiry_row
from pricing.budgets.store import BudgetStore, Extended, Hold, OpenHold, Room, Settlement, Standing
from pricing.clock import Clock
from pricing.errors import BudgetExceeded, StoreUnavailable
from pricing.money import format_usd


@dataclass(slots=True, eq=False)
class Tracked:
    """One open hold, and the instant in whose windows it counts. `stored_nusd` is what the store has of it, `most_nusd`
    the most that it ever said it had, `granted_nusd` what was granted here on top.

    `here`: the store has never seen it, until it is told under a name of its own, `told`. `tries` counts the attempts
    to do so; `tried` says that the store was asked to end it, and did not answer.
    """

    wish: OpenHold
    anchor_us: int
    stored_nusd: int
    granted_nusd: int = 0
    here: bool = False
    tries: int = 0
    told: str | None = None
    tried: bool = False
    most_nusd: int = 0

    def __post_init__(self) -> None:
        self.heard(self.stored_nusd)

    def heard(self, stored_nusd: int) -> None:
        """So much the store has of it now: less than before, where it has lost an extension."""
        self.stored_nusd, self.most_nusd = stored_nusd, max(self.most_nusd, stored_nusd)

    @property
    def whole_nusd(self) -> int:
        return self.stored_nusd + self.granted_nusd

    def again(self, hold_id: str, amount_nusd: int) -> OpenHold:
        """How a store that does not have it is asked to open it. Its meter cannot say any more what it cost before."""
        return replace(self.wish, hold_id=hold_id, amount_nusd=amount_nusd, anchor_us=self.anchor_us, meter=None)


class Allowance:
    """Grants of one replica. `members` is the meter that attempts enter whose holds are granted here."""

    def __init__(self, store: BudgetStore, clock: Clock, caps: CapTable, members: LocalMeters) -> None:
        self.limit_nusd = 0
        self.granted = 0  # holds, since the start
        self._store = store
        self._clock = clock
        self._caps = caps
        self._members = members
        self._book, self._judges_by = self._new_book()
        self._used_nusd = 0
        self._unknown: dict[Scope, int] = {}  # granted here, and not yet told to the store

    def _new_book(self) -> tuple[BudgetBook, CapTable]:
        """A book, and the caps it judges by: none yet, since most of what caps become is never needed here."""
        nothing = CapTable((), self._caps.timezone)
        return BudgetBook(nothing, self._store.now_us(), on_warn=lambda _: None), nothing

    def _judge(self) -> BudgetBook:
        """The book, with the caps in force."""
        if self._judges_by is not self._caps:
            self._book.replace_caps(self._caps, self._store.now_us())
            self._judges_by = self._caps
        return self._book

    def begin(self) -> None:
        """An outage begins. Holds that an earlier one left open count against its allowance too."""
        open_here = self._book.open_holds()
        if not open_here:
            self._book, self._judges_by = self._new_book()
        self._used_nusd = sum(held.amount_nusd for held in open_here)

    def replace_caps(self, caps: CapTable) -> None:
        self._caps = caps

    # -- views -----------------------------------------------------------------------------------------------------

    @property
    def left_nusd(self) -> int:
        """For the rest of this outage."""
        return max(0, self.limit_nusd - self._used_nusd)

    @property
    def open_holds(self) -> int:
        return len(self._book.open_holds())

    def beside(self, scopes: Sequence[Scope]) -> int:
        """The most that was granted in one of these scopes and the store does not know of."""
        return max((self._unknown.get(scope, 0) for scope in scopes), default=0) if self._unknown else 0

    def room(self, scopes: Sequence[Scope]) -> Room:
        """What the store's last view leaves beside what was granted here."""
        seen, beside = self._store.room(scopes), self.beside(scopes)
        if not beside or seen.left_nusd is None:
            return seen
        return replace(seen, left_nusd=max(0, seen.left_nusd - beside))

    def refusal(self, scopes: Sequence[Scope], more_nusd: int) -> BudgetExceeded | None:
        """The cap, as last seen, that has no room for more beside what was granted here."""
        for scope in scopes:
            refused = self._store.refusal((scope,), more_nusd + self._unknown.get(scope, 0))
            if refused is not None:
                return refused
        return None

    # -- holds -----------------------------------------------------------------------------------------------------

    def open(self, wish: OpenHold) -> tuple[Tracked, Hold]:
        """Raises BudgetExceeded, RateLimited, and StoreUnavailable where the allowance has no room."""
        self._check(wish.scopes, wish.amount_nusd)
        mono_us = self._clock.mono_us()
        held = self._judge().open(wish, self._store.now_us(), mono_us)
        if wish.meter is not None:
            self._members.enter(wish.meter, wish.hold_id)
        tracked = Tracked(wish, held.anchor_us, 0, here=True)
        self.regrant(tracked, wish.amount_nusd)
        self.granted += 1
        standing = Standing(left_nusd=self.room(wish.scopes).left_nusd)
        good_for_s = held.good_for_s(mono_us)
        return tracked, Hold(wish.hold_id, wish.amount_nusd, held.anchor_us, good_for_s, standing, without_store=True)

    def grow(self, tracked: Tracked, amount_nusd: int) -> Extended:
        """Grow a hold that was granted here, or one of the store's while that is down."""
        more_nusd = max(0, amount_nusd - tracked.whole_nusd)
        granted, store_down = True, False
        try:
            if more_nusd and not tracked.wish.without_store:
                raise StoreUnavailable("this request may not go on without a store")
            self._check(tracked.wish.scopes, more_nusd)
            if tracked.here:
                granted = self._extend(tracked.wish.hold_id, tracked.whole_nusd + more_nusd)
        except StoreUnavailable:
            granted, store_down = False, True
        except BudgetExceeded:
            granted = False
        if granted:
            self.regrant(tracked, tracked.granted_nusd + more_nusd)
        return Extended(tracked.wish.hold_id, tracked.whole_nusd, granted, tracked.wish.lease_s, store_down)

    def end(self, tracked: Tracked, settlement: Settlement) -> None:
        """A hold has ended, and the store does not know yet. Raises ValueError for more than it held, without leave."""
        hold_id, amount_nusd = settlement.hold_id, settlement.amount_nusd
        if tracked.here and self._book.find(hold_id) is not None:
            self._book.settle(
                hold_id,
                amount_nusd,
                self._store.now_us(),
                may_exceed_hold=settlement.may_exceed_hold,
                more_tokens=settlement.more_tokens,
            )
        self._members.drop(hold_id)
        self.regrant(tracked, max(0, amount_nusd - tracked.stored_nusd))

    def expired(self) -> Iterable[Settlement]:
        """Settlements of the holds granted here whose lease has run out."""
        wall_us = self._store.now_us()
        for held in self._book.expire(wall_us, self._clock.mono_us()):
            yield Settlement(held.hold_id, held.amount_nusd, (expiry_row(held, wall_us),))

    def regrant(self, tracked: Tracked, granted_nusd: int) -> None:
        """What was granted here of a hold, changed; what it gives back is there for others."""
        change_nusd = granted_nusd - tracked.granted_nusd
        tracked.granted_nusd = granted_nusd
        self._used_nusd += change_nusd
        self._count(tracked.wish.scopes, change_nusd)

    def known(self, tracked: Tracked) -> None:
        """The store has been told. What was granted stays used: an outage's allowance is granted once."""
        self._count(tracked.wish.scopes, -tracked.granted_nusd)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check(self, scopes: Sequence[Scope], more_nusd: int) -> None:
        refused = self.refusal(scopes, more_nusd)
        if refused is not None:
            raise refused
        if more_nusd > self.left_nusd:
            limit, left = format_usd(self.limit_nusd), format_usd(self.left_nusd)
            raise StoreUnavailable(
                f"of the {limit} that this replica may grant while its store is down, {left} is left"
            )

    def _extend(self, hold_id: str, amount_nusd: int) -> bool:
        return self._judge().extend(hold_id, amount_nusd, self._store.now_us(), self._clock.mono_us()).granted

    def _count(self, scopes: Sequence[Scope], change_nusd: int) -> None:
        for scope in scopes:
            left_nusd = self._unknown.get(scope, 0) + change_nusd
            if left_nusd:
                self._unknown[scope] = left_nusd
            else:
                self._unknown.pop(scope, None)
