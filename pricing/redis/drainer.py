"""Drains the ledger's stream into PostgreSQL: every replica runs one, all together see to it that no row is lost.

Delivery is at least once and rows are inserted once (`pricing.ledger.insert`); only what is committed is acknowledged
and deleted. An entry that cannot be decoded, or that the database refuses for what it says, is set aside with the
reason and stops nobody. Where PostgreSQL or Redis cannot be reached the drainer waits and tries again; meanwhile the
stream grows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from pricing.clock import US_PER_S, Clock
from pricing.errors import StoreUnavailable
from pricing.ledger.entries import BadEntry, decode
from pricing.ledger.insert import Delivered, Inserted, insert
from pricing.ledger.place import PostgresUrl
from pricing.ledger.postgres import connect_async, is_of_one_row, reason
from pricing.ledger.rows import LedgerRow
from pricing.redis.client import RedisClient
from pricing.redis.replies import RedisReplyError
from pricing.redis.stream import LedgerStream, StreamEntry

BATCH: Final = 128  # entries: their JSON keeps the event loop busy for about a millisecond
CLAIM_AFTER_S: Final = 60.0
IDLE_S: Final = 0.25
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 10.0
WRITE_WITHIN_S: Final = 30.0


@dataclass(slots=True)
class Drained:
    """What a drainer has done since it began. `duplicates` are rows that were in the ledger already."""

    entries: int = 0
    rows: int = 0
    duplicates: int = 0
    poison: int = 0


def _ignore(_: object) -> None:
    """Nobody asked to be told."""


class Drainer:
    """One consumer of the stream. Give it a client of its own, since its replies are large.

    `consumer` is unique among those alive. `on_problem` is told why nothing can be drained, and None when it can again.
    `on_rows` is told what this one has written, but for batches of which something was in the ledger already.
    """

    def __init__(
        self,
        client: RedisClient,
        url: PostgresUrl,
        clock: Clock,
        *,
        consumer: str,
        namespace: str = "sluice",
        batch: int = BATCH,
        claim_after_s: float = CLAIM_AFTER_S,
        on_problem: Callable[[str | None], None] = _ignore,
    ) -> None:
        self._stream = LedgerStream(client, namespace)
        self._url = url
        self._clock = clock
        self._consumer = consumer
        self._batch = batch
        self._claim_after_s = claim_after_s
        self._on_problem = on_problem
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._joined = False
        self._in_hand: Sequence[StreamEntry] = ()  # a batch that is not written, or not acknowledged
        self._unheard = True  # there may be entries that we were given and never heard of
        self._claim_us = clock.mono_us()  # when to look for entries of the dead
        self.on_rows: Callable[[Sequence[LedgerRow]], None] = _ignore
        self.drained = Drained()
        self.problem: str | None = None

    async def run(self) -> None:
        """Drain until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                done = await self.step()
            except (StoreUnavailable, RedisReplyError) as problem:
                self._say(str(problem))
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                self._say(None)
                pause_s = FIRST_PAUSE_S
                if not done:
                    await self._clock.sleep(IDLE_S)

    async def step(self) -> int:
        """Drain one batch; returns how many entries left the stream. Raises StoreUnavailable and RedisReplyError, after
        which the next step goes on with the same batch.

        It is not read again from Redis meanwhile: that would renew our claim, and a replica that cannot write would
        keep entries from those that can.
        """
        if not self._in_hand:
            try:
                self._in_hand = await self._next()
            except (StoreUnavailable, RedisReplyError) as error:
                self._unheard = True
                if isinstance(error, RedisReplyError) and error.code == "NOGROUP":
                    self._joined = False  # Redis has lost its data
                raise
        done = len(self._in_hand)
        await self._drain(self._in_hand)
        self._in_hand = ()
        return done

    async def aclose(self) -> None:
        """Close the connection to PostgreSQL; the client is the caller's."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _next(self) -> Sequence[StreamEntry]:
        """What we were given before and did not hear of, then what the dead have left, then what is new."""
        if not self._joined:
            await self._stream.join()
            self._joined = True
        if self._unheard:
            if entries := await self._stream.read(self._consumer, self._batch, again=True):
                return entries
            self._unheard = False
        if self._clock.mono_us() >= self._claim_us:
            if entries := await self._stream.claim(self._consumer, self._claim_after_s, self._batch):
                return entries
            self._claim_us = self._clock.mono_us() + round(self._claim_after_s / 2 * US_PER_S)
        return await self._stream.read(self._consumer, self._batch)

    async def _drain(self, entries: Sequence[StreamEntry]) -> None:
        good: list[tuple[StreamEntry, Delivered]] = []
        bad: list[tuple[StreamEntry, str]] = []
        for entry in entries:
            try:
                good.append((entry, Delivered(*entry.place, decode(entry.fields))))
            except BadEntry as problem:
                bad.append((entry, str(problem)))
        bad += await self._insert(good)
        refused = {entry.id for entry, _ in bad}
        written = [entry for entry, _ in good if entry.id not in refused]
        if written:
            await self._stream.acknowledge(written)
        for entry, why in bad:
            await self._stream.set_aside(entry, why)
        self.drained.entries += len(written)
        self.drained.poison += len(bad)

    async def _insert(self, batch: Sequence[tuple[StreamEntry, Delivered]]) -> list[tuple[StreamEntry, str]]:
        """Write a batch; returns the entries that the database refuses. Where it refuses one, halves are tried."""
        if not batch:
            return []
        try:
            self._count(batch, await self._write([delivered for _, delivered in batch]))
        except psycopg.Error as error:
            if not is_of_one_row(error):
                await self.aclose()
                raise StoreUnavailable(f"ledger {self._url}: {reason(error)}") from error
            if len(batch) == 1:
                return [(batch[0][0], reason(error))]
            half = len(batch) // 2
            return await self._insert(batch[:half]) + await self._insert(batch[half:])
        return []

    async def _write(self, batch: Sequence[Delivered]) -> Inserted:
        if self._connection is None:
            self._connection = await connect_async(self._url)
        try:
            async with asyncio.timeout(WRITE_WITHIN_S):  # of real time, as sockets are
                return await insert(self._connection, batch)
        except TimeoutError:
            await self.aclose()
            raise StoreUnavailable(f"ledger {self._url}: no answer within {WRITE_WITHIN_S:g} s") from None

    def _count(self, batch: Sequence[tuple[StreamEntry, Delivered]], new: Inserted) -> None:
        rows = [row for _, delivered in batch for row in delivered.entry.rows]
        self.drained.rows += new.rows
        self.drained.duplicates += len(rows) - new.rows
        if len(rows) == new.rows:
            self.on_rows(rows)

    def _say(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self._on_problem(problem)
