"""Reading a PostgreSQL ledger, and writing what is no money, with the SQL of a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from pricing.errors import StoreUnavailable
from pricing.ledger.place import PostgresUrl
from pricing.ledger.postgres import connect, in_our_words, version_in
from pricing.ledger.reader import Found, Span, Values, check_version

_PARAMETER: Final = re.compile(r"%|\?|:([a-z]\w*)")
_TO_CHAR: Final = {"hour": 'YYYY-MM-DD"T"HH24":00Z"', "day": "YYYY-MM-DD", "month": "YYYY-MM"}


class DatabaseReader:
    """A PostgreSQL ledger. Statements hold `?`, `%` and `:name` as parameters and operators only, never in text."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Values = ()) -> Found:
        return self._connection.execute(_PARAMETER.sub(_translated, statement).encode(), values)

    def utc_text(self, column: str, span: Span) -> str:
        return f"to_char(to_timestamp({column} / 1000000) AT TIME ZONE 'UTC', '{_TO_CHAR[span]}')"

    def in_hours(self, since_us: int, until_us: int) -> str:
        """Its key ends with a digest, so that no way leads to a tenant: it reads them all, by several processes."""
        return f"at_us >= {since_us} AND at_us < {until_us}"


@contextmanager
def reading_database(url: PostgresUrl) -> Iterator[DatabaseReader]:
    """One moment of a database. Raises StoreUnavailable."""
    with connect(url) as connection, in_our_words(url):
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        version = version_in(connection)
        if version is None:
            raise StoreUnavailable(f"no ledger at {url}; `sluice serve` and `sluice ledger upgrade` create it")
        check_version(url, version)
        yield DatabaseReader(connection)


@contextmanager
def writing_database(url: PostgresUrl) -> Iterator[DatabaseReader]:
    """One transaction that may write; what is written to is up to the statements. Raises StoreUnavailable."""
    with connect(url) as connection, in_our_words(url):
        check_version(url, version_in(connection))
        yield DatabaseReader(connection)


def _translated(found: re.Match[str]) -> str:
    if found[0] == "%":
        return "%%"
    return "%s" if found[0] == "?" else f"%({found[1]})s"
