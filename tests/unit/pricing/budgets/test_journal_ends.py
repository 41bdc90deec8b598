"""Nobody waits for a journal's thread that is no more, however it ended."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pricing.budgets import journal
from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.steps import StepLog
from pricing.clock import ManualClock
from pricing.errors import StoreUnavailable
from pricing.ledger.upgrade import ensure_current
from support.ledgers import DAY_1, recent_requests
from support.money import ACME, cap, caps, request, wish

AT_MOST_S = 20.0


@pytest.fixture
async def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "ledger.sqlite", ManualClock(DAY_1), caps(cap(100)))


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> Iterator[None]:
    """What is written meets `fault` in the midst of its transaction."""

    def insert(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(journal, "insert_ledger", insert)
        yield


async def test_a_step_that_finds_no_memory_is_taken_back(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that finds no room on the disk: the next is written."""
    with (
        failing(monkeypatch, MemoryError()),
        pytest.raises(StoreUnavailable, match="cannot be written: MemoryError; make room"),
    ):
        await asyncio.wait_for(store.open(wish("r:1", 40)), AT_MOST_S)
    assert store.room([ACME]).left_nusd == 100
    await asyncio.wait_for(store.open(wish("r:2", 40)), AT_MOST_S)
    await store.aclose()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_fault_of_ours_fails_every_step_from_then_on(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that had been handed over, and those that come later; the file is free, and closing ends."""
    with failing(monkeypatch, KeyError("a fault")):
        steps = [asyncio.create_task(store.open(wish(f"r{number}:1", 10))) for number in range(3)]
        found = await asyncio.wait_for(asyncio.gather(*steps, return_exceptions=True), AT_MOST_S)
    assert [type(each) for each in found] == [StoreUnavailable] * 3
    assert store.room([ACME]).left_nusd == 100
    with pytest.raises(StoreUnavailable, match="not written any more: its thread has ended"):
        await asyncio.wait_for(store.check(), AT_MOST_S)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite", timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
    await asyncio.wait_for(store.aclose(), AT_MOST_S)


async def test_a_file_that_another_program_locks_needs_no_room(tmp_path: Path) -> None:
    """What is said to do is to end that program; then the next step is written."""
    path = tmp_path / "ledger.sqlite"
    ensure_current(path)
    with (
        closing(sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)) as ours,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        steps = StepLog(ours, "its name")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"its name .* database is locked; end the program that writes"):
            await asyncio.wait_for(steps.submit(journal.Change(probe=True)), AT_MOST_S)
        other.execute("ROLLBACK")
        await asyncio.wait_for(steps.submit(journal.Change(probe=True)), AT_MOST_S)
        await steps.aclose()


async def test_a_step_after_the_end_fails(store: SqliteStore, tmp_path: Path) -> None:
    """Of a store that was closed; what was handed over before is in the file."""
    before = asyncio.ensure_future(store.record(request("a", at_us=DAY_1)))
    await asyncio.sleep(0)
    await store.aclose()
    await before
    with pytest.raises(StoreUnavailable, match="not written any more"):
        await asyncio.wait_for(store.record(request("b", at_us=DAY_1)), AT_MOST_S)
    assert [each.request_id for each in recent_requests(tmp_path / "ledger.sqlite", 9)] == ["a"]
