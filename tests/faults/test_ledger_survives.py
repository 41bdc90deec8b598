"""Invariant 6, and what else can happen to the process that owns a ledger file."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import CapStatus
from pricing.clock import ManualClock, SystemClock
from pricing.errors import StoreUnavailable
from pricing.ledger.read import recent_rows
from pricing.verify.sqlite import verify
from support.full_disk import files_at_most
from support.killed_ledger import leave, tear, written_since
from support.money import ACME, cap, caps, paid, request, wish
from support.spender import LEASE_S, TABLE

FRAME = 24 + 4_096  # of SQLite's journal: a header and a page


def start_spender(ledger: Path, run: str) -> "subprocess.Popen[bytes]":
    """A process that spends; returns once it has opened the ledger."""
    command = [sys.executable, "-m", "support.spender", str(ledger), run]
    folder = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def kill_after(process: "subprocess.Popen[bytes]", lines: int) -> dict[str, int]:
    """Kill -9 once so many settlements were reported; returns every settlement that was reported by then."""
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()
    words = [line.split() for line in said if line.endswith(b"\n")]
    return {hold_id.decode(): int(amount) for hold_id, amount in words}


async def test_kill_9_loses_no_settled_charge_and_leaves_no_hold_beyond_its_lease(tmp_path: Path) -> None:
    """Killed at five random instants: what was reported as settled is in the file, holds end with their leases."""
    ledger = tmp_path / "ledger.sqlite"
    reported: dict[str, int] = {}
    for run in range(5):
        reported |= kill_after(start_spender(ledger, f"run{run}"), random.randint(1, 400))
    written = {f"{row.request_id}:{row.attempt}": row.amount_nusd for row in recent_rows(ledger, 100_000)}
    assert reported.items() <= written.items()

    clock = ManualClock(SystemClock().wall_us())
    store = SqliteStore(ledger, clock, TABLE)
    clock.advance(LEASE_S)
    expired = await store.expire()
    statuses = await store.statuses()
    await store.aclose()
    assert len(expired) <= 5 * 8
    assert [status.held_nusd for status in statuses] == [0, 0]
    found = verify(ledger, clock.wall_us())
    assert found.agrees, found.problems
    assert found.open_holds == 0


async def test_a_commit_that_a_death_has_torn_is_none(tmp_path: Path) -> None:
    """Killed after any part of a settlement's pages: the hold is as it was, and no row, sum or summary is there."""
    ledger, clock = tmp_path / "ledger.sqlite", ManualClock()
    store = SqliteStore(ledger, clock, caps(cap(1_000)))
    await store.open(wish("r:1", 60))
    before = leave(ledger, tmp_path / "before")
    await store.settle(paid("r:1", 55, request=request("r")))
    whole = leave(ledger, tmp_path / "whole")
    await store.aclose()

    added = len(written_since(before, whole))
    assert added > 4 * FRAME
    for kept in range(0, added, FRAME // 2):
        torn = leave(before, tmp_path / f"torn{kept}")
        tear(torn, whole, kept)
        [status] = await found_in(torn, clock)
        assert (status.spent_nusd, status.held_nusd) == (0, 60)
        assert verify(torn, 0).open_holds == 1
    [status] = await found_in(whole, clock)
    assert (status.spent_nusd, status.held_nusd) == (55, 0)


async def found_in(ledger: Path, clock: ManualClock) -> list[CapStatus]:
    """What a new process makes of a file, whose books agree."""
    store = SqliteStore(ledger, clock, caps(cap(1_000)))
    statuses = await store.statuses()
    await store.aclose()
    assert verify(ledger, 0).agrees
    return statuses


async def test_a_second_process_on_the_same_file_is_refused(tmp_path: Path) -> None:
    """The message names the owner; once the owner is killed, the file is free without any cleaning up."""
    ledger = tmp_path / "ledger.sqlite"
    owner = start_spender(ledger, "first")
    with pytest.raises(StoreUnavailable, match=rf"in use by process {owner.pid}; one process owns a ledger file"):
        SqliteStore(ledger, SystemClock(), TABLE)
    assert verify(ledger, 0).agrees  # reading beside it is fine
    kill_after(owner, 1)
    await SqliteStore(ledger, SystemClock(), TABLE).aclose()


async def test_a_full_disk_is_store_unavailable_and_nothing_is_half_done(tmp_path: Path) -> None:
    """Steps that cannot be written change neither the file nor the memory; with room again they go through."""
    ledger = tmp_path / "ledger.sqlite"
    clock = ManualClock()
    store = SqliteStore(ledger, clock, caps(cap(1_000)))
    await store.open(wish("r:1", 60))
    await store.open(wish("s:1", 40))
    before = await store.statuses()
    settlement = paid("r:1", 55, request=request("r", decisions_json=b'"' + b"x" * 100_000 + b'"'))
    with files_at_most((tmp_path / "ledger.sqlite-wal").stat().st_size + 4_096):
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            await store.settle(settlement)
        assert await store.statuses() == before
    await store.settle(settlement)
    assert store.room([ACME]).left_nusd == 1_000 - 55 - 40
    await store.aclose()
    found = verify(ledger, clock.wall_us())
    assert (found.agrees, found.rows, found.open_holds, found.total_nusd) == (True, 1, 1, 55)


@pytest.mark.parametrize("content", [b"this is no database, and long enough to be read as one" * 100, b"\x00" * 4096])
def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path, content: bytes) -> None:
    """Another file at the ledger's path is named, not overwritten."""
    ledger = tmp_path / "ledger.sqlite"
    ledger.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="SLUICE_LEDGER"):
        SqliteStore(ledger, ManualClock(), TABLE)
    assert ledger.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A missing folder is said so at start, not at the first request."""
    with pytest.raises(StoreUnavailable, match="No such file"):
        SqliteStore(tmp_path / "missing" / "ledger.sqlite", ManualClock(), TABLE)


async def test_the_lock_file_says_who_owns_the_ledger(tmp_path: Path) -> None:
    """An operator finds the process by its id beside the file."""
    store = SqliteStore(tmp_path / "ledger.sqlite", ManualClock(), TABLE)
    assert int((tmp_path / "ledger.sqlite.lock").read_text()) == os.getpid()
    await store.aclose()
