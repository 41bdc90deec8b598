"""The ledger that replicas share, in tests: a stream in a real Redis, drained into a real PostgreSQL."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from pricing.clock import ManualClock
from pricing.ledger.checks import sums_match_rows
from pricing.ledger.entries import Entry, rows_entry
from pricing.ledger.insert import Delivered, insert
from pricing.ledger.insert_file import insert_ledger
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.postgres import connect, connect_async
from pricing.ledger.read import reading
from pricing.ledger.rollups import ROLLUPS
from pricing.ledger.rows import LedgerRow, RequestRow
from pricing.ledger.sums_file import teach
from pricing.ledger.upgrade import ensure_current
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.drainer import Drainer
from pricing.redis.keys import prefix_of
from pricing.redis.stream import LedgerStream, StreamEntry

TABLES: Final = ("ledger_rows", "requests", *dict.fromkeys(rollup.table for rollup in ROLLUPS))


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


def sum_problems(place: LedgerPlace) -> list[str]:
    """Hours whose sums are not those of the rows."""
    with reading(place) as ledger:
        return list(sums_match_rows(ledger))


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
        teach(connection)
        insert_ledger(connection, list(rows), list(requests))


def empty_database(url: PostgresUrl) -> None:
    """Take every row out of a database."""
    with psycopg.connect(url.dsn) as connection:
        connection.execute(f"TRUNCATE {', '.join(TABLES)}".encode())


def empty_file(path: Path) -> None:
    """Take every row out of a file."""
    with sqlite3.connect(path) as connection:
        for table in TABLES:
            connection.execute(f"DELETE FROM {table}")
        connection.execute("UPDATE summed SET up_to = 0")
