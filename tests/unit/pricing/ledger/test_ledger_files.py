"""Ledger files: their tables, their versions, and what is read back."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine

from pricing.budgets.journal import HOLD_COLUMNS
from pricing.errors import StoreUnavailable
from pricing.ledger.codec import (
    REQUEST_COLUMNS,
    ROW_COLUMNS,
    request_from,
    request_values,
    row_from,
    row_from_json,
    row_to_json,
    row_values,
)
from pricing.ledger.read import find_request, recent_rows
from pricing.ledger.rows import House, SchemaResult
from pricing.ledger.schema import metadata
from pricing.ledger.upgrade import HEAD, ensure_current, version_of
from support.ledgers import described, recent_requests, take_back, write_small_ledger
from support.money import request, row
from support.shared_ledger import fill_file, sum_problems
from support.values import replace


def test_the_columns_of_the_code_are_those_of_the_tables() -> None:
    """The hot writer's column lists follow the tables, and these the dataclasses."""
    tables = metadata.tables
    assert [column.name for column in tables["ledger_rows"].columns] == ["seq", *ROW_COLUMNS]
    assert [column.name for column in tables["requests"].columns] == list(REQUEST_COLUMNS)
    assert [column.name for column in tables["holds"].columns] == list(HOLD_COLUMNS)


def test_the_migrations_make_the_tables_that_the_code_expects(tmp_path: Path) -> None:
    """Running every script on an empty file gives exactly the tables and indexes of the metadata."""
    ensure_current(tmp_path / "migrated.sqlite")
    migrated, declared = create_engine(f"sqlite:///{tmp_path}/migrated.sqlite"), create_engine("sqlite://")
    metadata.create_all(declared)
    assert described(migrated, without="alembic_version") == described(declared)
    migrated.dispose()


def test_a_current_file_is_left_alone(tmp_path: Path) -> None:
    """Opening a file again changes nothing in it."""
    path = tmp_path / "ledger.sqlite"
    write_small_ledger(path)
    before = path.read_bytes()
    ensure_current(path)
    assert path.read_bytes() == before
    with sqlite3.connect(path) as connection:
        assert version_of(connection) == HEAD


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """An older program does not write into tables that it does not know."""
    path = tmp_path / "ledger.sqlite"
    ensure_current(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="version 9999, newer than this program; upgrade sluice"):
        ensure_current(path)


def test_an_older_file_is_upgraded_with_what_it_holds(tmp_path: Path) -> None:
    """A file from before schemas, continued streams, what was asked and pictures were noted keeps its rows."""
    path = tmp_path / "ledger.sqlite"
    write_small_ledger(path)
    rows, requests = recent_rows(path, 100), recent_requests(path, 100)
    take_back(URL.create("sqlite", database=str(path)), "0001")
    ensure_current(path)
    assert recent_rows(path, 100) == [replace(each, schema_result=None) for each in rows]
    assert recent_requests(path, 100) == requests


def test_a_file_of_before_has_no_cached_tokens(tmp_path: Path) -> None:
    """What nobody noted counts as none; what comes after an upgrade is noted, and the sums have both."""
    path = tmp_path / "ledger.sqlite"
    write_small_ledger(path)
    take_back(URL.create("sqlite", database=str(path)), "0008")
    fresh = replace(row("new:1", 1), cached_prompt_tokens=7)
    fill_file(path, [fresh], [replace(request("new"), cached_prompt_tokens=7)])
    assert recent_rows(path, 1) == [fresh]
    assert {each.cached_prompt_tokens for each in recent_rows(path, 100)[1:]} == {0}
    assert {each.request_id: each.cached_prompt_tokens for each in recent_requests(path, 100)}["new"] == 7
    assert sum_problems(path) == []


def test_an_interrupted_creation_leaves_an_empty_file(tmp_path: Path) -> None:
    """All tables come in one transaction: a file has every table or none."""
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE warnings (of_another_program TEXT)")
    with pytest.raises(StoreUnavailable, match="already exists"):
        ensure_current(path)
    with sqlite3.connect(path) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert names == ["warnings"]


def test_a_file_that_somebody_else_creates_is_waited_for(tmp_path: Path) -> None:
    """Two that start at once: the second finds a file without a log, locked, and becomes current once it is let go."""
    path = tmp_path / "ledger.sqlite"
    first = sqlite3.connect(path, isolation_level=None)
    first.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor() as pool:
        second = pool.submit(ensure_current, path)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.2)
        first.execute("ROLLBACK")
        second.result()
    first.close()
    with sqlite3.connect(path) as connection:
        assert version_of(connection) == HEAD


def test_rows_survive_their_columns_and_their_json() -> None:
    """What is written is what is read, enums and tags included; plain text goes into the file."""
    written = row(
        "r:1",
        5,
        House.FAILED,
        tenant="acme",
        tags=("a", 'b"c'),
        ttft_us=3,
        estimated=True,
        schema_result=SchemaResult.CUT,
    )
    values = row_values(written)
    assert all(type(value) in (str, int, bool, type(None)) for value in values)
    assert row_from(values) == written
    assert row_from_json(row_to_json(written)) == written
    summary = request("r", tags=("x",), stream=True, error_code="budget_exceeded", pool=None, schema_asked=True)
    summary = replace(summary, max_tokens=512, sequences=2, features=("json_schema", "tools"))
    assert request_from(request_values(summary)) == summary


def test_text_that_utf_8_cannot_hold_is_written_all_the_same() -> None:
    """A client that names a model with half a surrogate pair must not stop the writer."""
    values = request_values(request("r", model_asked="mod\ud800el é"))
    assert request_from(values).model_asked == "mod?el é"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    write_small_ledger(path)
    return path


def test_a_request_is_found_with_its_attempts_and_decisions(ledger: Path) -> None:
    """Both attempts in order, the house's row among them, and the decisions as values."""
    found = find_request(ledger, "c")
    assert found is not None
    assert [(each.attempt, each.account, each.pool) for each in found.rows] == [
        (1, "__failed__", "l4"),
        (2, "acme", "a10"),
    ]
    assert found.decisions == ({"chosen": "l4"},)
    assert found.summary.attempts == 2


def test_a_tenant_finds_its_own_requests_only(ledger: Path) -> None:
    """Another tenant's request is as unknown as one that never was."""
    assert find_request(ledger, "c", tenant="acme") is not None
    assert find_request(ledger, "c", tenant="globex") is None
    assert find_request(ledger, "nothing") is None


def test_the_newest_come_first(ledger: Path) -> None:
    """A listing begins with what was written last, and can be one tenant's."""
    assert [each.row_id for each in recent_rows(ledger, 2)] == ["l4@2:0:adjustment", "a10@2:0:idle"]
    assert {each.tenant for each in recent_rows(ledger, 100, tenant="globex")} == {"globex"}
    assert recent_requests(ledger, 1)[0].request_id == "e"
    assert [each.request_id for each in recent_requests(ledger, 9, tenant="globex")] == ["g"]


def test_reading_a_file_that_is_no_ledger(tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "x.sqlite"
    path.write_text("not a database, though long enough to look like one" * 40)
    with pytest.raises(StoreUnavailable, match=r"x\.sqlite cannot be read"):
        recent_rows(path, 1)
