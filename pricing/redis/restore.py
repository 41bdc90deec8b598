"""Gives budgets back what a Redis that lost data has forgotten, out of the ledger's rows.

Rows say who spent what; the first instant of a request says in which 15 minutes. That is its summary's, else when its
first attempt was dispatched, which may be a bucket late; an attempt that expired without a summary is late by its
lease. Only differences are added, so that replicas may go on spending meanwhile, and a second run finds none. What
agrees in sum is left as it is, and so is a scope that has spent more than its rows say: nothing is taken from a budget.
Holds, rates and warnings are left alone.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

from pricing.errors import StoreUnavailable
from pricing.ledger.checks import HOUSE
from pricing.ledger.gather import Gathered, gathering
from pricing.ledger.installation import known_id, newest_id, remember_id
from pricing.ledger.place import PostgresUrl
from pricing.ledger.reader import Reader
from pricing.ledger.rows import RowKind
from pricing.redis.changes import Change
from pricing.redis.client import RedisClient
from pricing.redis.connection import Word
from pricing.redis.installation import installation_in
from pricing.redis.keys import prefix_of
from pricing.redis.scripts import script
from pricing.redis.snapshot import Snapshot, take_snapshot, waiting
from pricing.redis.stream import LedgerStream, StreamEntry
from pricing.redis.verify import decoded, house_sums, metered_sums, paid_sums, pending_charges

LEASE_S: Final = 30.0  # how long one who died keeps others from restoring; renewed all the while
BUCKET_US: Final = 900_000_000
KEPT_US: Final = 33 * 86_400 * 1_000_000  # as windows.lua keeps it
_PAGE: Final = 500
Buckets = dict[str, Counter[int]]


async def restore_budgets(
    client: RedisClient, namespace: str, url: PostgresUrl, *, write: bool, now_us: int | None = None
) -> list[Change]:
    """Returns what changes, or would. `now_us` is for clocks of one's own. Raises StoreUnavailable, also where another
    restores, where Redis is emptied meanwhile, or where it has the budgets of another ledger.
    """
    ours = await asyncio.to_thread(known_id, url, namespace)
    theirs = await installation_in(client, prefix_of(namespace))
    if ours is not None and theirs is not None and ours != theirs:
        raise StoreUnavailable(f"{url} and namespace {namespace} in Redis are not of one installation; check both")
    if not write:
        return await _changes(client, namespace, url, now_us)
    async with _restoring(client, namespace) as restoring:
        newest = await asyncio.to_thread(newest_id, url)
        await client.evalsha(script("restart"), [prefix_of(namespace)], newest)
        changes = await _changes(client, namespace, url, now_us)
        for change in changes:
            await restoring.write(change, now_us)
        id_ = await asyncio.to_thread(remember_id, url, namespace, ours or theirs or secrets.token_hex(16))
        await restoring.done(id_)
        return changes


class Restoring:
    """The right to restore, for as long as its lease is ours. Every step looks, in one script with what it writes, so
    that nothing is added twice, and what an emptied server has lost once more is not taken for restored.
    """

    def __init__(self, client: RedisClient, namespace: str) -> None:
        self._client = client
        self._keys = (prefix_of(namespace),)
        self._token = secrets.token_hex(8)
        self._lease_ms = round(LEASE_S * 1000)

    async def begin(self) -> None:
        """Raises StoreUnavailable where somebody else restores."""
        key = self._keys[0] + b"restoring"
        if await self._client.command("SET", key, self._token, "NX", "PX", self._lease_ms) is None:
            left_ms = max(0, await self._client.command("PTTL", key))
            raise StoreUnavailable(
                "somebody restores budgets just now; try again when they have done, or if they died "
                f"in {left_ms / 1000:.0f} s"
            )

    async def write(self, change: Change, now_us: int | None) -> None:
        """Its buckets in pages; a crash in between leaves less to do for the next run."""
        flat = [number for pair in sorted(change.buckets.items()) for number in pair]
        for begin in range(0, max(1, len(flat)), 2 * _PAGE):
            words: list[Word] = ["" if now_us is None else now_us, self._token, self._lease_ms]
            words += [change.scope, change.sums, change.field, change.nusd, *flat[begin : begin + 2 * _PAGE]]
            await self._step("restore", words)

    async def done(self, id_: str) -> None:
        """Redis has what its ledger says."""
        await self._step("restored", [self._token, self._lease_ms, id_])

    async def renew(self) -> None:
        """From time to time, until cancelled. Who has lost the lease hears of it with the next step."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with suppress(StoreUnavailable):
                await self._step("restored", [self._token, self._lease_ms, ""])

    async def end(self) -> None:
        """Let others restore, where the server can be reached."""
        with suppress(StoreUnavailable):
            await self._step("restored", [self._token, 0, ""])

    async def _step(self, name: str, words: list[Word]) -> None:
        if not await self._client.evalsha(script(name), self._keys, words):
            raise StoreUnavailable(
                "Redis was emptied, or could not be reached for too long, while its budgets were restored; run "
                "`sluice ledger restore-budgets --write` again"
            )


@asynccontextmanager
async def _restoring(client: RedisClient, namespace: str) -> AsyncIterator[Restoring]:
    restoring = Restoring(client, namespace)
    await restoring.begin()
    renewing = asyncio.create_task(restoring.renew())
    try:
        yield restoring
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await restoring.end()


async def _changes(client: RedisClient, namespace: str, url: PostgresUrl, now_us: int | None) -> list[Change]:
    """Rows that were set aside count where they can be read: their money is spent."""
    newest = await asyncio.to_thread(newest_id, url)  # read first: what Redis has no id for any more, it has lost
    snapshot = await take_snapshot(client, namespace, with_buckets=True)
    snapshot = replace(snapshot, last_id=max(snapshot.last_id, newest))
    if now_us is None:
        seconds, us = await client.command("TIME")
        now_us = max(snapshot.clock_us, int(seconds) * 1_000_000 + int(us))
    stream = LedgerStream(client, namespace)
    with gathering(url, snapshot.last_id) as ledger:
        async for page in waiting(stream, snapshot.last_id_text):
            await asyncio.to_thread(ledger.add, decoded(page)[0])
        async for page in waiting(stream, snapshot.last_id_text, poison=True):
            known = [entry for entry in page if _came_as(entry) <= snapshot.last_id]
            await asyncio.to_thread(ledger.add, decoded(known)[0])
        return await asyncio.to_thread(_differences, ledger, snapshot, now_us)


def _came_as(entry: StreamEntry) -> tuple[int, int]:
    """The id under which an entry came that was set aside."""
    ms, _, n = entry.fields[b"from"].partition(b"-")
    return int(ms), int(n)


def _differences(ledger: Gathered, snapshot: Snapshot, now_us: int) -> list[Change]:
    ledger.freeze()
    return [*_spends(ledger, snapshot, now_us), *_totals(ledger, snapshot), *_meters(ledger, snapshot)]


def _spends(ledger: Reader, snapshot: Snapshot, now_us: int) -> Iterator[Change]:
    first = (now_us - KEPT_US) // BUCKET_US
    wanted = _spent_by_rows(ledger, first)
    for scope in sorted(wanted.keys() | snapshot.buckets.keys()):
        want = wanted.get(scope, Counter())
        have = {bucket: nusd for bucket, nusd in snapshot.buckets.get(scope, {}).items() if bucket >= first}
        if sum(want.values()) > sum(have.values()):
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
        if (missing := paid.get(tenant, 0) - snapshot.spent.get(tenant, 0)) > 0:
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
