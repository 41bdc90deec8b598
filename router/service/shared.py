"""What replicas share: budgets and meters in Redis, and the ledger, which goes through Redis into PostgreSQL."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from policies.policy import Durability
from pricing.budgets.account import CapWarning
from pricing.budgets.caps import CapTable
from pricing.clock import Clock
from pricing.errors import StoreUnavailable
from pricing.ledger.installation import known_id, remember_id
from pricing.ledger.place import PostgresUrl
from pricing.ledger.upgrade import ensure_current
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.drainer import Drainer
from pricing.redis.durability import durability_warnings
from pricing.redis.feed import SharedFeed
from pricing.redis.installation import installation_in
from pricing.redis.keys import prefix_of
from pricing.redis.meters import SharedMeters
from pricing.redis.name import ReplicaName
from pricing.redis.replies import RedisReplyError
from pricing.redis.sign_ins import SharedSignIns
from pricing.redis.signals import SharedSignals
from pricing.redis.store import RedisStore
from pricing.redis.stream import Backlog, LedgerStream
from router.service.settings import Settings
from router.telemetry.log import LOGGER

DRAIN_TIMEOUT_S: Final = 5.0  # for replies of megabytes, which no request waits for
SKEW_S: Final = 5.0
SKEWED: Final = (
    f"Redis's time and this replica's clock are more than {SKEW_S:g} s apart (`clock_skew_s` in /health), and budgets "
    "count by Redis's; set both by NTP"
)
LAST_ROWS_S: Final = 5.0  # how long a stop goes on writing rows
UPGRADE_AGAIN_S: Final = 2.0  # between two tries to reach a ledger that is not there yet


class Shared:
    """One replica's part in what replicas share. Nothing here needs a server to be there when it is made."""

    def __init__(self, settings: Settings, clock: Clock, caps: CapTable, on_warn: Callable[[CapWarning], None]) -> None:
        """For settings with Redis and PostgreSQL. Touches neither."""
        assert isinstance(settings.redis, RedisAddress)
        assert isinstance(settings.ledger, PostgresUrl)
        now = None if clock.speedup == 1 else clock.wall_us  # a clock of our own must be everyone's
        self._clock = clock
        self._ledger = settings.ledger
        self._namespace = settings.namespace
        self._client = RedisClient(settings.redis, f"sluice-{settings.replica}")
        self._drain_client = RedisClient(settings.redis, f"sluice-{settings.replica}-ledger", DRAIN_TIMEOUT_S)
        self._stream = LedgerStream(self._client, settings.namespace)
        self.name = ReplicaName(self._client, settings.namespace, settings.replica)
        self.meters = SharedMeters(self._client, settings.namespace, settings.replica, clock, now=now)
        self.store = RedisStore(
            self._client,
            clock,
            caps,
            replica=settings.replica,
            namespace=settings.namespace,
            on_warn=on_warn,
            on_load=self.meters.heard_load,
            backlog_bytes=settings.backlog_bytes,
            now=now,
        )
        self.signals = SharedSignals(self._client, settings.namespace, settings.replica, clock, now=now)
        self.sign_ins = SharedSignIns(self._client, settings.namespace)
        self.feed = SharedFeed(self._drain_client, settings.namespace, settings.replica)
        self.drainer = Drainer(
            self._drain_client,
            settings.ledger,
            clock,
            consumer=settings.replica,
            namespace=settings.namespace,
            on_problem=self._ledger_said,
        )
        self.durability = Durability.EVERYSEC  # what the policy promises
        self.weaknesses: tuple[str, ...] = ()
        self.ledger_reached = asyncio.Event()  # its tables are there, and of this version
        self.ledger_problem: str | None = "not reached yet"
        self.backlog: Backlog | None = None

    async def begin(self) -> None:
        """Whenever Redis can be reached, or could not be: connect, take this replica's name, look at the keys' layout,
        tell the meters what they do not know (yet, or any more), and look at what Redis would lose.

        Raises StoreUnavailable.
        """
        await self._client.connect()
        await self.name.keep()
        if self.store.installation is None:
            self.store.installation = await self._installation()
        await self.store.start()
        await self.meters.read([])
        await self.look_at_durability()

    async def _installation(self) -> str | None:
        """The id that Redis has, which is held against the ledger's before the first row is written there. A Redis
        without one is new, or has lost its budgets: only the ledger can tell. None where it knows of none.

        Raises StoreUnavailable.
        """
        found = await installation_in(self._client, prefix_of(self._namespace))
        if found is not None:
            return found
        try:
            return await asyncio.to_thread(known_id, self._ledger, self._namespace)
        except StoreUnavailable as problem:
            raise StoreUnavailable(
                f"Redis has no budgets, and whether it has lost them only the ledger can tell: {problem}"
            ) from problem

    async def look_at_durability(self) -> None:
        """Warn of what is weaker than promised, once for each thing. Raises StoreUnavailable."""
        found = tuple(await durability_warnings(self._client, self.durability.value))
        if abs(self.store.skew_s) > SKEW_S:
            found += (SKEWED,)
        for warning in found:
            if warning not in self.weaknesses:
                LOGGER.warning("the budget store keeps less than promised", extra={"fields": {"detail": warning}})
        self.weaknesses = found

    # -- the ledger ------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Create or upgrade the tables, as soon as PostgreSQL can be reached, then move rows there until cancelled."""
        while not (await self._upgraded() and await self._introduced()):
            await self._clock.sleep(UPGRADE_AGAIN_S)
        self.ledger_reached.set()
        with suppress(StoreUnavailable):  # it goes on trying by itself
            await self._drain_client.connect()
        await self.drainer.run()

    async def _upgraded(self) -> bool:
        try:
            await asyncio.to_thread(ensure_current, self._ledger)
        except StoreUnavailable as problem:
            self._ledger_said(str(problem))
            return False
        self._ledger_said(None)
        return True

    async def _introduced(self) -> bool:
        """Whether Redis and the ledger know each other by an id; both are told one, where the ledger has none."""
        key = prefix_of(self._namespace) + b"installation"
        try:
            known = await asyncio.to_thread(known_id, self._ledger, self._namespace)
            if known is None:
                await self._client.command("SET", key, secrets.token_hex(16), "NX")
                given: bytes = await self._client.command("GET", key)
                known = await asyncio.to_thread(remember_id, self._ledger, self._namespace, given.decode())
        except StoreUnavailable as problem:
            self._ledger_said(str(problem))
            return False
        self.store.installation = known
        return True

    async def look_around(self) -> None:
        """How much of the ledger waits, and whether Redis still keeps what is promised; nothing where it cannot be
        reached. Raises StoreUnavailable.
        """
        if not self._client.connected:
            return
        self.backlog = await self._stream.backlog()
        await self.look_at_durability()

    def _ledger_said(self, problem: str | None) -> None:
        if problem == self.ledger_problem:
            return
        self.ledger_problem = problem
        if problem is None:
            LOGGER.info("rows reach the ledger")
        else:
            LOGGER.warning("rows wait for the ledger", extra={"fields": {"detail": problem}})

    async def _drain_rest(self) -> None:
        """What is left for the other replicas, or for the next start, is what takes longer than this."""
        with suppress(StoreUnavailable, RedisReplyError, TimeoutError):
            async with asyncio.timeout(LAST_ROWS_S):
                while await self.drainer.step():
                    pass

    async def aclose(self) -> None:
        """Write what rows can still be written, and close everything but the store, which its owner has closed."""
        if self.ledger_problem is None:
            await self._drain_rest()
        await self.meters.aclose()
        await self.signals.aclose()
        await self.drainer.aclose()
        await self.name.aclose()
        await self._drain_client.aclose()
        await self._client.aclose()
