"""Budget stores of every kind, each with its clock, the warnings it sent and its ledger, behind one face for tests."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from pricing.budgets.account import CapWarning
from pricing.budgets.caps import CapTable, Scope
from pricing.budgets.sqlite import SqliteStore
from pricing.budgets.store import BudgetStore
from pricing.clock import ManualClock
from pricing.ledger.entries import Entry, decode
from pricing.ledger.read import find_request, recent_rows
from pricing.ledger.rows import LedgerRow, RequestRow
from pricing.redis.address import RedisAddress
from pricing.redis.keys import prefix_of
from pricing.redis.store import RedisStore
from support.money import cap, caps
from support.real_redis import RedisServer
from support.unsteady_client import UnsteadyClient

TABLE = caps(cap(100), cap(150, scope="pool:l4"), cap(1_000, window="7d", name="week"))

OnWarn = Callable[[CapWarning], None]


class Backend(Protocol):
    """Where a kind of store keeps things, across restarts of the process that uses it."""

    async def start(self, clock: ManualClock, table: CapTable, on_warn: OnWarn) -> BudgetStore: ...

    async def stop(self, store: BudgetStore) -> None: ...

    def rows(self) -> list[LedgerRow]: ...

    def request(self, request_id: str) -> RequestRow | None: ...


class SqliteBackend:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "ledger.sqlite"

    async def start(self, clock: ManualClock, table: CapTable, on_warn: OnWarn) -> BudgetStore:
        return SqliteStore(self._path, clock, table, on_warn=on_warn)

    async def stop(self, store: BudgetStore) -> None:
        await store.aclose()

    def rows(self) -> list[LedgerRow]:
        return list(recent_rows(self._path, 100_000))

    def request(self, request_id: str) -> RequestRow | None:
        stored = find_request(self._path, request_id)
        return None if stored is None else stored.summary


@dataclass
class RedisBackend:
    """A namespace of its own on a shared server; its ledger is the stream that nobody drains."""

    server: RedisServer
    namespace: str = ""
    replica: str = "r1"
    timeout_s: float = 20.0  # a machine under load is no dead server

    def __post_init__(self) -> None:
        self.namespace = self.namespace or f"t{uuid.uuid4().hex[:12]}"
        self._clients: dict[int, UnsteadyClient] = {}

    async def start(self, clock: ManualClock, table: CapTable, on_warn: OnWarn, **options: Any) -> RedisStore:
        client = UnsteadyClient(RedisAddress.from_url(self.server.url), timeout_s=self.timeout_s)
        await client.connect()
        options = {"replica": self.replica, "namespace": self.namespace, "now": clock.wall_us, **options}
        store = RedisStore(client, clock, table, on_warn=on_warn, **options)
        self._clients[id(store)] = client
        await store.start()
        return store

    async def stop(self, store: BudgetStore) -> None:
        await store.aclose()
        await self.client(store).aclose()

    def client(self, store: BudgetStore) -> UnsteadyClient:
        return self._clients[id(store)]

    def key(self, rest: str) -> bytes:
        return prefix_of(self.namespace) + rest.encode()

    def entries(self) -> list[Entry]:
        found = self.server.command("XRANGE", self.key("rows"), "-", "+")
        return [decode(dict(zip(fields[::2], fields[1::2], strict=True))) for _, fields in found]

    def rows(self) -> list[LedgerRow]:
        """As the ledger will have them: of rows with one id the first."""
        rows: dict[str, LedgerRow] = {}
        for entry in self.entries():
            for row in entry.rows:
                rows.setdefault(row.row_id, row)
        return list(rows.values())

    def request(self, request_id: str) -> RequestRow | None:
        requests = [entry.request for entry in self.entries() if entry.request]
        return next((each for each in requests if each.request_id == request_id), None)


class StoreSetup:
    """A store that is running, and can be stopped and started again."""

    def __init__(self, backend: Backend, table: CapTable) -> None:
        self.backend = backend
        self.clock = ManualClock()
        self.warnings: list[CapWarning] = []
        self.table = table
        self.store: BudgetStore

    async def start(self) -> None:
        self.store = await self.backend.start(self.clock, self.table, self.warnings.append)

    async def stop(self) -> None:
        await self.backend.stop(self.store)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def use(self, table: CapTable) -> None:
        self.table = table
        self.store.replace_caps(table)

    def rows(self) -> dict[str, LedgerRow]:
        return {each.row_id: each for each in self.backend.rows()}

    def request(self, request_id: str) -> RequestRow | None:
        return self.backend.request(request_id)

    async def left(self, *scopes: Scope) -> int | None:
        """What the tightest cap leaves, once the view is up to date."""
        await self.store.refresh(scopes)
        return self.store.room(scopes).left_nusd

    async def spent(self) -> dict[str, int]:
        return {status.cap: status.spent_nusd for status in await self.store.statuses()}


@contextlib.asynccontextmanager
async def running(backend: Backend, table: CapTable) -> AsyncIterator[StoreSetup]:
    made = StoreSetup(backend, table)
    await made.start()
    yield made
    await made.stop()


def sqlite(fixtures: pytest.FixtureRequest) -> Backend:
    folder: Path = fixtures.getfixturevalue("tmp_path")
    return SqliteBackend(folder)


def redis(fixtures: pytest.FixtureRequest) -> Backend:
    return RedisBackend(fixtures.getfixturevalue("redis_server"))


ALL_STORES: dict[str, Callable[[pytest.FixtureRequest], Backend]] = {"sqlite": sqlite, "redis": redis}
