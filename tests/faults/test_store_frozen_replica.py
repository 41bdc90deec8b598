"""A replica that stands still for longer than its leases, and goes on: nothing is paid twice, or for a refusal."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pricing.ledger.place import PostgresUrl
from pricing.ledger.read import find_request, recent_rows
from pricing.ledger.rows import LedgerRow
from support.real_redis import RedisServer, running_redis
from support.replicas import Replicas, policy, replicas

TICK_S = 1.0
LONG = {"tokens": 400, "stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def shared(tmp_path: Path, redis: RedisServer, postgres_url: str) -> AsyncIterator[Replicas]:
    """Two replicas, with leases of a few seconds."""
    files = policy()
    files["defaults"]["hold_tick_s"] = TICK_S
    async with replicas(tmp_path, redis.url, postgres_url, files) as made:
        await asyncio.gather(made.start("a"), made.start("b"))
        assert {(await made.chat(name)).status for name in "ab"} == {200}
        await made.drained()
        yield made
        for child in made.running.values():
            await child.stop()


@contextmanager
def frozen(shared: Replicas, name: str) -> Iterator[None]:
    shared.freeze(name)
    try:
        yield
    finally:
        shared.thaw(name)


def holds(redis: RedisServer, *, unheard: bool) -> list[bytes]:
    """Those that are open, and with which a further step was taken, or none."""
    found = redis.command("KEYS", "{sluice}:hold:*")
    return [hold for hold in found if bool(redis.command("HGET", hold, "unheard")) == unheard]


async def open_holds(shared: Replicas, redis: RedisServer, count: int, *, unheard: bool) -> list[str]:
    """Wait until there are so many; the ids of their requests."""

    async def there() -> bool:
        return len(await asyncio.to_thread(lambda: holds(redis, unheard=unheard))) == count

    await shared.until(there)
    return [hold.decode().split(":")[2] for hold in holds(redis, unheard=unheard)]


def rows(shared: Replicas) -> dict[str, list[LedgerRow]]:
    """What each request's rows say that acme pays."""
    found = defaultdict(list)
    for row in recent_rows(PostgresUrl(shared.environ["SLUICE_LEDGER"]), 10_000):
        if row.request_id is not None and row.account == "acme":
            found[row.request_id].append(row)
    return found


async def test_attempts_of_a_replica_that_stood_still_are_paid_once(shared: Replicas, redis: RedisServer) -> None:
    """Its neighbour ends its holds: one that has ticked is charged as an estimate, which stands; one that has not is
    released, and charged by the replica itself when that goes on.
    """
    heard = asyncio.create_task(shared.chat("a", **LONG))
    [heard_id] = await open_holds(shared, redis, 1, unheard=False)
    unheard = asyncio.create_task(shared.chat("a", **LONG))
    [unheard_id] = await open_holds(shared, redis, 1, unheard=True)
    with frozen(shared, "a"):
        await open_holds(shared, redis, 0, unheard=False)
        await open_holds(shared, redis, 0, unheard=True)
        assert (await shared.chat("b")).status == 200
    _, reply = await asyncio.gather(heard, unheard)
    await shared.drained()
    found = rows(shared)
    [expired] = [row for row in found[heard_id] if row.amount_nusd]
    [paid] = found[unheard_id]
    usage = json.loads(reply.body.split(b"data: ")[-2])["usage"]
    assert (expired.outcome, expired.estimated) == ("expired", True)
    assert paid.amount_nusd == round(usage["cost"] * 1e9) > 0
    for request_id in (heard_id, unheard_id):
        assert find_request(PostgresUrl(shared.environ["SLUICE_LEDGER"]), request_id) is not None
    assert (await shared.chat("a")).status == 200


async def test_a_hold_that_was_granted_to_a_standstill_is_paid_as_the_answer_says(
    shared: Replicas, redis: RedisServer
) -> None:
    """Its lease was over before the replica heard of it; the request begins all the same, and is budgeted again."""
    redis.freeze()
    asked = asyncio.create_task(shared.chat("a"))
    await asyncio.sleep(0.3)
    with frozen(shared, "a"):
        redis.thaw()
        [request_id] = await open_holds(shared, redis, 1, unheard=True)
        await open_holds(shared, redis, 0, unheard=True)
        assert rows(shared)[request_id] == []
    reply = await asked
    await shared.drained()
    assert [row.amount_nusd for row in rows(shared)[request_id]] == [reply.cost_nusd]


async def test_who_was_refused_pays_nothing_though_a_hold_was_opened_later(
    shared: Replicas, redis: RedisServer
) -> None:
    """Redis takes the step when nobody waits for it any more, and its replica stands still: another ends the hold."""
    await shared.running["b"].stop()
    redis.freeze()
    refused = await shared.chat("a")
    with frozen(shared, "a"):
        redis.thaw()
        [request_id] = await open_holds(shared, redis, 1, unheard=True)
        await shared.start("b")
        await open_holds(shared, redis, 0, unheard=True)
    await shared.drained()
    assert (refused.status, refused.json["error"]["code"]) == (503, "store_unavailable")
    assert rows(shared)[request_id] == []
    await shared.until(lambda: shared.is_up("a"))
    assert (await shared.chat("a")).status == 200
