"""Gives budgets back what a Redis that lost data has forgotten, out of the ledger's rows.

Rows say who spent what; the first instant of a request says in which 15 minutes. That is its summary's, else when its
first attempt was dispatched, which may be a bucket late; an attempt that expired without a summary is late by its
lease. Only differences are added, so that replicas may go on spending meanwhile, and a second run finds none. What
agrees in sum is left as it is. Holds, rates and warnings are left alone.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from pricing.errors import StoreUnavailable
from pricing.ledger.checks import HOUSE
from pricing.ledger.gather import gathering
from pricing.ledger.installation import known_id, newest_id, remember_id
from pricing.ledger.place import PostgresUrl
from pricing.ledger.read import Reader
from pricing.ledger.rows import RowKind
from pricing.redis.changes import Change
from pricing.redis.client import RedisClient
from pricing.redis.connection import Word
from pricing.redis.keys import prefix_of
from pricing.redis.scripts import script
from pricing.redis.snapshot import Snapshot, take_snapshot, waiting
from pricing.redis.stream import LedgerStream
from pricing.redis.verify import decoded, house_sums, metered_sums, paid_sums, pending_charges

LOCK_S: Final = 600
BUCKET_US: Final = 900_000_000
KEPT_US: Final = 33 * 86_400 * 1_000_000  # as windows.lua keeps it
_PAGE: Final = 500
Buckets = dict[str, Counter[int]]


async def restore_budgets(
    client: RedisClient, namespace: str, url: PostgresUrl, *, write: bool, now_us: int | None = None
) -> list[Change]:
    """Returns what changes, or would. `now_us` is for clocks of one's own. Raises StoreUnavailable, also where another
    restores, or where Redis has the budgets of another ledger.
    """
    ours, theirs = known_id(url, namespace), await client.command("GET", prefix_of(namespace) + b"installation")
    if ours is not None and theirs is not None and ours != theirs.decode():
        raise StoreUnavailable(f"{url} and namespace {namespace} in Redis are not of one installation; check both")
    if not write:
        return await _changes(client, namespace, url, now_us)
    async with _alone(client, namespace):
        await client.evalsha(script("restart"), [prefix_of(namespace)], newest_id(url))
        changes = await _changes(client, namespace, url, now_us)
        for change in changes:
            await _write(client, namespace, change, now_us)
        id_ = remember_id(url, namespace, ours or (theirs.decode() if theirs else secrets.token_hex(16)))
        await client.command("SET", prefix_of(namespace) + b"installation", id_)
        return changes


@asynccontextmanager
async def _alone(client: RedisClient, namespace: str) -> AsyncIterator[None]:
    lock = prefix_of(namespace) + b"restoring"
    if await client.command("SET", lock, "1", "NX", "EX", LOCK_S) is None:
        raise StoreUnavailable(f"somebody restores budgets just now; try again, at the latest in {LOCK_S} s")
    try:
        yield
    finally:
        await client.command("DEL", lock)


async def _changes(client: RedisClient, namespace: str, url: PostgresUrl, now_us: int | None) -> list[Change]:
    newest = newest_id(url)  # read first: what Redis has no id for any more, it has lost
    snapshot = await take_snapshot(client, namespace, with_buckets=True)
    snapshot = replace(snapshot, last_id=max(snapshot.last_id, newest))
    if now_us is None:
        seconds, us = await client.command("TIME")
        now_us = max(snapshot.clock_us, int(seconds) * 1_000_000 + int(us))
    with gathering(url, snapshot.last_id) as ledger:
        async for page in waiting(LedgerStream(client, namespace), snapshot.last_id_text):
            ledger.add(decoded(page)[0])
        ledger.freeze()
        return [*_spends(ledger, snapshot, now_us), *_totals(ledger, snapshot), *_meters(ledger, snapshot)]


async def _write(client: RedisClient, namespace: str, change: Change, now_us: int | None) -> None:
    """Its buckets in pages; a crash in between leaves less to do for the next run."""
    flat = [number for pair in sorted(change.buckets.items()) for number in pair]
    for begin in range(0, max(1, len(flat)), 2 * _PAGE):
        words: list[Word] = ["" if now_us is None else now_us, change.scope, change.sums, change.field, change.nusd]
        await client.evalsha(script("restore"), [prefix_of(namespace)], [*words, *flat[begin : begin + 2 * _PAGE]])


def _spends(ledger: Reader, snapshot: Snapshot, now_us: int) -> Iterator[Change]:
    first = (now_us - KEPT_US) // BUCKET_US
    wanted = _spent_by_rows(ledger, first)
    for scope in sorted(wanted.keys() | snapshot.buckets.keys()):
        want = wanted.get(scope, Counter())
        have = {bucket: nusd for bucket, nusd in snapshot.buckets.get(scope, {}).items() if bucket >= first}
        missing = sum(want.values()) - sum(have.values())
        # Rows do not name every scope of a request that has no summary yet: nothing is taken from those.
        if missing > 0 or (missing < 0 and scope.startswith("tenant:")):
            differ = {bucket: want[bucket] - have.get(bucket, 0) for bucket in want.keys() | have.keys()}
            yield Change(scope, {bucket: nusd for bucket, nusd in differ.items() if nusd})


def _spent_by_rows(ledger: Reader, first: int) -> Buckets:
    spent: Buckets = defaultdict(Counter)
    query = f"""
        WITH recent AS (SELECT * FROM ledger_rows WHERE at_us >= ?),
        firsts AS (
            SELECT request_id, min(at_us - duration_us) AS at_us FROM recent
            WHERE request_id IS NOT NULL GROUP BY request_id)
        SELECT l.account, l.key_id, l.request_class, l.tags, l.pool, r.endpoint,
            coalesce(r.at_us, f.at_us, l.at_us) / {BUCKET_US}, sum(l.amount_nusd)
        FROM recent l LEFT JOIN requests r ON r.request_id = l.request_id
        LEFT JOIN firsts f ON f.request_id = l.request_id
        WHERE l.account NOT IN ({HOUSE}) GROUP BY 1, 2, 3, 4, 5, 6, 7"""
    for account, key, class_, tags, pool, endpoint, bucket, nusd in ledger.execute(query, [first * BUCKET_US]):
        named = {("tenant", account), ("key", key), ("class", class_), ("pool", pool), ("endpoint", endpoint)}
        named |= {("endpoint", pool), *(("tag", tag) for tag in json.loads(tags) if not tag.startswith("__"))}
        for kind, name in named:
            if name and nusd and bucket >= first:
                spent[f"{kind}:{name}"][bucket] += nusd
    query = f"""
        SELECT pool, at_us / {BUCKET_US}, sum(amount_nusd) FROM ledger_rows
        WHERE kind IN ('{RowKind.BOOT}', '{RowKind.IDLE}') AND at_us >= ? GROUP BY 1, 2"""
    for pool, bucket, nusd in ledger.execute(query, [first * BUCKET_US]):
        for kind in ("pool", "endpoint"):
            spent[f"{kind}:{pool}"][bucket] += nusd
    return spent


def _totals(ledger: Reader, snapshot: Snapshot) -> Iterator[Change]:
    paid = paid_sums(ledger)
    for tenant in sorted(paid.keys() | snapshot.spent.keys()):
        if missing := paid.get(tenant, 0) - snapshot.spent.get(tenant, 0):
            yield Change("", {}, "totals", f"tenant:{tenant}", missing)


def _meters(ledger: Reader, snapshot: Snapshot) -> Iterator[Change]:
    """What meters charged and wrote, as `sluice ledger verify` compares it."""
    metered, pending, house = metered_sums(ledger), pending_charges(snapshot), house_sums(ledger)
    for pool in sorted(metered.keys() | snapshot.meters.keys() | {pool for pool, _ in house}):
        meter = snapshot.meters.get(pool)
        sums = {"charged": metered.get(pool, 0) - (meter.charged_nusd - meter.unrecorded_nusd if meter else 0)}
        sums["charged"] += pending[pool]
        for kind in (RowKind.BOOT, RowKind.IDLE, RowKind.ADJUSTMENT):
            sums[kind] = house.get((pool, str(kind)), 0) - (getattr(meter, f"{kind}_nusd") if meter else 0)
        for name, missing in sums.items():
            if missing:
                yield Change("", {}, f"meter:{pool}", f"total:{name}", missing)
