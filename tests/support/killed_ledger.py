"""The file of a process that was killed: what lies on the disk at that instant, its journal included."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from pricing.budgets import journal
from pricing.budgets.journal import Change

SUFFIXES = ("", "-wal", "-shm")
WITHIN_S = 60.0

_write = journal.write


class Instant(Enum):
    """Of a commit that is on its way when the process dies."""

    BEFORE = "nothing of it is written"
    TORN = "a part of its pages is in the journal"
    AFTER = "all of it is written, and nobody has heard"


def leave(ledger: Path, into: Path) -> Path:
    """A copy of a ledger's files as they are now, which is what a new process would find; into a new folder."""
    into.mkdir()
    for suffix in SUFFIXES:
        shutil.copy(_beside(ledger, suffix), into)
    return into / ledger.name


class Death:
    """In place of `journal.write`: the first commit waits for `dies`, the process dies in the second one.

    So everything that is handed over in between is one commit. `left` is the file that a new process finds; the process
    here goes on, like one that is not told that it is dead.
    """

    def __init__(self, ledger: Path, into: Path, instant: Instant, torn_permille: int) -> None:
        self._ledger = ledger
        self._into = into
        self._instant = instant
        self._torn_permille = torn_permille
        self.writes = threading.Event()
        self.dies = threading.Event()
        self.left: Path

    def write(self, connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
        if not self.writes.is_set():
            self.writes.set()
            assert self.dies.wait(WITHIN_S)
            _write(connection, changes)
            return
        if self._instant is Instant.AFTER:
            _write(connection, changes)
            self.left = leave(self._ledger, self._into)
            return
        self.left = leave(self._ledger, self._into)
        _write(connection, changes)
        if self._instant is Instant.TORN:
            added = written_since(self.left, self._ledger)
            tear(self.left, self._ledger, len(added) * self._torn_permille // 1000)


def written_since(left: Path, ledger: Path) -> bytes:
    """What has come to a ledger's journal since a copy of it was left."""
    return _beside(ledger, "-wal").read_bytes()[_beside(left, "-wal").stat().st_size :]


def tear(left: Path, ledger: Path, kept: int) -> None:
    """Add so many bytes of what has been written since to the journal that was left."""
    added = written_since(left, ledger)[:kept]
    with _beside(left, "-wal").open("ab") as journal_left:
        journal_left.write(added)


def _beside(ledger: Path, suffix: str) -> Path:
    return ledger.with_name(ledger.name + suffix)
