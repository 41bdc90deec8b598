"""Redis Cluster: one connection to the node that owns our slot, through moves and failovers, with real nodes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count

import pytest

from pricing.errors import StoreUnavailable
from pricing.ledger.entries import decode
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.scripts import script_of
from support.money import ACME, cap, caps, paid, wish
from support.real_redis import NO_PROGRAM, RedisCluster, RedisServer, find_redis, running_cluster
from support.stores import RedisBackend, StoreSetup

SLUICE = 0  # the master that owns slot 59, that of `{sluice}:`
COUNT = script_of("count", b"return redis.call('INCR', KEYS[1] .. 'count')")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three masters; the one that begins with the slot of `{sluice}:` has a replica."""
    if find_redis() is None:
        pytest.skip(NO_PROGRAM)
    with running_cluster(tmp_path_factory.mktemp("cluster"), replicas_of=(SLUICE,)) as nodes:
        assert nodes.owner("{sluice}:") is nodes.masters[SLUICE]
        yield nodes


@contextlib.asynccontextmanager
async def connected(node: RedisServer) -> AsyncIterator[RedisClient]:
    client = RedisClient(RedisAddress.from_url(node.url), "tests", timeout_s=10)
    try:
        await client.connect()
        yield client
    finally:
        await client.aclose()


async def test_every_node_leads_to_the_owner_of_our_slot(cluster: RedisCluster) -> None:
    """Whichever node is named, masters and replica, steps are run by the one that owns our slot, each once."""
    for turn, node in enumerate(cluster.nodes):
        prefix = f"{{sluice}}:{turn}:"
        async with connected(node) as client:
            done = await asyncio.gather(*(client.evalsha(COUNT, [prefix], []) for _ in range(20)))
        assert sorted(done) == list(range(1, 21))
        assert cluster.masters[SLUICE].command("GET", f"{prefix}count") == b"20"


async def test_a_database_number_is_refused_for_a_cluster(cluster: RedisCluster) -> None:
    """A cluster has database 0 only; another one in the URL is named as what is wrong."""
    client = RedisClient(RedisAddress.from_url(f"{cluster.nodes[0].url}/1"))
    with pytest.raises(StoreUnavailable, match="a cluster has 0 only: correct SLUICE_REDIS_URL"):
        await client.connect()
    await client.aclose()


async def test_while_the_slot_is_moved_no_step_runs_on_half_of_the_keys(cluster: RedisCluster) -> None:
    """From the move's start to its end steps are refused on either side; then they find every key at the new owner."""
    tag = "{moved}:"
    source, target = cluster.owner(tag), next(node for node in cluster.masters if node is not cluster.owner(tag))
    ids = [node.command("CLUSTER", "MYID") for node in (source, target)]
    async with connected(source) as client:
        assert await client.evalsha(COUNT, [tag], []) == 1
        target.command("CLUSTER", "SETSLOT", cluster.slot(tag), "IMPORTING", ids[0])
        source.command("CLUSTER", "SETSLOT", cluster.slot(tag), "MIGRATING", ids[1])
        with pytest.raises(StoreUnavailable, match="answers ASK: the slot of our keys is being moved"):
            await client.evalsha(COUNT, [tag], [])
        source.command("MIGRATE", target.host, target.port, f"{tag}count", 0, 5000)
        with pytest.raises(StoreUnavailable, match="answers ASK: the slot of our keys is being moved"):
            await client.evalsha(COUNT, [tag], [])
        for node in (target, source):
            node.command("CLUSTER", "SETSLOT", cluster.slot(tag), "NODE", ids[1])
        assert await client.evalsha(COUNT, [tag], []) == 2
        assert target.command("GET", f"{tag}count") == b"2"


async def test_the_budget_store_runs_on_a_cluster(cluster: RedisCluster) -> None:
    """Whichever node it was told of, every step is done by the owner of the one slot that all its keys lie in."""
    async with store_on(cluster.nodes[2]) as setup:
        await setup.store.open(wish("r0:1", 40))
        assert [each.granted for each in await setup.store.extend([("r0:1", 60)])] == [True]
        await setup.store.release("r0:1")
        assert await setup.store.expire() == []
        assert await setup.left(ACME) == 100
    keys = [len(node.command("KEYS", "{sluice}:*")) for node in cluster.masters]
    assert keys[SLUICE] > 3
    assert sum(keys) == keys[SLUICE]


async def test_a_failover_is_survived(cluster: RedisCluster) -> None:
    """When the owner of our slot is killed, steps fail until its replica has taken over; money and rows are there."""
    replica = cluster.nodes[3]
    async with store_on(cluster.nodes[1]) as setup:
        await setup.store.open(wish("r1:1", 40))
        await setup.store.settle(paid("r1:1", 30))
        await setup.store.open(wish("r2:1", 25))
        async with connected(cluster.nodes[1]) as client:
            await client.evalsha(COUNT, ["{sluice}:"], [])  # WAIT looks at its own connection's writes
            assert await client.command("WAIT", 1, 9000) == 1
        cluster.masters[SLUICE].kill()
        assert await tries_until_done(lambda: setup.store.settle(paid("r2:1", 20))) > 1
        assert await setup.spent() == {"acme/day": 50}
    assert b"role:master" in replica.command("INFO", "replication")
    rows = [decode(dict(pairs(fields))).rows for _, fields in replica.command("XRANGE", "{sluice}:rows", "-", "+")]
    assert [row.amount_nusd for each in rows for row in each] == [30, 20]


@contextlib.asynccontextmanager
async def store_on(node: RedisServer) -> AsyncIterator[StoreSetup]:
    """A store that was told of one node of the cluster."""
    setup = StoreSetup(RedisBackend(node, namespace="sluice"), caps(cap(100)))
    await setup.start()
    yield setup
    await setup.stop()


async def tries_until_done(step: Callable[[], Awaitable[None]]) -> int:
    """How often a step had to be tried, as callers do while the store is down."""
    async with asyncio.timeout(60):
        for tries in count(1):
            try:
                await step()
                return tries
            except StoreUnavailable:
                await asyncio.sleep(0.02)
    raise AssertionError("counting ends")


def pairs(fields: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(fields[::2], fields[1::2], strict=True)
