"""Runs the Alembic scripts on a ledger, all of them in one transaction: a crash leaves no half-made tables behind."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from pricing.errors import StoreUnavailable
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.sums_file import teach

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_UPGRADE_LOCK: Final = 0x736C_7569_6365  # "sluice": one at a time, where several replicas start at once


def migrate_file(path: Path) -> None:
    """Raises StoreUnavailable."""
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)
    event.listen(engine, "connect", lambda raw, _: _prepare(raw))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        _migrate(engine, path)
    except DBAPIError as error:
        raise StoreUnavailable(f"ledger {path}: {error.orig}; name another file with SLUICE_LEDGER") from error


def _prepare(connection: sqlite3.Connection) -> None:
    """Python's sqlite3 would commit before each CREATE TABLE."""
    connection.isolation_level = None
    teach(connection)


def migrate_database(url: PostgresUrl) -> None:
    """Raises StoreUnavailable."""
    import psycopg

    from pricing.ledger.postgres import connect, reason

    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(url), poolclass=NullPool)
    lock = text("SELECT pg_advisory_xact_lock(:lock)").bindparams(lock=_UPGRADE_LOCK)
    event.listen(engine, "begin", lambda connection: connection.execute(lock))
    try:
        _migrate(engine, url)
    except DBAPIError as error:
        why = reason(error.orig) if isinstance(error.orig, psycopg.Error) else error.orig
        raise StoreUnavailable(f"ledger {url}: {why}; the user must be allowed to create tables") from error


def _migrate(engine: Engine, place: LedgerPlace) -> None:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.begin() as connection:
        version = _version(connection)
        if version is not None and version not in known:
            raise StoreUnavailable(
                f"ledger {place} has tables of version {version}, newer than this program; upgrade sluice"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
