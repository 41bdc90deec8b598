"""Writing what a reconciliation found."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricing.errors import StoreUnavailable
from pricing.reconcile.adjust import alone, write_rows
from support.money import row


def test_a_ledger_that_was_moved_away_meanwhile_is_not_made_anew(tmp_path: Path) -> None:
    """An empty file in its place would be taken for the ledger by whoever starts next."""
    gone = tmp_path / "ledger #1?.sqlite"
    with pytest.raises(StoreUnavailable, match="cannot be written: unable to open"):
        write_rows(gone, [row("a:1", 1)])
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_cannot_even_be_looked_at_is_an_error_in_our_words(tmp_path: Path) -> None:
    """Here because of its name; as well because of a folder that nobody may enter."""
    with pytest.raises(StoreUnavailable, match="cannot be read: File name too long"), alone(tmp_path / ("x" * 300)):
        raise AssertionError("there is nothing to be alone with")
