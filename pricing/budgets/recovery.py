"""What a ledger file remembers, back into a budget book at start."""

from __future__ import annotations

import sqlite3
from functools import cache

import msgspec

from pricing.budgets.book import KEPT_US, BudgetBook, Held
from pricing.budgets.caps import Scope, parse_scope
from pricing.budgets.journal import HOLD_COLUMNS
from pricing.budgets.windows import bucket_of
from pricing.ledger.codec import row_from_json

_scope = cache(parse_scope)


def recover(connection: sqlite3.Connection, book: BudgetBook, wall_us: int, mono_us: int) -> None:
    """Spend that a window can still hold, holds that were open, warnings that were sent.

    The clock that a lease ran on died with its process, so what is left of it is read off the wall clock, and is never
    longer than a whole lease. Raises sqlite3.Error.
    """
    oldest = bucket_of(wall_us - KEPT_US)
    for scope, bucket, nusd in connection.execute("SELECT scope, bucket, nusd FROM spend WHERE bucket >= ?", [oldest]):
        book.restore_spend(_scope(scope), bucket, nusd)
    for values in connection.execute(f"SELECT {','.join(HOLD_COLUMNS)} FROM holds"):
        book.restore_hold(_held(book, values, wall_us, mono_us))
    quiet = connection.execute("SELECT cap, amount, quiet_until_us FROM warnings WHERE quiet_until_us > ?", [wall_us])
    book.keep_quiet({(cap, allows): until_us for cap, allows, until_us in quiet})


def _held(
    book: BudgetBook, values: tuple[str, str, int, int, int, int, str, str | None], wall_us: int, mono_us: int
) -> Held:
    hold_id, request_id, amount_nusd, anchor_us, lease_us, lease_ends_us, scopes, on_expiry = values
    named: list[Scope] = [_scope(text) for text in msgspec.json.decode(scopes, type=list[str])]
    return Held(
        hold_id=hold_id,
        request_id=request_id,
        amount_nusd=amount_nusd,
        anchor_us=anchor_us,
        bucket=bucket_of(anchor_us),
        lease_us=lease_us,
        deadline_us=mono_us + min(lease_us, max(0, lease_ends_us - wall_us)),
        on_expiry=None if on_expiry is None else row_from_json(on_expiry),
        accounts=tuple(book.account(scope) for scope in named),
    )


def house_rows_posted(connection: sqlite3.Connection, among_last: int) -> list[str]:
    """Ids of the house's own rows among the newest rows of the ledger, oldest first. Raises sqlite3.Error."""
    rows = connection.execute(
        "SELECT row_id FROM ledger_rows WHERE request_id IS NULL"
        " AND seq > (SELECT max(seq) FROM ledger_rows) - ? ORDER BY seq",
        [among_last],
    )
    return [row_id for (row_id,) in rows]
