"""The rows of a PostgreSQL ledger up to one stream id, together with those that are still on their way to it.

A session of its own gets temporary tables for what waits, and temporary views named `ledger_rows` and `requests` that
are both together; queries that name these tables thereby read all rows, each once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from pricing.ledger.checks import sums_match_rows
from pricing.ledger.insert import Delivered, as_json, columns_of, from_json
from pricing.ledger.place import PostgresUrl
from pricing.ledger.postgres import connect, in_our_words, is_of_one_row, reason, version_in
from pricing.ledger.read_database import DatabaseReader
from pricing.ledger.reader import check_version
from pricing.ledger.rows import LedgerRow, RequestRow

_STRUCTS: Final = ((LedgerRow, "ledger_rows", "row_id"), (RequestRow, "requests", "request_id"))


class Gathered(DatabaseReader):
    """`add` what waits, then `freeze`: from then on all statements see one moment."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], last_id: tuple[int, int]) -> None:
        super().__init__(connection)
        self._connection = connection
        [self._schema] = self.execute(
            "SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE pg_class.oid = to_regclass('ledger_rows')"
        ).fetchone()
        for struct, table, key in _STRUCTS:
            self._create(struct, table, key, last_id)
        connection.commit()

    def _create(self, struct: type[LedgerRow | RequestRow], table: str, key: str, last_id: tuple[int, int]) -> None:
        columns = columns_of(struct)
        up_to = "(stream_ms IS NULL OR (stream_ms, stream_n) <= ({}, {}))".format(*last_id)
        real = f"SELECT {columns} FROM {self._schema}.{table} WHERE {up_to}"
        self.execute(f"CREATE TEMP TABLE waiting_{table} AS SELECT {columns} FROM {self._schema}.{table} LIMIT 0")
        self.execute(f"CREATE UNIQUE INDEX ON waiting_{table} ({key})")
        self.execute(
            f"CREATE TEMP VIEW {table} AS {real} UNION ALL SELECT {columns} FROM waiting_{table} w "
            f"WHERE NOT EXISTS (SELECT FROM ({real}) AS known WHERE known.{key} = w.{key})"
        )

    def add(self, entries: Sequence[Delivered]) -> list[tuple[Delivered, str]]:
        """Entries that wait. Returns those that no table takes, with the reason."""
        if not entries:
            return []
        rows = [(each.ms, each.n, row) for each in entries for row in each.entry.rows]
        requests = [(each.ms, each.n, each.entry.request) for each in entries if each.entry.request is not None]
        try:
            with self._connection.transaction():
                self._add(LedgerRow, "ledger_rows", rows)
                self._add(RequestRow, "requests", requests)
        except psycopg.Error as error:
            if not is_of_one_row(error):
                raise
            if len(entries) == 1:
                return [(entries[0], reason(error))]
            half = len(entries) // 2
            return self.add(entries[:half]) + self.add(entries[half:])
        return []

    def _add(
        self,
        struct: type[LedgerRow | RequestRow],
        table: str,
        values: Sequence[tuple[int, int, LedgerRow | RequestRow]],
    ) -> None:
        if values:
            statement = f"INSERT INTO waiting_{table} ({columns_of(struct)}) {from_json(struct)} ON CONFLICT DO NOTHING"
            text = as_json([value for _, _, value in values])
            numbers = ([ms for ms, _, _ in values], [n for _, n, _ in values])
            self._connection.execute(statement.encode(), [text, *numbers])

    def freeze(self) -> None:
        self._connection.commit()
        self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        self._connection.read_only = True

    def waiting(self) -> int:
        """Rows of money that the database had not yet."""
        query = f"""
            SELECT count(*) FROM waiting_ledger_rows w WHERE NOT EXISTS (
                SELECT FROM {self._schema}.ledger_rows known WHERE known.row_id = w.row_id)"""
        [count] = self.execute(query).fetchone()
        return int(count)

    def rollup_problems(self) -> list[str]:
        """Hours whose sums are not those of the database's rows, which are read past the views for once."""
        [usual] = self.execute("SHOW search_path").fetchone()
        self.execute("SELECT set_config('search_path', ?, true)", [f"{self._schema}, pg_temp"])
        try:
            return list(sums_match_rows(self))
        finally:
            self.execute("SELECT set_config('search_path', ?, true)", [usual])


@contextmanager
def gathering(url: PostgresUrl, last_id: tuple[int, int]) -> Iterator[Gathered]:
    """All rows up to a stream id. Raises StoreUnavailable; the user must be allowed to make temporary tables."""
    with connect(url) as connection, in_our_words(url):
        check_version(url, version_in(connection))
        yield Gathered(connection, last_id)
