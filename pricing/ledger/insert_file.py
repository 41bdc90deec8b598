"""Writes rows and summaries into a SQLite ledger, each once, and adds the new ones to the sums by hour.

The caller's transaction holds all of it. Statements carry many rows each, because every call into SQLite hands the
interpreter's lock back and forth with the event loop.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from pricing.ledger.codec import REQUEST_COLUMNS, ROW_COLUMNS, request_values, row_values
from pricing.ledger.rollups import LATENCIES, REQUESTS, ROWS, Rollup, outcome_known
from pricing.ledger.rows import LedgerRow, RequestRow, RowKind

_NEW_ROWS: Final = "(SELECT * FROM ledger_rows WHERE seq > ?1)"
_NEW_REQUESTS: Final = "(SELECT * FROM requests WHERE rowid > ?1)"


def teach(connection: sqlite3.Connection) -> None:
    """Give a connection what the sums' SQL needs, and SQLite does not have in every build."""
    connection.create_function("ln", 1, math.log, deterministic=True)


def insert_ledger(connection: sqlite3.Connection, rows: Sequence[LedgerRow], requests: Sequence[RequestRow]) -> None:
    """Insert what is not there yet. Raises sqlite3.Error, and OverflowError, ValueError or TypeError for a value that
    cannot be written.

    Summaries come first: the sums of rows look for the outcome there.
    """
    if requests:
        with summing_requests(connection, late=_some_rows_came_before(rows, requests)):
            insert_values(connection, "requests", REQUEST_COLUMNS, [request_values(request) for request in requests])
    if rows:
        with summing_rows(connection):
            insert_values(connection, "ledger_rows", ROW_COLUMNS, [row_values(row) for row in rows])


@contextmanager
def summing_requests(connection: sqlite3.Connection, *, late: bool = True) -> Iterator[None]:
    """Add the summaries that are inserted meanwhile to the sums. `late`: rows of theirs may be there already."""
    [last] = connection.execute("SELECT coalesce(max(rowid), 0) FROM requests").fetchone()
    yield
    for statement in (*_SUM_REQUESTS, *_MOVE_ROWS) if late else _SUM_REQUESTS:
        connection.execute(statement, [last])


@contextmanager
def summing_rows(connection: sqlite3.Connection) -> Iterator[None]:
    """Add the rows of money that are inserted meanwhile to the sums."""
    [last] = connection.execute("SELECT coalesce(max(seq), 0) FROM ledger_rows").fetchone()
    yield
    for statement in _SUM_ROWS:
        connection.execute(statement, [last])


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


def _adding(rollup: Rollup, rows: str) -> str:
    """SQL: add what `Rollup.of_rows` gives to the sums."""
    columns = ", ".join(rollup.columns)
    key = ", ".join(("at_us", *rollup.dimensions))
    return (
        f"INSERT INTO {rollup.table} AS known ({columns}) {rollup.by_span(rows)} "
        f"ON CONFLICT ({key}) DO UPDATE SET {rollup.added}"
    )


def _of(source: str, new: str) -> str:
    """SQL: add the latencies that new rows of one table say."""
    mine = [rollup for rollup in LATENCIES if rollup.source == source]
    return _adding(mine[0], " UNION ALL ".join(rollup.of_rows(new) for rollup in mine))


_SUM_REQUESTS: Final = (
    *(_adding(rollup, rollup.of_rows(_NEW_REQUESTS)) for rollup in REQUESTS),
    _of("requests", _NEW_REQUESTS),
)
_MOVE_ROWS: Final = tuple(_adding(rollup, outcome_known(rollup, _NEW_REQUESTS)) for rollup in ROWS)
_SUM_ROWS: Final = (
    *(_adding(rollup, rollup.of_rows(_NEW_ROWS)) for rollup in ROWS),
    _of("ledger_rows", _NEW_ROWS),
)
