"""Writes rows and summaries into a SQLite ledger, each once. Their sums by hour are added later, see `sums_file.py`.

The caller's transaction holds all of it. Statements carry many rows each, because every call into SQLite hands the
interpreter's lock back and forth with the event loop.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from pricing.ledger.codec import REQUEST_COLUMNS, ROW_COLUMNS, request_values, row_values
from pricing.ledger.rows import LedgerRow, RequestRow, RowKind
from pricing.ledger.sums_file import moving_to_outcomes


def insert_ledger(connection: sqlite3.Connection, rows: Sequence[LedgerRow], requests: Sequence[RequestRow]) -> None:
    """Insert what is not there yet. Raises sqlite3.Error, and OverflowError, ValueError or TypeError for a value that
    cannot be written.

    Summaries come first: rows that are in the sums already move to the outcome of their request.
    """
    if requests:
        values = [request_values(request) for request in requests]
        if _some_rows_came_before(rows, requests):
            with moving_to_outcomes(connection):
                insert_values(connection, "requests", REQUEST_COLUMNS, values)
        else:
            insert_values(connection, "requests", REQUEST_COLUMNS, values)
    if rows:
        insert_values(connection, "ledger_rows", ROW_COLUMNS, [row_values(row) for row in rows])


def _some_rows_came_before(rows: Sequence[LedgerRow], requests: Sequence[RequestRow]) -> bool:
    """Not if each summary comes with the rows of all its attempts, as that of a request whose first attempt answers."""
    here = Counter(row.request_id for row in rows if row.kind is RowKind.ATTEMPT)
    return any(request.attempts > here[request.request_id] for request in requests)


def insert_values(
    connection: sqlite3.Connection,
    table: str,
    columns: tuple[str, ...],
    rows: Sequence[list[Any]],
    on_conflict: str = "ON CONFLICT DO NOTHING",
) -> None:
    """Insert rows with as few statements as there are powers of two in their number, so that each is prepared once."""
    for chunk in chunks(rows):
        values = [value for row in chunk for value in row]
        connection.execute(_insertion(table, columns, len(chunk), on_conflict), values)


def chunks(rows: Sequence[list[Any]]) -> Iterable[Sequence[list[Any]]]:
    """Pieces of 64, 32, 16, … 1 rows."""
    start, size = 0, 64
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        yield rows[start : start + size]
        start += size


@cache
def _insertion(table: str, columns: tuple[str, ...], rows: int, on_conflict: str) -> str:
    """The statement for so many rows. The same text each time: SQLite's driver finds what it has prepared by it."""
    marks = "(" + ",".join("?" * len(columns)) + ")"
    return f"INSERT INTO {table} ({','.join(columns)}) VALUES {','.join([marks] * rows)} {on_conflict}"
