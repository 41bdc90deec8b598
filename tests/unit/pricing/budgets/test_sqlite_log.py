"""The log of a SQLite ledger (its -wal file) while somebody reads for long, and afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricing.budgets import sqlite
from pricing.budgets.sqlite import SqliteStore
from pricing.clock import ManualClock
from pricing.ledger.read import reading
from support.ledgers import DAY_1
from support.money import caps, request

ONCE_BYTES = 5 * 2**20  # more than the 1000 pages after which SQLite takes its log over into the file


async def test_a_long_reader_leaves_no_large_log_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it reads, all that is written stays in the log, and it sees none of it; then the log is cut."""
    monkeypatch.setattr(sqlite, "LOG_BYTES", 2**20)
    path = tmp_path / "ledger.sqlite"
    log = path.with_name("ledger.sqlite-wal")
    store = SqliteStore(path, ManualClock(DAY_1), caps())
    with reading(path) as ledger:
        for number in range(3):
            await store.record(request(f"large-{number}", at_us=DAY_1, decisions_json=b" " * ONCE_BYTES))
        assert log.stat().st_size > 3 * ONCE_BYTES
        assert ledger.execute("SELECT count(*) FROM requests").fetchone() == (0,)
    for number in range(3):  # is taken over into the file; begins anew; whatever sums come in between
        await store.record(request(f"small-{number}", at_us=DAY_1))
    assert log.stat().st_size <= 2**20
    await store.aclose()
