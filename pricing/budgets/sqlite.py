"""The embedded budget store: one process, one SQLite file, no other service.

The book in memory decides, on the event loop; the file remembers. A step changes the book at once, so that the next
step sees it, and returns once its transaction is committed. The event loop never touches the disk: a journal's thread
writes, and commits the steps of all waiting requests together.

Durability: with WAL and `synchronous=NORMAL`, what was committed survives the death of the process at any instant
(kill -9, out of memory). `power_safe=True` (`synchronous=FULL`) makes it survive a power cut as well, for one flush of
the disk per group.

If the file cannot be written (disk full), the steps that were not written are taken back in memory, last first, and
their callers get StoreUnavailable; the next step tries again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from pricing.budgets.account import CapWarning
from pricing.budgets.book import RELEASED, SETTLED, BudgetBook, Held
from pricing.budgets.caps import CapTable, Scope, ScopeKind
from pricing.budgets.journal import Change
from pricing.budgets.lockfile import FileLock
from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.recovery import house_rows_posted, recover
from pricing.budgets.settlement import HOUSE_ACCOUNTS, check_settlement, expiry_row, late_row
from pricing.budgets.steps import StepLog, Undo
from pricing.budgets.store import (
    CapCounts,
    CapStatus,
    Extended,
    Hold,
    MeterEntry,
    OpenHold,
    RateStatus,
    Room,
    Settlement,
)
from pricing.budgets.windows import bucket_of
from pricing.clock import US_PER_S, Clock
from pricing.errors import BudgetExceeded, RateLimited, StoreUnavailable
from pricing.ledger.rows import LedgerRow, RequestRow, RowKind
from pricing.ledger.upgrade import ensure_current

LOG_BYTES: Final = 64 * 2**20
"""What the file's log is cut to once a reader has ended that kept it from being started anew; 4 MiB without one."""

_PRUNE_EVERY_US: Final = 3_600 * US_PER_S
_POSTED_REMEMBERED: Final = 16_384
_COUNTED_AT_ONCE: Final = 1_000  # caps: about a millisecond
_CONTAINER_KINDS: Final = (RowKind.BOOT, RowKind.IDLE)


def _ignore(_: CapWarning) -> None:
    """Warnings go nowhere unless somebody asks for them."""


