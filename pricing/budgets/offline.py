"""Caps as they stand in a ledger file, read beside a server that runs or without one."""

from __future__ import annotations

from pathlib import Path

from pricing.budgets.book import BudgetBook
from pricing.budgets.caps import CapTable
from pricing.budgets.recovery import recover
from pricing.budgets.store import CapStatus
from pricing.ledger.read import is_there, reading_file


def cap_statuses(path: Path, caps: CapTable, wall_us: int) -> list[CapStatus]:
    """Every cap with what the file says was spent and is held. A file that does not exist yet has spent nothing.

    Raises StoreUnavailable when the file cannot be read.
    """
    book = BudgetBook(caps, wall_us, on_warn=lambda _: None)
    if is_there(path):
        with reading_file(path) as connection:
            recover(connection, book, wall_us, mono_us=0)
    return book.statuses(wall_us)
