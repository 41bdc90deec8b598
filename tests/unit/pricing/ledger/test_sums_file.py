"""Rows of a file wait for their sums by hour: who reads sees no difference, and none is added twice or forgotten."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL

from pricing.budgets import journal
from pricing.budgets.sqlite import SqliteStore
from pricing.clock import ManualClock
from pricing.ledger.read import reading
from pricing.ledger.sums_file import add_some, teach, waiting
from pricing.ledger.upgrade import ensure_current
from support.ledgers import DAY_1, take_back, write_small_ledger
from support.money import caps, request, row
from support.repository import ROOT
from support.shared_ledger import fill_file, sum_problems

MONEY = "SELECT sum(amount_nusd), sum(row_count) FROM ledger_hours"
LONG_S = 20.0  # in which a thread that has nothing else to do adds a few sums


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    teach(connection)
    return connection


def still_waiting(path: Path) -> int:
    with closing(connect(path)) as connection:
        return waiting(connection)


def shown(path: Path) -> tuple[int, int]:
    """What a reader is told of the money: nano-dollars, rows."""
    with reading(path) as ledger:
        amount, rows = ledger.execute(MONEY).fetchone()
    return amount, rows


def kept(path: Path) -> tuple[int | None, int | None]:
    """What the sums have."""
    with closing(connect(path)) as connection:
        amount, rows = connection.execute(MONEY).fetchone()
    return amount, rows


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Three rows and three summaries, none of them summed."""
    path = tmp_path / "ledger.sqlite"
    names = ("a", "b", "c")
    fill_file(path, [row(f"{name}:1", 100, at_us=DAY_1) for name in names], [request(name) for name in names])
    return path


def test_rows_that_wait_are_in_what_a_reader_sees(ledger: Path) -> None:
    """Before, between and after their sums are added."""
    assert (kept(ledger), shown(ledger), still_waiting(ledger)) == ((None, None), (300, 3), 6)
    with closing(connect(ledger)) as connection:
        assert add_some(connection, 2) == 4
        assert (kept(ledger), shown(ledger), still_waiting(ledger)) == ((200, 2), (300, 3), 2)
        assert (add_some(connection, 2), add_some(connection, 2)) == (2, 0)
    assert (kept(ledger), shown(ledger), still_waiting(ledger)) == ((300, 3), (300, 3), 0)
    assert sum_problems(ledger) == []


def test_a_summary_that_comes_last_moves_what_is_summed_and_what_waits(tmp_path: Path) -> None:
    """Of two rows of one request, the first is in the sums when its outcome becomes known, the second is not."""
    path = tmp_path / "ledger.sqlite"
    fill_file(path, [row("a:1", 1, at_us=DAY_1)])
    with closing(connect(path)) as connection:
        add_some(connection, 1)
    fill_file(path, [row("a:2", 2, at_us=DAY_1)])
    fill_file(path, [], [request("a", at_us=DAY_1, attempts=2)])
    with reading(path) as ledger:
        found = ledger.execute(
            "SELECT request_outcome, sum(amount_nusd) FROM ledger_hours GROUP BY 1 HAVING sum(1) > 0"
        )
        assert dict(found.fetchall()) == {"served": 3, "unfinished": 0}
    with closing(connect(path)) as connection:
        add_some(connection, 9)
    assert sum_problems(path) == []


def test_sums_that_cannot_be_written_wait_on(ledger: Path) -> None:
    """On a full disk nothing is added, nothing is lost, and readers see all of it."""
    with closing(connect(ledger)) as connection:
        connection.execute("UPDATE ledger_rows SET tags = hex(randomblob(5000))")  # sums that need pages of their own
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            add_some(connection, 9)
        assert not connection.in_transaction
    assert (kept(ledger), shown(ledger), still_waiting(ledger)) == ((None, None), (300, 3), 6)


async def test_a_store_adds_them_when_it_has_nothing_else_to_do(tmp_path: Path) -> None:
    """Some time after the last commit, without anybody asking."""
    path = tmp_path / "ledger.sqlite"
    store = SqliteStore(path, ManualClock(DAY_1), caps())
    await store.record(request("a", at_us=DAY_1))
    await asyncio.to_thread(wait_until_none_waits, path)
    await store.aclose()


def wait_until_none_waits(path: Path) -> None:
    end = time.monotonic() + LONG_S
    while still_waiting(path):
        assert time.monotonic() < end, "nobody adds what waits"
        time.sleep(0.01)


def test_a_store_that_closes_leaves_none_behind(tmp_path: Path) -> None:
    """So that an older program, or a look into the file by hand, finds whole sums."""
    path = tmp_path / "ledger.sqlite"
    write_small_ledger(path)
    assert (still_waiting(path), kept(path), sum_problems(path)) == (0, shown(path), [])


async def test_a_store_without_a_pause_adds_them_once_too_many_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the group that makes them too many, so that readers never have more than so many to look at."""
    monkeypatch.setattr(journal, "QUIET_S", 3600.0)
    monkeypatch.setattr(journal, "WAITING_AT_MOST", 2)
    path = tmp_path / "ledger.sqlite"
    store = SqliteStore(path, ManualClock(DAY_1), caps())
    for name in ("a", "b", "c"):
        await store.record(request(name, at_us=DAY_1))
    await store.check()  # committed after the sums, which come before the next group
    assert still_waiting(path) == 0
    await store.aclose()


async def test_what_a_killed_store_left_waiting_is_added_by_the_next(ledger: Path) -> None:
    """A start counts what waits."""
    store = SqliteStore(ledger, ManualClock(DAY_1), caps())
    await store.aclose()
    assert (still_waiting(ledger), kept(ledger)) == (0, (300, 3))


def test_an_older_file_has_nothing_that_waits(tmp_path: Path) -> None:
    """The rows of before are in its sums: an upgrade says so."""
    path = tmp_path / "ledger.sqlite"
    write_small_ledger(path)
    take_back(URL.create("sqlite", database=str(path)), "0009")
    ensure_current(path)
    assert (still_waiting(path), sum_problems(path)) == (0, [])


KILLED_BEFORE_SUMS = """\
import os, sys
from pathlib import Path
from pricing.budgets import journal
from support.ledgers import write_small_ledger
journal.add_some = lambda *_: os.kill(os.getpid(), 9)
write_small_ledger(Path(sys.argv[1]))
"""


def test_an_older_program_finds_what_a_killed_one_left_waiting_in_the_sums(tmp_path: Path) -> None:
    """Taking the tables back adds it; after the next upgrade all sums are those of the rows."""
    path = tmp_path / "ledger.sqlite"
    command = [sys.executable, "-c", KILLED_BEFORE_SUMS, str(path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")}, timeout=240, check=False)
    assert done.returncode == -9
    told = shown(path)
    assert (still_waiting(path) > 0, kept(path)) == (True, (None, None))
    take_back(URL.create("sqlite", database=str(path)), "0009")
    assert kept(path) == told
    ensure_current(path)
    assert (still_waiting(path), sum_problems(path)) == (0, [])
