"""Ledger files that cannot be read or owned: what is full, or not ours to write, and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pricing.budgets.lockfile import FileLock
from pricing.budgets.offline import cap_statuses
from pricing.errors import StoreUnavailable
from pricing.ledger.read import recent_rows
from pricing.ledger.upgrade import ensure_current
from pricing.verify.sqlite import NO_CAPS
from support.full_disk import files_at_most
from support.ledgers import write_small_ledger
from support.no_rights import folder_of_others, without_rights


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_of_others() as found:
        yield found


@pytest.fixture
def ledger(folder: Path) -> Path:
    path = folder / "ledger.sqlite"
    write_small_ledger(path)
    assert recent_rows(path, 1)  # all that is imported on the way may be out of reach without rights
    for beside in ("-wal", "-shm"):
        Path(f"{path}{beside}").unlink()
    return path


def read(path: Path) -> str:
    with pytest.raises(StoreUnavailable) as refused:
        recent_rows(path, 1)
    return str(refused.value).removeprefix(f"ledger {path} cannot be read: ")


def test_a_full_disk_is_named_where_a_ledger_is_read(ledger: Path) -> None:
    """SQLite says "disk I/O error": reading, too, needs room for an index beside the file."""
    with files_at_most(4096):
        said = read(ledger)
    assert said == f"no room on the disk of {ledger.parent}, or where temporary files go; make room there"


@pytest.mark.parametrize("with_wal", [False, True])
def test_a_folder_that_is_not_writable_is_named(ledger: Path, with_wal: bool) -> None:
    """SQLite says that it cannot open, or may not write, a file that everybody may read."""
    if with_wal:
        log = Path(f"{ledger}-wal")
        connection = sqlite3.connect(ledger)
        connection.execute("CREATE TABLE another (id)")
        content = log.read_bytes()
        connection.close()
        log.write_bytes(content)
    with without_rights(ledger.parent):
        said = read(ledger)
    assert said.startswith(f"{ledger.parent} is not writable, and SQLite keeps files of its own beside a ledger")
    assert said.endswith("or copy the ledger, with its -wal file, into a folder of your own")


def test_a_file_of_somebody_else_is_named(ledger: Path) -> None:
    """What keeps it from being read is its own mode, not its folder's."""
    ledger.chmod(0o200)
    with without_rights(ledger.parent):
        said = read(ledger)
    assert said == f"permission denied; run this as who owns {ledger}"


def test_caps_of_a_ledger_that_may_not_be_looked_at_are_not_taken_for_unspent(ledger: Path) -> None:
    """As those of a ledger that is not there yet are."""
    closed = ledger.parent / "closed"
    closed.mkdir(mode=0o000)
    with without_rights(ledger.parent), pytest.raises(StoreUnavailable, match="cannot be read: Permission denied"):
        cap_statuses(closed / "ledger.sqlite", NO_CAPS, 0)


def test_a_lock_that_cannot_be_written_is_told_of_its_ledger(ledger: Path) -> None:
    """On a full disk, and nothing of it stays locked."""
    with files_at_most(0), pytest.raises(StoreUnavailable, match="cannot write beside it: File too large"):
        FileLock(ledger)
    FileLock(ledger).release()


@pytest.mark.parametrize("name", ["", "inside"])
def test_a_folder_is_no_ledger(folder: Path, name: str) -> None:
    """It is told before a lock is left beside it."""
    place = folder / name
    place.mkdir(exist_ok=True)
    with pytest.raises(StoreUnavailable, match="is a folder; name a file in it"):
        FileLock(place)
    assert not place.with_name(place.name + ".lock").exists()


def test_a_ledger_that_cannot_be_made_says_why(folder: Path) -> None:
    """The tables of a new file, on a full disk."""
    with files_at_most(0), pytest.raises(StoreUnavailable, match="no room on the disk of"):
        ensure_current(folder / "new.sqlite")
