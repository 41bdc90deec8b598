"""The ledger that replicas share, in tests: a stream in a real Redis, drained into a real PostgreSQL."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from pricing.clock import ManualClock
from pricing.ledger.codec import REQUEST_COLUMNS, ROW_COLUMNS, request_values, row_values
from pricing.ledger.entries import Entry, rows_entry
from pricing.ledger.insert import Delivered, insert
from pricing.ledger.place import PostgresUrl
from pricing.ledger.postgres import connect, connect_async
from pricing.ledger.rollups import ROLLUPS
from pricing.ledger.rows import LedgerRow, RequestRow
from pricing.ledger.upgrade import ensure_current
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.drainer import Drainer
from pricing.redis.keys import prefix_of
from pricing.redis.stream import LedgerStream, StreamEntry


class SharedLedger:
    """A namespace in Redis and a database in PostgreSQL."""

    def __init__(self, client: RedisClient, url: PostgresUrl, namespace: str) -> None:
        self.client = client
        self.url = url
        self.namespace = namespace
        self.clock = ManualClock()
        self.stream = LedgerStream(client, namespace)
        self._drainers: list[Drainer] = []

    def key(self, name: str) -> bytes:
        return prefix_of(self.namespace) + name.encode()

    async def add(self, *rows: LedgerRow, request: RequestRow | None = None) -> bytes:
        """What the store's scripts do when a hold is settled; returns the entry's id."""
        return await self.add_fields(rows_entry(rows, request))

    async def add_fields(self, words: Sequence[bytes]) -> bytes:
        added: bytes = await self.client.command("XADD", self.key("rows"), "*", *words)
        await self.client.command("INCRBY", self.key("backlog"), sum(map(len, words)))
        return added

    def drainer(self, consumer: str = "a", **options: Any) -> Drainer:
        made = Drainer(
            self.client, self.url, self.clock, consumer=consumer, namespace=self.namespace, **{"batch": 10, **options}
        )
        self._drainers.append(made)
        return made

    async def drain(self, drainer: Drainer | None = None) -> None:
        """Step until nothing is left to do."""
        drainer = drainer or self.drainer(f"drain-{uuid.uuid4().hex[:6]}")
        while await drainer.step():
            pass

    async def poison(self) -> list[StreamEntry]:
        return await self.stream.range("-", "+", 1000, poison=True)

    def rows(self) -> list[tuple[Any, ...]]:
        """(row id, nano-dollars) of every row, in the order of their ids."""
        return self.query("SELECT row_id, amount_nusd FROM ledger_rows ORDER BY row_id")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with connect(self.url) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []

    async def aclose(self) -> None:
        for drainer in self._drainers:
            await drainer.aclose()
        await self.client.aclose()


@asynccontextmanager
async def shared_ledger(redis_url: str, postgres_url: str) -> AsyncIterator[SharedLedger]:
    """An empty one; its tables are there."""
    url = PostgresUrl(postgres_url)
    ensure_current(url)
    client = RedisClient(RedisAddress.from_url(redis_url), timeout_s=10)
    await client.connect()
    ledger = SharedLedger(client, url, f"t-{uuid.uuid4().hex[:12]}")
    try:
        yield ledger
    finally:
        await ledger.aclose()


def rollup_differences(url: PostgresUrl) -> list[tuple[Any, ...]]:
    """What the sums by hour have that the rows have not, and the other way round."""
    found: list[tuple[Any, ...]] = []
    with connect(url) as connection:
        for rollup in ROLLUPS:
            columns = ", ".join(("at_us", *rollup.dimensions, *rollup.sums))
            kept, true = f"SELECT {columns} FROM {rollup.table}", rollup.by_hour(rollup.source)
            query = f"(({kept}) EXCEPT ({true})) UNION ALL (({true}) EXCEPT ({kept}))"
            found += connection.execute(query.encode()).fetchall()
    return found


async def fill(url: PostgresUrl, rows: Iterable[LedgerRow], requests: Iterable[RequestRow] = ()) -> None:
    """Write rows and summaries into a database as a drainer does."""
    entries = [Entry((row,)) for row in rows] + [Entry((), request) for request in requests]
    connection = await connect_async(url)
    try:
        await insert(connection, [Delivered(1, number, entry) for number, entry in enumerate(entries)])
    finally:
        await connection.close()


def fill_file(path: Path, rows: Iterable[LedgerRow], requests: Iterable[RequestRow] = ()) -> None:
    """Write the same into a SQLite ledger, without a store."""
    ensure_current(path)
    with sqlite3.connect(path) as connection:
        for table, columns, values in (
            ("ledger_rows", ROW_COLUMNS, [row_values(row) for row in rows]),
            ("requests", REQUEST_COLUMNS, [request_values(request) for request in requests]),
        ):
            marks = ",".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({','.join(columns)}) VALUES ({marks})", values)


def empty_database(url: PostgresUrl) -> None:
    """Take every row out of a database."""
    tables = ["ledger_rows", "requests", *(rollup.table for rollup in ROLLUPS)]
    with psycopg.connect(url.dsn) as connection:
        connection.execute(f"TRUNCATE {', '.join(tables)}".encode())


def empty_file(path: Path) -> None:
    """Take every row out of a file."""
    with sqlite3.connect(path) as connection:
        for table in ("ledger_rows", "requests"):
            connection.execute(f"DELETE FROM {table}")