class SqliteStore:
    """`BudgetStore` on one SQLite file. Belongs to the event loop that first uses it.

    `meters` are its pools' meters: a hold enters them once it is committed.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        caps: CapTable,
        *,
        on_warn: Callable[[CapWarning], None] = _ignore,
        power_safe: bool = False,
    ) -> None:
        """Open or create the file; reads the disk, so call it before serving.

        `on_warn` is called when a cap passes its warning threshold, once per window. Raises StoreUnavailable when
        another process owns the file or it cannot be read.
        """
        self._path = path
        self._clock = clock
        self.meters = LocalMeters(clock, self.post)
        self._tell = on_warn
        self._lock = FileLock(path)
        self._warned: list[CapWarning] = []
        self._book = BudgetBook(caps, clock.wall_us(), self._on_warn)
        self._posted: dict[str, None] = {}
        self._pruned_us = clock.wall_us()
        try:
            self._connection = self._connect(power_safe)
        except BaseException:
            self._lock.release()
            raise
        self._steps = StepLog(self._connection, str(path))

    def _connect(self, power_safe: bool) -> sqlite3.Connection:
        ensure_current(self._path)
        try:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            connection.execute(f"PRAGMA synchronous = {'FULL' if power_safe else 'NORMAL'}")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            recover(connection, self._book, self._clock.wall_us(), self._clock.mono_us())
            self._posted.update(dict.fromkeys(house_rows_posted(connection, _POSTED_REMEMBERED)))
        except sqlite3.Error as error:
            raise StoreUnavailable(f"ledger {self._path}: {error}; name another file with SLUICE_LEDGER") from error
        return connection

    # -- views -----------------------------------------------------------------------------------------------------

    def replace_caps(self, caps: CapTable) -> None:
        self._book.replace_caps(caps, self._clock.wall_us())

    def now_us(self) -> int:
        return self._clock.wall_us()

    def room(self, scopes: Sequence[Scope]) -> Room:
        return self._book.room(scopes, self._clock.wall_us())

    def refusal(self, scopes: Sequence[Scope], amount_nusd: int) -> BudgetExceeded | None:
        return self._book.refusal(scopes, amount_nusd, self._clock.wall_us())

    def is_old(self, scopes: Sequence[Scope]) -> bool:
        """The book is in this process: nothing is ever out of date."""
        return False

    async def refresh(self, scopes: Sequence[Scope]) -> None:
        """Nor is anything to be brought up to date."""

    async def statuses(self, scopes: Sequence[Scope] | None = None) -> list[CapStatus]:
        return self._book.statuses(self._clock.wall_us(), scopes)

    async def rate_statuses(self, scopes: Sequence[Scope] | None = None) -> list[RateStatus]:
        return self._book.rate_statuses(self._clock.wall_us(), scopes)

    async def cap_counts(self) -> CapCounts:
        counts = CapCounts()
        for some in self._book.cap_counts(self._clock.wall_us(), _COUNTED_AT_ONCE):
            counts += some
            await asyncio.sleep(0)
        return counts

    # -- holds -----------------------------------------------------------------------------------------------------

    async def open(self, wish: OpenHold) -> Hold:
        known = self._book.find(wish.hold_id)
        if known is not None:
            await self._commit(Change())
            return self._as_hold(known)
        change, undo = Change(), list[Undo]()
        held = self._open(wish, change, undo)
        return await self._opened(held, wish.meter, change, undo)

    async def extend(self, wishes: Sequence[tuple[str, int]]) -> list[Extended]:
        change, undo, answers = Change(), list[Undo](), list[Extended]()
        wall_us, mono_us = self._clock.wall_us(), self._clock.mono_us()
        for hold_id, amount_nusd in wishes:
            held = self._book.find(hold_id)
            before_nusd = held.amount_nusd if held else 0
            answers.append(self._book.extend(hold_id, amount_nusd, wall_us, mono_us))
            if held is not None:
                undo.append(partial(self._book.undo_extend, hold_id, before_nusd))
                change.extended.append((held, held.amount_nusd, wall_us + held.lease_us))
        if change.extended:
            await self._commit(change, undo)
        return answers

    async def settle(self, settlement: Settlement) -> None:
        change, undo = Change(), list[Undo]()
        self._settle(settlement, change, undo)
        await self._commit(change, undo)

    async def settle_and_open(self, settlement: Settlement, wish: OpenHold) -> Hold:
        change, undo = Change(), list[Undo]()
        self._settle(settlement, change, undo)
        try:
            held = self._open(wish, change, undo)
        except (BudgetExceeded, RateLimited):
            await self._commit(change, undo)
            raise
        return await self._opened(held, wish.meter, change, undo)

    async def release(self, hold_id: str, request: RequestRow | None = None) -> None:
        change, undo = Change(), list[Undo]()
        self._settle(Settlement(hold_id, 0, (), request), change, undo, RELEASED)
        await self._commit(change, undo)

    async def expire(self) -> list[str]:
        wall_us = self._clock.wall_us()
        due = self._book.expire(wall_us, self._clock.mono_us())
        if wall_us - self._pruned_us > _PRUNE_EVERY_US:
            self._book.prune(wall_us)
            self._pruned_us = wall_us
        if due:
            change, undo = Change(), list[Undo]()
            for held in due:
                self._note_end(held, held.amount_nusd, change, undo)
                change.rows.append(expiry_row(held, wall_us))
            await self._commit(change, undo)
        return [held.hold_id for held in due]

    # -- rows without a hold ---------------------------------------------------------------------------------------

    async def post(self, rows: Sequence[LedgerRow], pool_scopes: bool = True) -> None:
        """Write house rows; a row id that was posted before changes nothing. Raises ValueError for a tenant's row."""
        change, undo = Change(), list[Undo]()
        wall_us = self._clock.wall_us()
        for row in rows:
            if row.account not in HOUSE_ACCOUNTS:
                raise ValueError(f"row {row.row_id}: account {row.account} is not the house's; settle a hold instead")
        for row in rows:
            if row.row_id in self._posted:
                continue
            self._posted[row.row_id] = None
            undo.append(partial(self._posted.pop, row.row_id, None))
            change.rows.append(row)
            if pool_scopes and row.kind in _CONTAINER_KINDS and row.amount_nusd:
                self._spend_on_pool(row, wall_us, change, undo)
        while len(self._posted) > _POSTED_REMEMBERED:
            del self._posted[next(iter(self._posted))]
        await self._commit(change, undo)

    async def record(self, request: RequestRow) -> None:
        await self._commit(Change(requests=[request]))

    async def check(self) -> None:
        await self._commit(Change(probe=True))

    async def aclose(self) -> None:
        """Write what is on its way, close the file and let go of it."""
        await self._steps.aclose()
        self._connection.close()
        self._lock.release()

    # -- steps on the book, each with what it writes and how to take it back ------------------------------------------

    def _open(self, wish: OpenHold, change: Change, undo: list[Undo]) -> Held:
        wall_us = self._clock.wall_us()
        held = self._book.open(wish, wall_us, self._clock.mono_us())
        change.opened.append((held, held.amount_nusd, wall_us + held.lease_us))
        undo.append(partial(self._book.undo_open, held))
        return held

    async def _opened(self, held: Held, meter: MeterEntry | None, change: Change, undo: list[Undo]) -> Hold:
        """Wait for a new hold to be written; a caller that gives up meanwhile leaves no hold behind."""
        try:
            await self._commit(change, undo)
        except asyncio.CancelledError:
            self._let_go(held)
            raise
        if meter is not None:
            self.meters.enter(meter, held.hold_id)
        return self._as_hold(held)

    def _as_hold(self, held: Held) -> Hold:
        return held.as_hold(self._clock.mono_us(), self._book.standing(held, self._clock.wall_us()))

    def _let_go(self, held: Held) -> None:
        if self._book.find(held.hold_id) is held:
            change, undo = Change(), list[Undo]()
            self._book.settle(held.hold_id, 0, self._clock.wall_us(), more_tokens=-held.tokens, how=RELEASED)
            self._note_end(held, 0, change, undo, -held.tokens)
            self._steps.submit(change, undo)

    def _settle(self, settlement: Settlement, change: Change, undo: list[Undo], how: str = SETTLED) -> None:
        check_settlement(settlement)
        wall_us = self._clock.wall_us()
        if self._book.has_expired(settlement.hold_id):
            late = late_row(settlement, wall_us)
            change.rows += [late] if late else []
        else:
            amount = settlement.amount_nusd
            more_tokens, exceeds = settlement.more_tokens, settlement.may_exceed_hold
            held = self._book.settle(
                settlement.hold_id, amount, wall_us, may_exceed_hold=exceeds, more_tokens=more_tokens, how=how
            )
            self._note_end(held, amount, change, undo, more_tokens)
            change.rows += settlement.rows
        if settlement.request is not None:
            change.requests.append(settlement.request)

    def _note_end(self, held: Held, amount_nusd: int, change: Change, undo: list[Undo], more_tokens: int = 0) -> None:
        self.meters.drop(held.hold_id)
        change.ended.append(held)
        if amount_nusd:
            change.spend += [(account.name, held.bucket, amount_nusd) for account in held.accounts]
        undo.append(partial(self._book.undo_end, held, amount_nusd, more_tokens))

    def _spend_on_pool(self, row: LedgerRow, wall_us: int, change: Change, undo: list[Undo]) -> None:
        bucket = bucket_of(row.at_us)
        for scope in (Scope(ScopeKind.POOL, row.pool), Scope(ScopeKind.ENDPOINT, row.pool)):
            self._book.spend(scope, bucket, row.amount_nusd, wall_us)
            change.spend.append((str(scope), bucket, row.amount_nusd))
            undo.append(partial(self._book.restore_spend, scope, bucket, -row.amount_nusd))

    def _on_warn(self, warning: CapWarning) -> None:
        self._warned.append(warning)
        self._tell(warning)

    async def _commit(self, change: Change, undo: Sequence[Undo] = ()) -> None:
        if self._warned:
            change.warnings, self._warned = self._warned, []
        await self._steps.submit(change, undo)
