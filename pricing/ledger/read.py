"""Reading a ledger, also while others write it: every reader sees one consistent moment.

SQLite's path imports nothing of PostgreSQL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from pricing.errors import StoreUnavailable
from pricing.ledger.codec import REQUEST_COLUMNS, ROW_COLUMNS, request_from, row_from
from pricing.ledger.place import LedgerPlace, PostgresUrl, connect_existing, why_not
from pricing.ledger.reader import Reader, Span, check_version
from pricing.ledger.rows import LedgerRow, RequestRow
from pricing.ledger.sums_file import show_all, teach
from pricing.ledger.upgrade import version_of
from pricing.money import US_PER_HOUR

_ROWS: Final = f"SELECT {','.join(ROW_COLUMNS)} FROM ledger_rows"
_REQUESTS: Final = f"SELECT {','.join(REQUEST_COLUMNS)} FROM requests"
_NAMED_HOURS: Final = 24 * 366  # a statement may have 1,000,000 characters
_STRFTIME: Final = {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}


class FileReader:
    """A SQLite ledger."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.execute = connection.execute

    def utc_text(self, column: str, span: Span) -> str:
        return f"strftime('{_STRFTIME[span]}', {column} / 1000000, 'unixepoch')"

    def in_hours(self, since_us: int, until_us: int) -> str:
        """Their key begins with the hour: SQLite goes straight to the tenant in each hour that is named, and reads all
        tenants of a range. Named as numbers, since a subquery would stay outside of `show_all`'s views.
        """
        hours = range(since_us, until_us, US_PER_HOUR)
        if len(hours) > _NAMED_HOURS:
            return f"at_us >= {since_us} AND at_us < {until_us}"
        return f"at_us IN ({','.join(map(str, hours))})"


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A past request: its summary, the decision before each attempt, and its rows of money in the order written."""

    summary: RequestRow
    decisions: tuple[Any, ...]
    rows: tuple[LedgerRow, ...]


@contextmanager
def reading(place: LedgerPlace) -> Iterator[Reader]:
    """A ledger inside one transaction that only reads.

    Raises StoreUnavailable when there is none, it cannot be reached, or its tables are of another version.
    """
    if isinstance(place, PostgresUrl):
        from pricing.ledger.read_database import reading_database

        with reading_database(place) as database:
            yield database
    else:
        with reading_file(place) as connection:
            yield FileReader(connection)


@contextmanager
def reading_file(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection to a SQLite ledger inside one transaction. Raises StoreUnavailable as `reading` does."""
    if not (is_there(path) and path.is_file()):
        raise StoreUnavailable(f"no ledger at {path}; name one with --ledger or SLUICE_LEDGER, or start `sluice serve`")
    try:
        connection = connect_existing(path, "ro")
        try:
            teach(connection)
            connection.execute("BEGIN")
            check_version(path, version_of(connection))
            show_all(connection)
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"ledger {path} cannot be read: {why_not(path, error)}") from error


def is_there(path: Path) -> bool:
    """Whether there is anything at a path. Raises StoreUnavailable where it cannot even be looked at."""
    try:
        return path.exists()
    except OSError as error:
        raise StoreUnavailable(f"ledger {path} cannot be read: {error.strerror}") from None


def find_request(place: LedgerPlace, request_id: str, tenant: str | None = None) -> StoredRequest | None:
    """A request by its id; with `tenant`, only if it is that tenant's. Raises StoreUnavailable."""
    with reading(place) as ledger:
        found = ledger.execute(f"{_REQUESTS} WHERE request_id = ?", [request_id]).fetchone()
        if found is None:
            return None
        summary = request_from(found)
        if tenant is not None and summary.tenant != tenant:
            return None
        rows = ledger.execute(f"{_ROWS} WHERE request_id = ? ORDER BY attempt, seq", [request_id]).fetchall()
    decisions = msgspec.json.decode(summary.decisions_json or b"[]", type=tuple[Any, ...])
    return StoredRequest(summary, decisions, tuple(row_from(row) for row in rows))


def recent_rows(place: LedgerPlace, limit: int, tenant: str | None = None) -> list[LedgerRow]:
    """The newest rows of money, newest first; with `tenant`, only those that tenant asked for."""
    where, values = ("", []) if tenant is None else ("WHERE tenant = ?", [tenant])
    with reading(place) as ledger:
        rows = ledger.execute(f"{_ROWS} {where} ORDER BY seq DESC LIMIT ?", [*values, limit]).fetchall()
    return [row_from(row) for row in rows]
