"""Where a ledger is: a SQLite file of one process, or a PostgreSQL database that replicas share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

SCHEMES: Final = ("postgresql", "postgres")


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
