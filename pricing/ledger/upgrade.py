"""Creates a ledger file, or brings an older one up to date, with the Alembic scripts in `pricing/ledger/migrations`.

SQLAlchemy and Alembic are imported only when there is something to do, which is once in the life of a file.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from pricing.errors import StoreUnavailable

HEAD: Final = "0004"  # the newest script in migrations/versions
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def version_of(connection: sqlite3.Connection) -> str | None:
    """The version of a file's tables; None for a file without them."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if found else None
    return str(row[0]) if row else None


def ensure_current(path: Path) -> None:
    """Create the file's tables or upgrade them; nothing happens to a current file.

    Raises StoreUnavailable for a file that is not a ledger, or is newer than this program, or cannot be written.
    """
    try:
        version = _read_version(path)
        if version != HEAD:
            _run_scripts(path, version)
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"ledger {path}: {error}; name another file with SLUICE_LEDGER") from error


def _read_version(path: Path) -> str | None:
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        return version_of(connection)
    finally:
        connection.close()


def _run_scripts(path: Path, version: str | None) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy import URL, create_engine, event
    from sqlalchemy.exc import DatabaseError
    from sqlalchemy.pool import NullPool

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise StoreUnavailable(
            f"ledger {path} has tables of version {version}, newer than this program; upgrade sluice"
        )
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)
    # Python's sqlite3 would commit before each CREATE TABLE; one transaction leaves no half-made file behind a crash.
    event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DatabaseError as error:
        raise StoreUnavailable(f"ledger {path}: {error.orig}; name another file with SLUICE_LEDGER") from error
