"""What the verbs about a shared ledger ask of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import typer

from pricing.budgets.caps import CapTable
from pricing.budgets.store import CapStatus
from pricing.clock import SystemClock
from pricing.ledger.entries import BadEntry, decode
from pricing.ledger.place import PostgresUrl
from pricing.redis.address import RedisAddress
from pricing.redis.changes import Change
from pricing.redis.client import RedisClient
from pricing.redis.store import RedisStore
from pricing.redis.stream import Backlog, LedgerStream, StreamEntry
from pricing.redis.views import CapSeen
from pricing.verify.sqlite import Verification

TIMEOUT_S: Final = 30.0  # a verb may ask for more at once than a request does
PAGE: Final = 500
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Poison:
    """An entry that was set aside, without what it says beyond ids."""

    id: str
    at_us: int
    came_as: str
    row_ids: tuple[str, ...]
    why: str


def connected(url: str | None, ask: Callable[[RedisClient], Awaitable[_Answer]]) -> _Answer:
    """Ask Redis over a connection of its own. Raises StoreUnavailable, and BadParameter where no Redis is named."""
    if not url:
        raise typer.BadParameter("replicas share their ledger through Redis; name it with SLUICE_REDIS_URL or --redis")
    try:
        address = RedisAddress.from_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    async def asked() -> _Answer:
        client = RedisClient(address, "sluice-cli", timeout_s=TIMEOUT_S, in_flight_bytes=2**30)
        try:
            await client.connect()
            return await ask(client)
        finally:
            await client.aclose()

    return asyncio.run(asked())


async def verify_stream(client: RedisClient, namespace: str, url: PostgresUrl, caps: CapTable) -> Verification:
    # Loads psycopg, which a ledger in a file does without.
    from pricing.redis.verify import verify_shared

    return await verify_shared(client, namespace, url, caps)


async def restore(client: RedisClient, namespace: str, url: PostgresUrl, write: bool) -> list[Change]:
    # Loads psycopg as well.
    from pricing.redis.restore import restore_budgets

    return await restore_budgets(client, namespace, url, write=write)


async def shared_statuses(client: RedisClient, namespace: str, caps: CapTable) -> list[CapStatus]:
    """Every cap as replicas see it. Reading sends no warning: a replica's own would then be missing."""
    clock = SystemClock()
    silent = replace(caps, caps=tuple(replace(cap, warn_permille=None) for cap in caps.caps))
    store = RedisStore(client, clock, silent, replica="sluice-cli", namespace=namespace)
    await store.start()
    found = []
    for cap, status in zip(caps.caps, await store.statuses(), strict=True):
        seen = CapSeen(cap)
        seen.spent_nusd, seen.held_nusd = status.spent_nusd, status.held_nusd
        found.append(seen.status(clock.wall_us(), caps.timezone))
    return found


async def read_backlog(client: RedisClient, namespace: str) -> Backlog:
    return await LedgerStream(client, namespace).backlog()


async def list_poison(client: RedisClient, namespace: str) -> list[Poison]:
    """Every entry that was set aside, oldest first."""
    return [_poison(entry) for entry in await _set_aside(LedgerStream(client, namespace))]


async def put_back(client: RedisClient, namespace: str, ids: Sequence[str]) -> int:
    """Entries by their ids, or `all`; returns how many were there."""
    stream = LedgerStream(client, namespace)
    chosen = [entry.id for entry in await _set_aside(stream)] if "all" in ids else [id_.encode() for id_ in ids]
    return sum([await stream.put_back(chosen[begin : begin + PAGE]) for begin in range(0, len(chosen), PAGE)])


async def _set_aside(stream: LedgerStream) -> list[StreamEntry]:
    found: list[StreamEntry] = []
    start = "-"
    while page := await stream.range(start, "+", PAGE, poison=True):
        found += page
        start = f"({page[-1].id.decode()}"
    return found


def _poison(entry: StreamEntry) -> Poison:
    came_as, why = (entry.fields.get(name, b"?").decode("utf-8", "replace") for name in (b"from", b"why"))
    try:
        row_ids = tuple(row.row_id for row in decode(entry.fields).rows)
    except BadEntry:
        row_ids = ()
    return Poison(entry.id.decode(), entry.place[0] * 1000, came_as, row_ids, why)
