"""The writer of a ledger file: one thread that turns the changes of many requests into one transaction.

A `Change` is what one step of the budget book does to the file. The thread takes all that wait, merges them (a hold
opened and ended in one group never reaches the file, spend adds up per bucket) and commits once. Statements carry
many rows each, because every call into SQLite hands the interpreter's lock back and forth with the event loop.

A commit that fails fails its group and everything that was handed over meanwhile: the owner takes those steps back in
memory and starts a new epoch, and the thread drops what still arrives from the old one.

Rows are added to the ledger's sums by hour in transactions of their own: when nothing has come for a while, a few after
each group where too many wait, and the rest before the thread ends.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from pricing.budgets.account import CapWarning
from pricing.budgets.book import Held
from pricing.ledger.codec import row_to_json
from pricing.ledger.insert_file import chunks, insert_ledger, insert_values
from pricing.ledger.rows import LedgerRow, RequestRow
from pricing.ledger.sums_file import add_some, teach, waiting

# A full disk and the like; no memory; a number beyond 64 bits; text or a value that cannot be encoded.
_UNWRITABLE: Final = (sqlite3.Error, MemoryError, OverflowError, ValueError, TypeError)
LARGEST_GROUP: Final = 512  # changes in one transaction
QUIET_S: Final = 0.2  # without a change, and there is time for sums
SUMMED_AT_ONCE: Final = 512  # rows, and summaries: some milliseconds
WAITING_AT_MOST: Final = 32_768  # rows and summaries without sums, which readers look at one by one: some 0.1 s
HOLD_COLUMNS: Final = (
    "hold_id",
    "request_id",
    "amount_nusd",
    "anchor_us",
    "lease_us",
    "lease_ends_us",
    "scopes",
    "on_expiry",
)


@dataclass(slots=True, eq=False)
class Change:
    """What one step writes. `held` are (hold, amount, wall time of its lease's end) as they were at that step."""

    opened: list[tuple[Held, int, int]] = field(default_factory=list)
    extended: list[tuple[Held, int, int]] = field(default_factory=list)
    ended: list[Held] = field(default_factory=list)
    spend: list[tuple[str, int, int]] = field(default_factory=list)  # scope, bucket, nano-dollars
    rows: list[LedgerRow] = field(default_factory=list)
    requests: list[RequestRow] = field(default_factory=list)
    warnings: list[CapWarning] = field(default_factory=list)
    probe: bool = False  # write a page as it is, to see whether that can be done
    epoch: int = 0


class JournalEnded(Exception):
    """The thread has ended, and writes nothing any more: it was told to stop, or a fault of ours ended it."""

    def __init__(self) -> None:
        super().__init__("its thread has ended; the log says why, unless it was told to stop: start the program again")


class Journal:
    """Owns the connection for writing. `written` and `failed` are called in the thread; once that has ended, `failed`
    by whoever hands something over, with JournalEnded: nobody waits for a thread that is no more.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        written: Callable[[Sequence[Change]], None],
        failed: Callable[[int, Exception], None],
    ) -> None:
        teach(connection)
        self._connection = connection
        self._written = written
        self._failed = failed
        self._queue: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._epoch = 0
        self._ended = False
        self._unsummed = waiting(connection)
        self._thread = threading.Thread(target=self._run, name="sluice-ledger", daemon=True)
        self._thread.start()

    def put(self, change: Change) -> None:
        """Hand a change over; it never waits."""
        self._queue.put(change)
        if self._ended:
            self._failed(self._epoch, JournalEnded())

    def stop(self) -> None:
        """Write what was handed over, then end the thread. Waits; call it outside the event loop."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        finally:  # in this order: what is handed over meanwhile fails here or there
            self._ended = True
            self._failed(self._epoch, JournalEnded())

    def _work(self) -> None:
        stopping = False
        while not stopping:
            group, stopping = self._gather()
            fresh = [change for change in group if change.epoch == self._epoch]
            if fresh:
                self._write(fresh)
            if self._unsummed > WAITING_AT_MOST:
                self._add_sums()
        while self._unsummed and self._add_sums():
            pass

    def _write(self, changes: Sequence[Change]) -> None:
        try:
            write(self._connection, changes)
        except _UNWRITABLE as error:
            self._epoch += 1
            self._failed(self._epoch, error)
        else:
            self._unsummed += sum(len(change.rows) + len(change.requests) for change in changes)
            self._written(changes)

    def _gather(self) -> tuple[list[Change], bool]:
        """Wait for one change, take the others that are there. The flag says that this is the last group."""
        group: list[Change] = []
        change = self._next()
        while change is not None:
            group.append(change)
            if len(group) == LARGEST_GROUP:
                return group, False
            try:
                change = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _next(self) -> Change | None:
        """Wait for a change; while none comes, rows are added to the sums."""
        pause_s = QUIET_S
        while self._unsummed:
            try:
                return self._queue.get(timeout=pause_s)
            except queue.Empty:
                pause_s = 0.0 if self._add_sums() else QUIET_S
        return self._queue.get()

    def _add_sums(self) -> bool:
        """Whether that could be done; if not, the rows wait on, and readers see them all the same."""
        try:
            added = add_some(self._connection, SUMMED_AT_ONCE)
        except _UNWRITABLE:
            return False
        self._unsummed = self._unsummed - added if added else 0  # what was there already was no row
        return True


def write(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """Write changes in one transaction, all or none. Raises one of `_UNWRITABLE`."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _write_holds(connection, changes)
        _write_spend(connection, changes)
        rows = [row for change in changes for row in change.rows]
        insert_ledger(connection, rows, [request for change in changes for request in change.requests])
        _write_warnings(connection, changes)
        if any(change.probe for change in changes):
            connection.execute("UPDATE alembic_version SET version_num = version_num")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _write_holds(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    opened: dict[str, list[Any]] = {}
    extended: dict[str, tuple[int, int, str]] = {}
    ended: list[list[Any]] = []
    for change in changes:
        for held, amount_nusd, lease_ends_us in change.opened:
            opened[held.hold_id] = _hold_values(held, amount_nusd, lease_ends_us)
        for held, amount_nusd, lease_ends_us in change.extended:
            extended[held.hold_id] = (amount_nusd, lease_ends_us, held.hold_id)
        for held in change.ended:
            extended.pop(held.hold_id, None)
            if opened.pop(held.hold_id, None) is None:
                ended.append([held.hold_id])
    insert_values(connection, "holds", HOLD_COLUMNS, list(opened.values()))
    if extended:
        connection.executemany(
            "UPDATE holds SET amount_nusd = ?, lease_ends_us = ? WHERE hold_id = ?", extended.values()
        )
    for chunk in chunks(ended):
        marks = ",".join("?" * len(chunk))
        connection.execute(f"DELETE FROM holds WHERE hold_id IN ({marks})", [hold_id for [hold_id] in chunk])


def _write_spend(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    sums: dict[tuple[str, int], int] = {}
    for change in changes:
        for scope, bucket, nusd in change.spend:
            sums[scope, bucket] = sums.get((scope, bucket), 0) + nusd
    values = [[scope, bucket, nusd] for (scope, bucket), nusd in sums.items() if nusd]
    add = "ON CONFLICT (scope, bucket) DO UPDATE SET nusd = nusd + excluded.nusd"
    insert_values(connection, "spend", ("scope", "bucket", "nusd"), values, add)


def _write_warnings(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    sent = {warning.warns_as: warning for change in changes for warning in change.warnings}
    values = [[cap, allows, warning.quiet_until_us] for (cap, allows), warning in sent.items()]
    renew = "ON CONFLICT (cap, amount) DO UPDATE SET quiet_until_us = excluded.quiet_until_us"
    insert_values(connection, "warnings", ("cap", "amount", "quiet_until_us"), values, renew)


def _hold_values(held: Held, amount_nusd: int, lease_ends_us: int) -> list[Any]:
    scopes = msgspec.json.encode([account.name for account in held.accounts]).decode()
    on_expiry = None if held.on_expiry is None else row_to_json(held.on_expiry)
    return [
        held.hold_id,
        held.request_id,
        amount_nusd,
        held.anchor_us,
        held.lease_us,
        lease_ends_us,
        scopes,
        on_expiry,
    ]
