"""Creates a ledger, or brings an older one up to date, with the Alembic scripts in `pricing/ledger/migrations`.

SQLAlchemy and Alembic are imported only when there is something to do, which is once in the life of a ledger.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

from pricing.errors import StoreUnavailable
from pricing.ledger.place import LedgerPlace, PostgresUrl, why_not

HEAD: Final = "0012"  # the newest script in migrations/versions
_BUSY_S: Final = 5.0  # as long as sqlite3 waits by itself for other locks
_LOOK_S: Final = 0.02


def version_of(connection: sqlite3.Connection) -> str | None:
    """The version of a file's tables; None for a file without them."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if found else None
    return str(row[0]) if row else None


def ensure_current(place: LedgerPlace) -> None:
    """Create a ledger's tables or upgrade them; nothing happens to a current one. Any number may do it at once.

    Raises StoreUnavailable for what is no ledger, or is newer than this program, or cannot be reached or written.
    """
    if isinstance(place, PostgresUrl):
        _ensure_database(place)
    else:
        _ensure_file(place)


def _ensure_file(path: Path) -> None:
    try:
        if _read_version(path) != HEAD:
            from pricing.ledger.migrate import migrate_file

            migrate_file(path)
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(
            f"ledger {path}: {why_not(path, error)}; name another file with SLUICE_LEDGER"
        ) from error


def _read_version(path: Path) -> str | None:
    connection = sqlite3.connect(path)
    try:
        _use_wal(connection)
        return version_of(connection)
    finally:
        connection.close()


def _use_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait where somebody else writes a file that has no log yet: this change fails at once."""
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_LOOK_S)


def _ensure_database(url: PostgresUrl) -> None:
    from pricing.ledger.postgres import connect, in_our_words, version_in

    with connect(url) as connection, in_our_words(url):
        version = version_in(connection)
    if version != HEAD:
        from pricing.ledger.migrate import migrate_database

        migrate_database(url)
