"""Which budgets in Redis belong to a PostgreSQL ledger: an id that both have, by which an emptied Redis is known."""

from __future__ import annotations

from pricing.ledger.place import PostgresUrl
from pricing.ledger.postgres import connect, in_our_words, version_in
from pricing.ledger.reader import check_version


def known_id(url: PostgresUrl, namespace: str) -> str | None:
    """None where the ledger knows of no budgets yet. Raises StoreUnavailable."""
    with connect(url) as connection, in_our_words(url):
        [found] = connection.execute("SELECT to_regclass('installations') IS NOT NULL").fetchone() or [False]
        query = "SELECT id FROM installations WHERE namespace = %s"
        row = connection.execute(query, [namespace]).fetchone() if found else None
    return None if row is None else str(row[0])


def remember_id(url: PostgresUrl, namespace: str, id_: str) -> str:
    """Write it unless there is one; returns the one that is there. Raises StoreUnavailable."""
    with connect(url) as connection, in_our_words(url):
        write = "INSERT INTO installations (namespace, id) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        connection.execute(write, [namespace, id_])
        [found] = connection.execute("SELECT id FROM installations WHERE namespace = %s", [namespace]).fetchone() or [
            id_
        ]
    return str(found)


def newest_id(url: PostgresUrl) -> tuple[int, int]:
    """The stream id of the newest row that the database has; (0, 0) where it has none.

    Raises StoreUnavailable, also for tables of another version.
    """
    with connect(url) as connection, in_our_words(url):
        check_version(url, version_in(connection))
        query = "SELECT stream_ms, stream_n FROM {} WHERE stream_ms IS NOT NULL ORDER BY 1 DESC, 2 DESC LIMIT 1"
        found = [connection.execute(query.format(each).encode()).fetchone() for each in ("ledger_rows", "requests")]
    return max([(0, 0), *((row[0], row[1]) for row in found if row is not None)])
