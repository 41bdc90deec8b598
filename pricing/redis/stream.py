"""The stream that carries the ledger from Redis to PostgreSQL, as its consumers see it.

Entries are written by the store's scripts. One consumer group delivers each to one consumer; what a consumer was given
and has not acknowledged stays its own until another takes it over. Nothing trims the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pricing.redis.client import RedisClient
from pricing.redis.keys import prefix_of
from pricing.redis.replies import RedisReplyError
from pricing.redis.scripts import script

GROUP: Final = "ledger"
_FORGET_CONSUMERS_MS: Final = 24 * 3_600_000


class StreamEntry(NamedTuple):
    """An entry as it lies in Redis. `id` is "milliseconds-number"."""

    id: bytes
    fields: Mapping[bytes, bytes]
    bytes: int

    @property
    def place(self) -> tuple[int, int]:
        """The id as numbers, which are in the order of the stream."""
        ms, _, n = self.id.partition(b"-")
        return int(ms), int(n)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for the ledger's database. `oldest_s` is the age of the oldest entry, by Redis's clock; None: none
    waits. `poison` entries were set aside because they cannot be written.
    """

    entries: int
    bytes: int
    oldest_s: float | None
    poison: int


class LedgerStream:
    """Every method raises StoreUnavailable, and RedisReplyError where Redis holds something else than it should."""

    def __init__(self, client: RedisClient, namespace: str = "sluice") -> None:
        self._client = client
        self._prefix = prefix_of(namespace)
        self._rows = self._prefix + b"rows"

    async def join(self) -> None:
        """Create stream and group where they are missing; a new group begins with the oldest entry."""
        try:
            await self._client.command("XGROUP", "CREATE", self._rows, GROUP, "0", "MKSTREAM")
        except RedisReplyError as error:
            if error.code != "BUSYGROUP":
                raise

    async def read(self, consumer: str, count: int, *, again: bool = False) -> list[StreamEntry]:
        """Entries that nobody was given yet; with `again`, those that this consumer has not acknowledged."""
        words = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, "STREAMS", self._rows, "0" if again else ">")
        reply = await self._client.command(*words)
        return await self._present(reply[0][1]) if reply else []

    async def claim(self, consumer: str, idle_s: float, count: int) -> list[StreamEntry]:
        """Take over entries whose consumers have not acknowledged them for `idle_s`, or that no consumer has."""
        if await self._eval("sweep", GROUP, consumer, _FORGET_CONSUMERS_MS, count):
            return await self.read(consumer, count, again=True)
        cursor: bytes | str = "0-0"
        while True:
            words = ("XAUTOCLAIM", self._rows, GROUP, consumer, round(idle_s * 1000), cursor, "COUNT", count)
            cursor, found, *_ = await self._client.command(*words)
            if found or cursor == b"0-0":
                return await self._present(found)

    async def acknowledge(self, entries: Iterable[StreamEntry]) -> None:
        """They are in the database: delete them."""
        await self._eval("ack", GROUP, *(word for entry in entries for word in (entry.id, entry.bytes)))

    async def set_aside(self, entry: StreamEntry, why: str) -> None:
        """It cannot be written: keep it where it stops nobody."""
        await self._eval("set_aside", GROUP, entry.id, entry.bytes, why)

    async def put_back(self, ids: Sequence[bytes]) -> int:
        """Entries that were set aside are tried again; returns how many there were."""
        return int(await self._eval("put_back", *ids)) if ids else 0

    async def backlog(self) -> Backlog:
        entries, size, age_ms, poison = await self._eval("backlog")
        return Backlog(entries, size, None if age_ms < 0 else age_ms / 1000, poison)

    async def range(self, start: str, end: str, count: int, *, poison: bool = False) -> list[StreamEntry]:
        """Entries of the stream, or of those that were set aside, from one id to another, oldest first."""
        key = self._prefix + b"poison" if poison else self._rows
        return [
            _entry(id_, words) for id_, words in await self._client.command("XRANGE", key, start, end, "COUNT", count)
        ]

    async def _present(self, found: Sequence[Sequence[Any]]) -> list[StreamEntry]:
        """Entries that still exist; who was given one that another has deleted since has nothing to do with it."""
        gone = [id_ for id_, words in filter(None, found) if words is None]
        if gone:
            await self._client.command("XACK", self._rows, GROUP, *gone)
        return [_entry(id_, words) for id_, words in filter(None, found) if words is not None]

    async def _eval(self, name: str, *args: str | bytes | int) -> Any:
        return await self._client.evalsha(script(name), [self._prefix], args)


def _entry(id_: bytes, words: Sequence[bytes]) -> StreamEntry:
    """`bytes` is what `append` in ledger.lua has counted."""
    return StreamEntry(id_, dict(zip(words[::2], words[1::2], strict=True)), sum(map(len, words)))
