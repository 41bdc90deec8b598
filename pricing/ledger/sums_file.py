"""The sums by hour of a SQLite ledger, which are added after the commit that an answer waits for.

Adding them costs as much as writing the rows, and less the more rows there are, so rows wait for it: the table `summed`
says up to which row each table's are in the sums. `add_some` adds the next ones, and `show_all` lets a reader see the
sums with the rows that wait, so that nobody can tell.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pricing.ledger.rollups import ROLLUPS, ROWS, Rollup, outcome_known

_NUMBER: Final = {"ledger_rows": "seq", "requests": "rowid"}  # table -> what grows with every row, in the order written


def teach(connection: sqlite3.Connection) -> None:
    """Give a connection what the sums' SQL needs, and SQLite does not have in every build."""
    connection.create_function("ln", 1, math.log, deterministic=True)


def waiting(connection: sqlite3.Connection) -> int:
    """How many rows and summaries are not in the sums."""
    return sum(last - up_to for _, up_to, last in _marks(connection))


def add_some(connection: sqlite3.Connection, at_most: int) -> int:
    """Add the oldest that wait of each table to the sums, so many of it, in a transaction; returns how many in all.

    Raises sqlite3.Error; then nothing was changed.
    """
    added = 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table, up_to, last in _marks(connection):
            until = min(last, up_to + at_most)
            if until > up_to:
                for statement in _ADD[table]:
                    connection.execute(statement, [up_to, until])
                connection.execute("UPDATE summed SET up_to = ? WHERE source = ?", [until, table])
                added += until - up_to
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return added


@contextmanager
def moving_to_outcomes(connection: sqlite3.Connection) -> Iterator[None]:
    """Move what sums have of rows whose requests' summaries are inserted meanwhile to the outcomes of these.

    Rows that wait are added with their outcome later on.
    """
    [last] = connection.execute("SELECT coalesce(max(rowid), 0) FROM requests").fetchone()
    yield
    for statement in _MOVE:
        connection.execute(statement, [last])


def show_all(connection: sqlite3.Connection) -> None:
    """From now on each table of sums shows this connection, which is in a transaction, the rows that wait as well, each
    like a sum of one row. Where none waits the tables are read as they are, which is faster.
    """
    if waiting(connection):
        for view in _VIEWS:
            connection.execute(view)


def _marks(connection: sqlite3.Connection) -> list[tuple[str, int, int]]:
    """(table, the last row that is in the sums, the last row) of each; summaries first."""
    found = []
    for table in ("requests", "ledger_rows"):
        [up_to] = connection.execute("SELECT up_to FROM summed WHERE source = ?", [table]).fetchone()
        [last] = connection.execute(f"SELECT coalesce(max({_NUMBER[table]}), 0) FROM {table}").fetchone()
        found.append((table, up_to, last))
    return found


def _mark(table: str) -> str:
    """SQL: the last row that is in the sums."""
    return f"(SELECT up_to FROM summed WHERE source = '{table}')"


def _adding(rollup: Rollup, rows: str) -> str:
    """SQL: add what `Rollup.of_rows` gives to the sums."""
    columns = ", ".join(rollup.columns)
    key = ", ".join(("at_us", *rollup.dimensions))
    return (
        f"INSERT INTO {rollup.table} AS known ({columns}) {rollup.by_span(rows)} "
        f"ON CONFLICT ({key}) DO UPDATE SET {rollup.added}"
    )


def _of(table: str) -> tuple[str, ...]:
    """SQL: add the rows of a table between two marks to all sums of it; those that share a table, at once."""
    number = _NUMBER[table]
    new = f"(SELECT * FROM {table} WHERE {number} > ?1 AND {number} <= ?2)"
    groups: dict[str, list[Rollup]] = {}
    for rollup in ROLLUPS:
        if rollup.source == table:
            groups.setdefault(rollup.table, []).append(rollup)
    return tuple(
        _adding(each[0], " UNION ALL ".join(rollup.of_rows(new) for rollup in each)) for each in groups.values()
    )


def _view(name: str) -> str:
    """SQL: a view of this connection alone that hides a table of sums behind its name."""
    mine = [rollup for rollup in ROLLUPS if rollup.table == name]
    columns = ", ".join(mine[0].columns)
    parts = [f"SELECT {columns} FROM main.{name}"]
    for rollup in mine:
        number = _NUMBER[rollup.source]
        rows = f"(SELECT * FROM main.{rollup.source} WHERE {number} > {_mark(rollup.source)})"
        span = f"at_us / {rollup.span_us} * {rollup.span_us}"
        others = ", ".join(rollup.columns[1:])
        parts.append(f"SELECT {span}, {others} FROM ({rollup.of_rows(rows)})")
    return f"CREATE TEMP VIEW {name} ({columns}) AS {' UNION ALL '.join(parts)}"


_ADD: Final = {table: _of(table) for table in _NUMBER}
_MOVE: Final = tuple(
    _adding(
        rollup,
        outcome_known(rollup, "(SELECT * FROM requests WHERE rowid > ?1)", f"seq <= {_mark('ledger_rows')}"),
    )
    for rollup in ROWS
)
_VIEWS: Final = tuple(_view(name) for name in {rollup.table: None for rollup in ROLLUPS})
