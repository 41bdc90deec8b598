"""`verify` finds every kind of disagreement, and only those."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from pricing.verify.sqlite import NAMED_AT_MOST, verify
from support.ledgers import LEDGER_NUSD, write_small_ledger

NOW = 1_800_000_000 * 1_000_000
HOLD = "INSERT INTO holds VALUES ('{}', 'r', 5, 0, 30000000, {}, '[\"tenant:acme\"]', NULL)"

SUMS = """
    UPDATE ledger_{} SET metered_nusd = 7, estimated_rows = 1, estimated_nusd = 1000
    WHERE account = 'acme' AND outcome = 'answered' AND pool = 'l4' AND tags = '[]';
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    write_small_ledger(path)
    return path


def test_a_good_ledger_agrees(good: Path) -> None:
    """Everything that was written through a store agrees, and is counted."""
    found = verify(good, NOW)
    assert (found.problems, found.rows, found.requests, found.open_holds) == ((), 11, 6, 0)
    assert found.total_nusd == LEDGER_NUSD


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        (
            "UPDATE ledger_rows SET amount_nusd = 999, metered_nusd = 999 WHERE row_id = 'a:1:attempt'",
            "tenant acme: its ledger rows are $0.000007899, its budgets say $0.000007900",
        ),
        ("DELETE FROM spend WHERE scope = 'tenant:globex'", "tenant globex: its ledger rows are"),
        ("INSERT INTO spend VALUES ('tenant:ghost', 1, 5)", "tenant ghost: its ledger rows are $0.000000000"),
        ("UPDATE ledger_rows SET tenant = 'globex' WHERE row_id = 'a:1:attempt'", "row a:1:attempt: paid by acme"),
        (
            "UPDATE ledger_rows SET metered_nusd = 1001 WHERE row_id = 'e:1:attempt'",
            "pool l4: request e, attempt 1 was metered $0.000001001 and paid $0.000001000",
        ),
        ("DELETE FROM ledger_rows WHERE row_id = 'e:1:overrun'", "pool l4: request e, attempt 1 was metered"),
        ("DELETE FROM ledger_rows WHERE row_id = 'c:1:attempt'", "request c: 1 attempts are numbered 2 to 2"),
        ("UPDATE requests SET attempts = 1 WHERE request_id = 'c'", "request c: 2 attempts are numbered 1 to 2"),
        ("UPDATE requests SET outcome = 'served' WHERE request_id = 'd'", "request d was served, and no row says"),
        (HOLD.format("r:1", NOW - 5_000_000), "hold r:1 over $0.000000005 is open 5 s after its lease"),
        (
            "UPDATE ledger_hours SET amount_nusd = 1 WHERE kind = 'idle' AND pool = 'l4'",
            "hour 2026-01-01T01:00Z: 2 sums in ledger_hours are not those of ledger_rows",
        ),
        ("DELETE FROM request_days", "hour 2026-01-01T00:00Z: 4 sums in request_days are not those of requests"),
        ("DELETE FROM request_hours", "hour 2026-01-01T01:00Z: 4 sums in request_hours are not those of requests"),
        ("DELETE FROM latency_hours", "hour 2026-01-01T01:00Z:"),
        (HOLD.format("a:1", NOW + 1).replace("'r'", "'a'"), "hold a:1 is open although row a:1:attempt ended it"),
    ],
)
def test_each_disagreement_is_named(good: Path, tmp_path: Path, tampering: str, problem: str) -> None:
    """Changing one thing in the file is found, and the message says where."""
    path = tampered(good, tmp_path, tampering)
    found = verify(path, NOW)
    assert not found.agrees
    assert any(each.startswith(problem) for each in found.problems), found.problems


@pytest.mark.parametrize(
    "change",
    [
        HOLD.format("r:1", NOW + 5_000_000),
        "UPDATE ledger_rows SET metered_nusd = 7, estimated = 1 WHERE row_id = 'a:1:attempt'; "
        + SUMS.format("hours")
        + SUMS.format("days"),
    ],
)
def test_what_is_no_disagreement(good: Path, tmp_path: Path, change: str) -> None:
    """A hold within its lease is at work; an estimate has no meter to agree with."""
    assert verify(tampered(good, tmp_path, change), NOW).agrees


def test_a_flood_of_problems_is_counted_not_printed(good: Path, tmp_path: Path) -> None:
    """The first of each kind are named, the others counted."""
    numbers = ",".join(f"('tenant:t{index:03}', 1, 5)" for index in range(NAMED_AT_MOST + 30))
    found = verify(tampered(good, tmp_path, f"INSERT INTO spend VALUES {numbers}"), NOW)
    assert len(found.problems) == NAMED_AT_MOST + 1
    assert found.problems[-1] == "… and 30 more like these"


def tampered(good: Path, folder: Path, statements: str) -> Path:
    path = folder / "tampered.sqlite"
    shutil.copy(good, path)
    with sqlite3.connect(path) as connection:
        connection.executescript(statements)
    return path
