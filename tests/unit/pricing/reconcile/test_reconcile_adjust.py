"""Writing what a reconciliation found."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricing.errors import StoreUnavailable
from pricing.reconcile.adjust import write_rows
from support.money import row


def test_a_ledger_that_was_moved_away_meanwhile_is_not_made_anew(tmp_path: Path) -> None:
    """An empty file in its place would be taken for the ledger by whoever starts next."""
    gone = tmp_path / "ledger #1?.sqlite"
    with pytest.raises(StoreUnavailable, match="cannot be written: unable to open"):
        write_rows(gone, [row("a:1", 1)])
    assert list(tmp_path.iterdir()) == []
