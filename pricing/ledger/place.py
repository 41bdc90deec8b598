"""Where a ledger is: a SQLite file of one process, or a PostgreSQL database that replicas share."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, urlsplit

SCHEMES: Final = ("postgresql", "postgres")
_NO_ROOM: Final = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_WRITE")
_NO_FOLDER: Final = ("SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY")


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """The address of a database, as libpq takes it. As text it is without user, password and parameters."""

    dsn: str = field(repr=False)

    def __str__(self) -> str:
        parts = urlsplit(self.dsn)
        return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


LedgerPlace = Path | PostgresUrl


def parse_ledger(text: str) -> LedgerPlace:
    """A path, or `postgresql://user:password@host:port/database`. Raises ValueError for any other kind of address."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Path(text)
    if scheme not in SCHEMES:
        raise ValueError(f"a ledger is a file or a postgresql:// address; '{scheme}://' is neither")
    try:
        urlsplit(text)
    except ValueError:
        raise ValueError(
            "the ledger's address is malformed; write postgresql://user:password@host:port/database"
        ) from None
    return PostgresUrl(text)


def connect_existing(path: Path, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    """A connection without transactions of its own, never to a file that is not there: an empty one in the place of a
    ledger that was moved away would hide that it is. Raises sqlite3.Error.
    """
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode={mode}", uri=True, isolation_level=None)


def why_not(path: Path, error: sqlite3.Error | OSError) -> str:
    """What SQLite says of a file, with what to do: also who only reads needs a writable folder, and room in it."""
    name = getattr(error, "sqlite_errorname", "")
    folder = path.absolute().parent
    if name in _NO_ROOM:
        return f"no room on the disk of {folder}, or where temporary files go; make room there"
    if name in _NO_FOLDER and path.exists():
        if not os.access(path, os.R_OK):
            return f"permission denied; run this as who owns {path}"
        if not os.access(folder, os.W_OK):
            return (
                f"{folder} is not writable, and SQLite keeps files of its own beside a ledger, while it reads too; run "
                "this as who serves it, or copy the ledger, with its -wal file, into a folder of your own"
            )
    return str(error)
