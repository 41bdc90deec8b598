"""What budgets and meters in Redis say at one stream id, and the ledger's rows up to it that are still on their way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pricing.redis.client import RedisClient
from pricing.redis.connection import Word
from pricing.redis.keys import prefix_of
from pricing.redis.scripts import script
from pricing.redis.stream import LedgerStream, StreamEntry

PAGE: Final = 500  # entries or keys at once
_TENANT: Final = "tenant:"


@dataclass(frozen=True, slots=True)
class OpenHoldSeen:
    """A hold that is open. `charge_nusd` is what its meter has charged already; `deadline_us` None: it has no lease."""

    hold_id: str
    amount_nusd: int
    deadline_us: int | None
    pool: str
    charge_nusd: int
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeterSeen:
    """A pool's meter since it began: nano-dollars charged to attempts, of these without a row that says so, and what it
    has written as rows of the house.
    """

    charged_nusd: int
    unrecorded_nusd: int
    boot_nusd: int
    idle_nusd: int
    adjustment_nusd: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One instant. `last_id` is that of the newest entry that the stream ever had; `clock_us` the latest time that any
    step saw; `spent` is by tenant, `held` and `in_flight` by scope, `meters` by pool; `buckets` are what scopes
    spent in each 15 minutes, where that was asked for. `installation` is the id that Redis has, None where none.
    """

    last_id: tuple[int, int]
    clock_us: int
    spent: dict[str, int]
    holds: tuple[OpenHoldSeen, ...]
    held: dict[str, int]
    meters: dict[str, MeterSeen]
    in_flight: dict[str, int]
    buckets: dict[str, dict[int, int]]
    installation: str | None

    @property
    def last_id_text(self) -> str:
        return "{}-{}".format(*self.last_id)


async def take_snapshot(client: RedisClient, namespace: str, *, with_buckets: bool = False) -> Snapshot:
    """Everything in one script. Raises StoreUnavailable, RedisReplyError."""
    prefix = prefix_of(namespace)
    await client.command("EXISTS", prefix + b"layout")  # on a cluster, leads to the node that SCAN is to look at
    scopes = [key async for key in _keys(client, prefix + b"held:")]
    ids = [key async for key in _keys(client, prefix + b"hold:")]
    spends = sorted({key async for key in _keys(client, prefix + b"spent:")}) if with_buckets else []
    words: list[Word] = [len(scopes), *scopes, len(spends), *spends, *ids]
    last_id, clock_us, spent, holds, held, meters, in_flight, buckets, installation = await client.evalsha(
        script("snapshot"), [prefix], words
    )
    ms, _, number = last_id.partition(b"-")
    return Snapshot(
        last_id=(int(ms), int(number)),
        clock_us=int(clock_us),
        spent={name.removeprefix(_TENANT): nusd for name, nusd in _numbers(spent) if name.startswith(_TENANT)},
        holds=tuple(_hold(*words) for words in holds),
        held=dict(_numbers(held)),
        meters={pool.decode(): _meter(*map(int, sums)) for pool, *sums in meters},
        in_flight=dict(_numbers(in_flight)),
        buckets={
            scope.decode(): {int(bucket): nusd for bucket, nusd in _numbers(flat)}
            for scope, flat in zip(spends, buckets, strict=True)
        },
        installation=installation.decode() or None,
    )


async def waiting(stream: LedgerStream, last_id: str, *, poison: bool = False) -> AsyncIterator[list[StreamEntry]]:
    """Entries up to an id that are still in the stream, page by page; or all that were set aside."""
    start, end = "-", "+" if poison else last_id
    while page := await stream.range(start, end, PAGE, poison=poison):
        yield page
        start = f"({page[-1].id.decode()}"


async def _keys(client: RedisClient, prefix: bytes) -> AsyncIterator[bytes]:
    """What follows a prefix in the names of keys; some may come twice."""
    pattern = b"".join(b"\\" + bytes([byte]) if byte in b"*?[]^\\" else bytes([byte]) for byte in prefix)
    cursor: bytes = b"0"
    while True:
        cursor, found = await client.command("SCAN", cursor, "MATCH", pattern + b"*", "COUNT", PAGE)
        for key in found:
            yield key.removeprefix(prefix)
        if cursor == b"0":
            return


def _numbers(flat: Sequence[bytes]) -> Iterator[tuple[str, int]]:
    return ((name.decode(), int(number)) for name, number in zip(flat[::2], flat[1::2], strict=True))


def _hold(
    id_: bytes, amount: bytes, deadline: bytes, pool: bytes, charge: bytes, scopes: Sequence[bytes]
) -> OpenHoldSeen:
    return OpenHoldSeen(
        hold_id=id_.decode(),
        amount_nusd=int(amount),
        deadline_us=int(float(deadline)) if deadline else None,
        pool=pool.decode(),
        charge_nusd=int(charge or 0),
        scopes=tuple(scope.decode() for scope in scopes),
    )


def _meter(charged: int, before: int, unrecorded: int, boot: int, idle: int, adjustment: int) -> MeterSeen:
    return MeterSeen(charged + before, unrecorded, boot, idle, adjustment)
