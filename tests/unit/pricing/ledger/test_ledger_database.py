"""A PostgreSQL ledger: its tables come from the same scripts, however many start at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine

from pricing.errors import StoreUnavailable
from pricing.ledger.codec import REQUEST_COLUMNS, ROW_COLUMNS
from pricing.ledger.place import PostgresUrl, parse_ledger
from pricing.ledger.postgres import connect, version_in
from pricing.ledger.schema import shared_metadata
from pricing.ledger.upgrade import HEAD, ensure_current
from support.ledgers import described
from support.real_postgres import PostgresServer


def test_the_migrations_make_the_tables_that_the_code_expects(postgres_server: PostgresServer) -> None:
    """Running every script on an empty database gives exactly the tables and indexes of the metadata."""
    migrated, declared = (create_engine(sqlalchemy_url(postgres_server.new_database())) for _ in range(2))
    ensure_current(PostgresUrl(str(migrated.url.set(drivername="postgresql"))))
    shared_metadata.create_all(declared)
    assert described(migrated, without="alembic_version") == described(declared)
    for engine in (migrated, declared):
        engine.dispose()


def test_the_columns_of_the_code_are_those_of_the_tables() -> None:
    """Rows have what a file's rows have, and where in the stream they came from."""
    tables = shared_metadata.tables
    came_in = ["stream_ms", "stream_n"]
    assert [column.name for column in tables["ledger_rows"].columns] == ["seq", *ROW_COLUMNS, *came_in]
    assert [column.name for column in tables["requests"].columns] == [*REQUEST_COLUMNS, *came_in]


def test_many_replicas_may_create_it_at_once(postgres_url: str) -> None:
    """Eight that start together find one set of tables, and none of them fails."""
    url = PostgresUrl(postgres_url)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ensure_current, [url] * 8)) == [None] * 8
    with connect(url) as connection:
        assert version_in(connection) == HEAD


def test_a_newer_database_is_refused(postgres_url: str) -> None:
    """An older program does not write into tables that it does not know."""
    url = PostgresUrl(postgres_url)
    ensure_current(url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="version 9999, newer than this program; upgrade sluice"):
        ensure_current(url)


def test_tables_that_are_in_the_way_are_named(postgres_url: str) -> None:
    """All tables come in one transaction: a database has every table or none."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE requests (of_another_program TEXT)")
    with pytest.raises(StoreUnavailable, match='relation "requests" already exists'):
        ensure_current(PostgresUrl(postgres_url))
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT relname FROM pg_class WHERE relname LIKE 'ledger%'").fetchall()
    assert found == []


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://sluice:hunter2@127.0.0.1:1/ledger",
        "postgresql://sluice:hunter2%zz@127.0.0.1:1/ledger",
        "postgresql://sluice@127.0.0.1:1/ledger?password=hunter2",
    ],
)
def test_no_error_says_the_password(dsn: str) -> None:
    """Where nobody answers, or the address is malformed, the message has the address without its secret."""
    with pytest.raises(StoreUnavailable, match=r"ledger postgresql://127\.0\.0\.1:1/ledger: ") as caught:
        ensure_current(PostgresUrl(dsn))
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__} {PostgresUrl(dsn)!r}"


def test_a_ledger_is_a_path_or_an_address() -> None:
    """Two forms are told apart, and any other is refused with the two that there are."""
    assert parse_ledger("sluice.sqlite") == Path("sluice.sqlite")
    assert parse_ledger("postgres://a:b@h/d") == PostgresUrl("postgres://a:b@h/d")
    with pytest.raises(ValueError, match="a ledger is a file or a postgresql:// address; 'mysql://' is neither"):
        parse_ledger("mysql://h/d")
    with pytest.raises(ValueError, match="malformed"):
        parse_ledger("postgresql://[h/d")


def sqlalchemy_url(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://")
