"""Invariants 1 and 2 on the SQLite store: after any sequence, restarts and failed writes included, the file agrees."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from pricing.budgets.caps import CapTable
from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import CapStatus, Extended, OpenHold
from pricing.errors import StoreUnavailable
from pricing.ledger.read import recent_rows
from pricing.ledger.rows import RowKind
from pricing.ledger.upgrade import ensure_current
from pricing.ledger.verify import verify
from support.budget_machine import ZONE, BudgetMachine
from support.money import caps, paid, wish

DISK_FULL = mock.patch("pricing.budgets.journal.write", side_effect=sqlite3.OperationalError("disk is full"))


class StoreMachine(BudgetMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "ledger.sqlite")
        shutil.copy(self.template, self.path)
        self.loop = asyncio.new_event_loop()
        self.table = caps(zone=ZONE)
        self.store = self.start()

    def start(self) -> SqliteStore:
        return SqliteStore(self.path, self.clock, self.table)

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        self.wait(self.store.aclose())
        self.loop.close()
        self.folder.cleanup()

    @invariant()
    def ledger_and_budgets_are_the_same_money(self) -> None:
        """What is in the file by now, which other processes may read."""
        found = verify(self.path, wall_us=0)
        assert found.agrees, found.problems
        assert found.open_holds == len(self.open_holds)
        assert found.total_nusd == sum(each.amount for each in self.ended)

    def use_caps(self, table: CapTable) -> None:
        self.table = table
        self.store.replace_caps(table)

    def try_open(self, wish: OpenHold) -> int:
        hold = self.wait(self.store.open(wish))
        assert self.wait(self.store.open(wish)) == hold  # the same id again is the same hold
        return int(hold.anchor_us)

    def try_extend(self, wishes: Sequence[tuple[str, int]]) -> list[Extended]:
        return list(self.wait(self.store.extend(wishes)))

    def try_settle(self, hold_id: str, amount: int, account: str, *, finish: bool) -> None:
        self.wait(self.store.settle(paid(hold_id, amount, account, may_exceed_hold=finish)))

    def try_release(self, hold_id: str) -> None:
        self.wait(self.store.release(hold_id))

    def try_expire(self) -> list[str]:
        return list(self.wait(self.store.expire()))

    def statuses(self) -> list[CapStatus]:
        return list(self.wait(self.store.statuses()))

    @precondition(lambda self: self.expired_ids)
    @rule(data=st.data())
    def settle_late(self, data: st.DataObject) -> None:
        """A settlement after expiry writes a row of amount 0 that says what the meter said."""
        hold_id = data.draw(st.sampled_from(self.expired_ids))
        self.try_settle(hold_id, 7, "acme", finish=False)
        late = [row for row in recent_rows(self.path, 10_000) if row.row_id == f"{hold_id}:late"]
        assert [(row.kind, row.amount_nusd, row.metered_nusd) for row in late] == [(RowKind.LATE, 0, 7)]

    @rule()
    def restart(self) -> None:
        """A new process finds what the old one committed; what is left of leases is read off the wall clock."""
        self.wait(self.store.aclose())
        self.store = self.start()
        for hold_id in self.open_holds:
            left_us = max(0, self.lease_ends_us[hold_id] - self.clock.wall_us())
            self.deadlines[hold_id] = self.clock.mono_us() + min(self.leases_us[hold_id], left_us)
        self.ended_ids.clear()
        self.expired_ids.clear()

    @rule(amount=st.integers(0, 12))
    def fail_to_open(self, amount: int) -> None:
        """A hold that cannot be written is no hold."""
        request = wish("full:1", amount)
        if self.fits(request.scopes, self.clock.wall_us(), amount):
            with DISK_FULL, pytest.raises(StoreUnavailable, match="disk is full"):
                self.wait(self.store.open(request))

    @precondition(lambda self: self.open_holds)
    @rule(data=st.data())
    def fail_to_extend_settle_and_expire(self, data: st.DataObject) -> None:
        """Steps that reach the file in one failing group are all taken back."""
        first, last = (data.draw(st.sampled_from(sorted(self.open_holds))) for _ in range(2))
        with DISK_FULL:
            results = self.wait(self.all_at_once(first, last))
        assert all(isinstance(result, StoreUnavailable) for result in results if result != [])
        self.deadlines[first] = self.clock.mono_us() + self.leases_us[first]

    async def all_at_once(self, first: str, last: str) -> list[Any]:
        account = self.open_holds[last].scopes[0].value
        steps = (
            self.store.extend([(first, 0)]),
            self.store.settle(paid(last, 0, account)),
            self.store.expire(),
        )
        return list(await asyncio.gather(*steps, return_exceptions=True))


def test_the_file_agrees_after_any_sequence(tmp_path: Path) -> None:
    """Caps hold, every hold ends once, and rows, budgets and summaries are the same money, whatever happens."""
    StoreMachine.template = tmp_path / "template.sqlite"
    ensure_current(StoreMachine.template)
    run_state_machine_as_test(StoreMachine, settings=settings(max_examples=30, stateful_step_count=30, deadline=None))
