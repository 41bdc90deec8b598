"""Random sequences of what requests, operators and clocks do to a budget, checked against a list of all that happened.

The oracle keeps every hold and every settled amount with the instant of its request's first hold, and sums them anew
for each question, so it shares no shortcut with what it checks. A subclass says how to reach the budgets under test.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pricing.budgets.caps import Cap, CapTable, Scope, TemporaryRaise, Unlimited, parse_scope, parse_window
from pricing.budgets.store import CapStatus, Extended, OpenHold
from pricing.clock import ManualClock
from pricing.errors import BudgetExceeded, HoldEnded
from support.money import row

ZONE = ZoneInfo("Europe/Berlin")
BUCKET_US = 900 * 1_000_000
TENANTS = [parse_scope("tenant:acme"), parse_scope("tenant:globex")]
OTHERS = [parse_scope("pool:l4"), parse_scope("class:chat")]

amounts = st.integers(0, 12)  # small, so that sums meet caps exactly now and then
scope_sets = st.tuples(st.sampled_from(TENANTS), st.sets(st.sampled_from(OTHERS))).map(
    lambda chosen: (chosen[0], *sorted(chosen[1], key=str))
)
raises = st.builds(TemporaryRaise, st.integers(0, 40), st.integers(1_767_225_600, 1_767_225_600 + 90 * 86_400))
cap_tables = st.lists(
    st.tuples(
        st.sampled_from([*TENANTS, *OTHERS]),
        st.one_of(st.integers(0, 30), st.just(Unlimited.UNLIMITED)),
        st.sampled_from(["15m", "24h", "7d", "30d", "1mo"]),
        st.lists(raises, max_size=1),
    ),
    max_size=6,
)


@dataclass
class Spent:
    """Money of one hold: held while it is open, else spent."""

    scopes: tuple[Scope, ...]
    anchor_us: int
    amount: int


class BudgetMachine(RuleBasedStateMachine):
    """Rules and invariants; `try_*` are what a subclass implements."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.open_holds: dict[str, Spent] = {}
        self.deadlines: dict[str, int] = {}
        self.leases_us: dict[str, int] = {}
        self.lease_ends_us: dict[str, int] = {}  # on the wall clock, as a file remembers it
        self.ended: list[Spent] = []
        self.ended_ids: list[str] = []
        self.expired_ids: list[str] = []
        self.released = 0  # of those that ended, without a row of money
        self.caps: tuple[Cap, ...] = ()
        self.count = 0

    # What a subclass implements.

    @abstractmethod
    def use_caps(self, table: CapTable) -> None: ...

    @abstractmethod
    def try_open(self, wish: OpenHold) -> int:
        """The anchor of the new hold."""

    @abstractmethod
    def try_extend(self, wishes: Sequence[tuple[str, int]]) -> list[Extended]: ...

    @abstractmethod
    def try_settle(self, hold_id: str, amount: int, account: str, *, finish: bool) -> None: ...

    @abstractmethod
    def try_release(self, hold_id: str) -> None: ...

    @abstractmethod
    def try_expire(self) -> list[str]: ...

    @abstractmethod
    def statuses(self) -> list[CapStatus]: ...

    def never_ticked(self, hold_id: str) -> bool:
        """Whether the store releases the hold if its lease ends, since nobody may have heard that it was opened."""
        return False

    def usable(self) -> list[str]:
        """Open holds whose owner can still act on them."""
        return sorted(self.open_holds)

    def now_us(self) -> int:
        """The time that money is placed by."""
        return self.clock.wall_us()

    def lease_now_us(self) -> int:
        """The time that leases run on."""
        return self.clock.mono_us()

    # The oracle.

    def used(self, cap: Cap, anchor_us: int | None = None) -> tuple[int, int]:
        """(spent, held) in the cap's window now, or for a calendar month in the one of an anchor."""
        mine = (self.total(each, cap, anchor_us) for each in self.ended)
        held = (self.total(each, cap, anchor_us) for each in self.open_holds.values())
        return sum(mine), sum(held)

    def total(self, money: Spent, cap: Cap, anchor_us: int | None) -> int:
        if cap.scope not in money.scopes:
            return 0
        now_us = self.now_us()
        if cap.window.rolling_s is None:
            month = local_month(now_us if anchor_us is None else anchor_us)
            inside = local_month(money.anchor_us) == month
        else:
            inside = money.anchor_us // BUCKET_US >= (now_us - cap.window.rolling_s * 1_000_000) // BUCKET_US
        return money.amount if inside else 0

    def fits(self, scopes: tuple[Scope, ...], anchor_us: int, more: int) -> bool:
        """Invariant 1, asked of the oracle: would `more` keep spent + held within every cap in force now?"""
        for cap in self.caps:
            amount = cap.amount_at(self.now_us())
            if cap.scope in scopes and isinstance(amount, int):
                probe = self.total(Spent(scopes, anchor_us, 1), cap, anchor_us)
                if probe and sum(self.used(cap, anchor_us)) + more > amount:
                    return False
        return True

    # What happens.

    @initialize(drawn=cap_tables)
    def begin(self, drawn: list[tuple[Scope, int | Unlimited, str, list[TemporaryRaise]]]) -> None:
        self.edit_caps(drawn)

    @rule(drawn=cap_tables)
    def edit_caps(self, drawn: list[tuple[Scope, int | Unlimited, str, list[TemporaryRaise]]]) -> None:
        self.caps = tuple(
            Cap(
                f"cap{index}",
                scope,
                amount,
                parse_window(window),
                raises=tuple(TemporaryRaise(one.amount_nusd, one.until_us * 1_000_000) for one in drawn_raises),
            )
            for index, (scope, amount, window, drawn_raises) in enumerate(drawn)
        )
        self.use_caps(CapTable(self.caps, ZONE))

    @rule(scopes=scope_sets, amount=amounts, lease_s=st.integers(1, 60), chained=st.booleans())
    def open_hold(self, scopes: tuple[Scope, ...], amount: int, lease_s: int, chained: bool) -> None:
        self.count += 1
        anchor_us = self.ended[-1].anchor_us if chained and self.ended else None
        if anchor_us is not None and abs(self.now_us() - anchor_us) > 86_400 * 1_000_000:
            anchor_us = None  # a chain of attempts lasts minutes
        hold_id = f"r{self.count}:1"
        wish = OpenHold(
            hold_id, f"r{self.count}", scopes, amount, lease_s, anchor_us, row(hold_id, amount, scopes[0].value)
        )
        fits = self.fits(scopes, self.now_us() if anchor_us is None else anchor_us, amount)
        if not fits:
            with pytest.raises(BudgetExceeded):
                self.try_open(wish)
            return
        self.granted(wish, self.try_open(wish))

    @precondition(lambda self: self.usable())
    @rule(data=st.data())
    def extend_some(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.usable()), min_size=1, max_size=4, unique=True))
        wishes = [(hold_id, data.draw(st.integers(0, 30))) for hold_id in chosen]
        for (hold_id, wanted), extended in zip(wishes, self.try_extend([*wishes, ("r0:1", 5)]), strict=False):
            assert (extended.granted, extended.amount_nusd) == self.extended(hold_id, wanted)

    @precondition(lambda self: self.usable())
    @rule(data=st.data(), permille=st.integers(0, 1000), extra=st.integers(0, 20), finish=st.booleans())
    def settle_one(self, data: st.DataObject, permille: int, extra: int, finish: bool) -> None:
        hold_id = data.draw(st.sampled_from(self.usable()))
        held = self.open_holds[hold_id]
        amount = held.amount * permille // 1000 + (extra if finish else 0)
        self.try_settle(hold_id, amount, held.scopes[0].value, finish=finish)
        self.end(hold_id, amount)

    @precondition(lambda self: self.usable())
    @rule(data=st.data())
    def release_one(self, data: st.DataObject) -> None:
        hold_id = data.draw(st.sampled_from(self.usable()))
        self.try_release(hold_id)
        self.let_go(hold_id)

    @precondition(lambda self: self.usable())
    @rule(data=st.data())
    def settle_too_much(self, data: st.DataObject) -> None:
        hold_id = data.draw(st.sampled_from(self.usable()))
        held = self.open_holds[hold_id]
        with pytest.raises(ValueError, match="do not fit"):
            self.try_settle(hold_id, held.amount + 1, held.scopes[0].value, finish=False)

    @precondition(lambda self: self.ended_ids)
    @rule(data=st.data())
    def settle_twice(self, data: st.DataObject) -> None:
        hold_id = data.draw(st.sampled_from(self.ended_ids))
        with pytest.raises(HoldEnded):
            self.try_settle(hold_id, 0, "acme", finish=False)

    @rule(seconds=st.one_of(st.integers(0, 90), st.integers(0, 20 * 86_400), st.just(31 * 86_400)))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.integers(-86_400, 86_400))
    def wall_clock_jumps(self, seconds: int) -> None:
        self.clock.jump_wall(seconds)

    @rule()
    def expire(self) -> None:
        due = sorted(hold_id for hold_id, at_us in self.deadlines.items() if at_us <= self.lease_now_us())
        assert sorted(self.try_expire()) == due
        for hold_id in due:
            if self.never_ticked(hold_id):
                self.let_go(hold_id)
                continue
            self.end(hold_id, self.open_holds[hold_id].amount)
            self.ended_ids.remove(hold_id)
            self.expired_ids.append(hold_id)

    # What a step that took place has done.

    def granted(self, wish: OpenHold, anchor_us: int) -> None:
        self.open_holds[wish.hold_id] = Spent(wish.scopes, anchor_us, wish.amount_nusd)
        self.leases_us[wish.hold_id] = round(wish.lease_s * 1_000_000)
        self.lease_renewed(wish.hold_id)

    def extended(self, hold_id: str, wanted: int) -> tuple[bool, int]:
        """Whether there was room, and what is held now; either way the lease begins anew."""
        held = self.open_holds[hold_id]
        more = max(0, wanted - held.amount)
        fits = not more or self.fits(held.scopes, held.anchor_us, more)
        held.amount += more if fits else 0
        self.lease_renewed(hold_id)
        return fits, held.amount

    def let_go(self, hold_id: str) -> None:
        self.end(hold_id, 0)
        self.released += 1

    def lease_renewed(self, hold_id: str) -> None:
        self.deadlines[hold_id] = self.lease_now_us() + self.leases_us[hold_id]
        self.lease_ends_us[hold_id] = self.now_us() + self.leases_us[hold_id]

    def end(self, hold_id: str, amount: int) -> None:
        held = self.open_holds.pop(hold_id)
        del self.deadlines[hold_id]
        self.ended.append(Spent(held.scopes, held.anchor_us, amount))
        self.ended_ids.append(hold_id)

    @invariant()
    def every_cap_says_what_happened(self) -> None:
        said = [(status.spent_nusd, status.held_nusd) for status in self.statuses()]
        assert said == [self.used(cap) for cap in self.caps]


def local_month(wall_us: int) -> tuple[int, int]:
    local = datetime.fromtimestamp(wall_us // BUCKET_US * 900, UTC).astimezone(ZONE)
    return local.year, local.month
