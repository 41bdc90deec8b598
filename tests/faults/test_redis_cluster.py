"""Redis Cluster: one connection to the node that owns our slot, through moves and failovers, with real nodes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from pricing.errors import StoreUnavailable
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.scripts import script_of
from support.real_redis import NO_PROGRAM, RedisCluster, RedisServer, find_redis, running_cluster

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


async def test_a_failover_is_survived(cluster: RedisCluster) -> None:
    """When the owner of our slot is killed, steps fail until its replica has taken over, and then run there."""
    replica = cluster.nodes[3]
    async with connected(cluster.masters[SLUICE]) as client:
        before = await client.evalsha(COUNT, ["{sluice}:"], [])
        assert await client.command("WAIT", 1, 9000) == 1
        cluster.masters[SLUICE].kill()
        failed, after = 0, None
        async with asyncio.timeout(60):
            while after is None:
                try:
                    after = await client.evalsha(COUNT, ["{sluice}:"], [])
                except StoreUnavailable:
                    failed += 1
                    await asyncio.sleep(0.02)
    assert failed > 0
    assert after == before + 1
    assert b"role:master" in replica.command("INFO", "replication")
