"""Reading a ledger file, also while a server writes it: every reader sees one consistent moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from pricing.errors import StoreUnavailable
from pricing.ledger.codec import REQUEST_COLUMNS, ROW_COLUMNS, request_from, row_from
from pricing.ledger.rows import LedgerRow, RequestRow
from pricing.ledger.upgrade import HEAD, version_of

_ROWS = f"SELECT {','.join(ROW_COLUMNS)} FROM ledger_rows"
_REQUESTS = f"SELECT {','.join(REQUEST_COLUMNS)} FROM requests"


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A past request: its summary, the decision before each attempt, and its rows of money in the order written."""

    summary: RequestRow
    decisions: tuple[Any, ...]
    rows: tuple[LedgerRow, ...]


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection inside one transaction.

    Raises StoreUnavailable when there is no such file, it is not a ledger, or its tables are of another version.
    """
    if not path.is_file():
        raise StoreUnavailable(f"no ledger at {path}; name one with --ledger or SLUICE_LEDGER, or start `sluice serve`")
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("BEGIN")
            version = version_of(connection)
            if version != HEAD:
                raise StoreUnavailable(
                    f"ledger {path} has tables of version {version}, this program reads version {HEAD}; "
                    "`sluice serve` upgrades an older file"
                )
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"ledger {path} cannot be read: {error}") from error


def find_request(path: Path, request_id: str, tenant: str | None = None) -> StoredRequest | None:
    """A request by its id; with `tenant`, only if it is that tenant's. Raises StoreUnavailable."""
    with reading(path) as connection:
        found = connection.execute(f"{_REQUESTS} WHERE request_id = ?", [request_id]).fetchone()
        if found is None:
            return None
        summary = request_from(found)
        if tenant is not None and summary.tenant != tenant:
            return None
        rows = connection.execute(f"{_ROWS} WHERE request_id = ? ORDER BY attempt, seq", [request_id]).fetchall()
    decisions = msgspec.json.decode(summary.decisions_json or b"[]", type=tuple[Any, ...])
    return StoredRequest(summary, decisions, tuple(row_from(row) for row in rows))


def recent_rows(path: Path, limit: int, tenant: str | None = None) -> list[LedgerRow]:
    """The newest rows of money, newest first; with `tenant`, only those that tenant asked for."""
    where, values = _of_tenant(tenant)
    with reading(path) as connection:
        rows = connection.execute(f"{_ROWS} {where} ORDER BY seq DESC LIMIT ?", [*values, limit]).fetchall()
    return [row_from(row) for row in rows]


def recent_requests(path: Path, limit: int, tenant: str | None = None) -> list[RequestRow]:
    """The newest summaries, newest first."""
    where, values = _of_tenant(tenant)
    with reading(path) as connection:
        query = f"{_REQUESTS} {where} ORDER BY at_us DESC LIMIT ?"
        rows = connection.execute(query, [*values, limit]).fetchall()
    return [request_from(row) for row in rows]


def _of_tenant(tenant: str | None) -> tuple[str, Sequence[str]]:
    return ("", ()) if tenant is None else ("WHERE tenant = ?", (tenant,))
