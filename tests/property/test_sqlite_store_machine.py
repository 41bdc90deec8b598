"""Invariants 1, 2 and 6 on the SQLite store: after any sequence, deaths and failed writes included, the file agrees."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
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
from pricing.verify.sqlite import verify
from support.budget_machine import ZONE, BudgetMachine, amounts
from support.killed_ledger import WITHIN_S, Death, Instant, leave
from support.money import caps, paid, wish

Step = Coroutine[Any, Any, object]
Effect = Callable[[], object]
DISK_FULL = mock.patch("pricing.budgets.journal.write", side_effect=sqlite3.OperationalError("disk is full"))


class StoreMachine(BudgetMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "ledger.sqlite")
        shutil.copy(self.template, self.path)
        self.deaths = 0
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
        """An orderly end: a new process finds what the old one committed."""
        self.wait(self.store.aclose())
        self.begins_anew(self.path)

    @rule()
    def killed_at_rest(self) -> None:
        """kill -9 while nothing is on its way: all that was answered is in the file, whoever closed it."""
        left = leave(self.path, self.grave())
        self.wait(self.store.aclose())
        self.begins_anew(left)

    @precondition(lambda self: self.open_holds)
    @rule(data=st.data(), opened=amounts, instant=st.sampled_from(Instant), torn_permille=st.integers(0, 999))
    def killed_in_a_commit(self, data: st.DataObject, opened: int, instant: Instant, torn_permille: int) -> None:
        """kill -9 in the midst of steps whose callers never hear: all of their commit is in the file, or nothing."""
        steps, effects = self.some_steps(data, opened)
        death = Death(self.path, self.grave(), instant, torn_permille)
        with mock.patch("pricing.budgets.journal.write", death.write):
            self.wait(self.dying(death, steps))
            self.wait(self.store.aclose())
        if instant is Instant.AFTER:
            for effect in effects:
                effect()
        self.begins_anew(death.left)

    def some_steps(self, data: st.DataObject, opened: int) -> tuple[list[Step], list[Effect]]:
        """A step with each of some holds and a new hold, with what each does if it is written."""
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.open_holds)), min_size=1, max_size=6, unique=True))
        drawn = [self.some_step(data, hold_id) for hold_id in chosen]
        self.count += 1
        wanted = wish(f"r{self.count}:1", opened)
        drawn.append((self.store.open(wanted), partial(self.opened_where_it_fits, wanted)))
        return [step for step, _ in drawn], [effect for _, effect in drawn]

    def some_step(self, data: st.DataObject, hold_id: str) -> tuple[Step, Effect]:
        held = self.open_holds[hold_id]
        match data.draw(st.sampled_from(["settle", "extend", "settle", "release"])):
            case "settle":
                amount = data.draw(st.integers(0, held.amount))
                step = self.store.settle(paid(hold_id, amount, held.scopes[0].value))
                return step, partial(self.end, hold_id, amount)
            case "release":
                return self.store.release(hold_id), partial(self.let_go, hold_id)
        wanted = data.draw(st.integers(0, 30))
        return self.store.extend([(hold_id, wanted)]), partial(self.extended, hold_id, wanted)

    def opened_where_it_fits(self, wanted: OpenHold) -> None:
        if self.fits(wanted.scopes, self.now_us(), wanted.amount_nusd):
            self.granted(wanted, self.now_us())

    async def dying(self, death: Death, steps: Sequence[Step]) -> None:
        """Hand all steps over while the writer is busy, so that they are one commit."""
        busy = asyncio.ensure_future(self.store.check())
        assert await asyncio.to_thread(death.writes.wait, WITHIN_S)
        unheard = [asyncio.ensure_future(step) for step in steps]
        await asyncio.sleep(0)
        death.dies.set()
        await asyncio.gather(busy, *unheard, return_exceptions=True)

    def begins_anew(self, path: Path) -> None:
        """A new process over a file; what is left of leases is read off the wall clock."""
        self.path = path
        self.store = self.start()
        for hold_id in self.open_holds:
            left_us = max(0, self.lease_ends_us[hold_id] - self.clock.wall_us())
            self.deadlines[hold_id] = self.clock.mono_us() + min(self.leases_us[hold_id], left_us)
        self.ended_ids.clear()
        self.expired_ids.clear()

    def grave(self) -> Path:
        """A folder for what a death leaves, not made yet."""
        self.deaths += 1
        return Path(self.folder.name, f"death{self.deaths}")

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
