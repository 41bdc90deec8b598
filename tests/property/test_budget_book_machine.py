"""Invariants 1 and 2 on the budget book itself, under random sequences of everything that can happen to it."""

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from pricing.budgets.book import RELEASED, BudgetBook
from pricing.budgets.caps import CapTable
from pricing.budgets.store import CapStatus, Extended, OpenHold
from support.budget_machine import ZONE, BudgetMachine
from support.money import caps


class BookMachine(BudgetMachine):
    def __init__(self) -> None:
        super().__init__()
        self.book = BudgetBook(caps(zone=ZONE), self.clock.wall_us(), on_warn=lambda _: None)

    def use_caps(self, table: CapTable) -> None:
        self.book.replace_caps(table, self.clock.wall_us())

    def try_open(self, wish: OpenHold) -> int:
        return self.book.open(wish, self.clock.wall_us(), self.clock.mono_us()).anchor_us

    def try_extend(self, wishes: Sequence[tuple[str, int]]) -> list[Extended]:
        return [self.book.extend(*wish, self.clock.wall_us(), self.clock.mono_us()) for wish in wishes]

    def try_settle(self, hold_id: str, amount: int, account: str, *, finish: bool) -> None:
        self.book.settle(hold_id, amount, self.clock.wall_us(), may_exceed_hold=finish)

    def try_release(self, hold_id: str) -> None:
        self.book.settle(hold_id, 0, self.clock.wall_us(), how=RELEASED)

    def try_expire(self) -> list[str]:
        self.book.prune(self.clock.wall_us())
        return [held.hold_id for held in self.book.expire(self.clock.wall_us(), self.clock.mono_us())]

    def statuses(self) -> list[CapStatus]:
        return self.book.statuses(self.clock.wall_us())

    @precondition(lambda self: self.open_holds)
    @rule(data=st.data(), permille=st.integers(0, 1000))
    def settle_and_take_back(self, data: st.DataObject, permille: int) -> None:
        """A store that could not write a settlement takes it back: nothing has happened."""
        held = self.book.find(data.draw(st.sampled_from(sorted(self.open_holds))))
        assert held is not None
        amount = held.amount_nusd * permille // 1000
        self.book.settle(held.hold_id, amount, self.clock.wall_us())
        self.book.undo_end(held, amount)


TestBudgetBook = BookMachine.TestCase
TestBudgetBook.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
