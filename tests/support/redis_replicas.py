"""Replicas of one installation on a real Redis, each a store with the warnings that it sent."""

from pricing.budgets.account import CapWarning
from pricing.budgets.caps import CapTable
from pricing.clock import ManualClock
from pricing.redis.store import RedisStore
from support.money import cap, caps
from support.real_redis import RedisServer
from support.stores import RedisBackend
from support.unsteady_client import Cut

TABLE = caps(cap(100), cap(150, scope="pool:l4"), cap(1_000, window="1mo", name="month"))


class Replicas:
    """Replicas of one installation, each with the warnings that it sent."""

    def __init__(self, server: RedisServer) -> None:
        self.backend = RedisBackend(server)
        self.clock = ManualClock()
        self.stores: list[RedisStore] = []
        self.warnings: list[CapWarning] = []

    async def start(self, name: str, table: CapTable = TABLE, **options: object) -> RedisStore:
        self.backend.replica = name
        store = await self.backend.start(self.clock, table, self.warnings.append, **options)
        self.stores.append(store)
        return store

    async def stop(self) -> None:
        for store in self.stores:
            await self.backend.stop(store)

    def cut(self, store: RedisStore, cut: Cut) -> None:
        self.backend.client(store).cut = cut

    def keys(self, pattern: str) -> list[bytes]:
        found: list[bytes] = self.backend.server.command("KEYS", self.backend.key(pattern))
        return found

    async def spent(self, store: RedisStore) -> list[tuple[int, int]]:
        return [(each.spent_nusd, each.held_nusd) for each in await store.statuses()]
