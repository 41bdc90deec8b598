"""What a killed Redis has lost, by its settings, and that the warnings say so beforehand."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from pricing.errors import StoreUnavailable
from pricing.redis.address import RedisAddress
from pricing.redis.client import RedisClient
from pricing.redis.durability import Promise, Server, durability_warnings, weaknesses
from pricing.redis.scripts import script_of
from support.money import cap, caps, paid, wish
from support.real_redis import NO_PROGRAM, RedisServer, find_redis, running_redis
from support.stores import RedisBackend, StoreSetup

pytestmark = pytest.mark.skipif(find_redis() is None, reason=NO_PROGRAM)

# Two keys by one step, as a settlement writes a sum and a row.
CHARGE = script_of(
    "charge",
    b"local sum = redis.call('INCR', KEYS[1] .. 'sum') redis.call('XADD', KEYS[1] .. 'rows', '*', 'n', sum) return sum",
)
ALWAYS = {"appendonly": "yes", "appendfsync": "always"}
EVERYSEC = {"appendonly": "yes", "appendfsync": "everysec"}


async def charge_until_killed(server: RedisServer, callers: int, kill_after: int) -> int:
    """Many callers charge at once; the server dies when so many were answered. Returns the highest answer."""
    client = RedisClient(RedisAddress.from_url(server.url))
    await client.connect()
    answered = 0

    async def caller() -> None:
        nonlocal answered
        try:
            while True:
                answered = max(answered, await client.evalsha(CHARGE, ["{sluice}:"], []))
                if answered >= kill_after:
                    server.kill()
        except StoreUnavailable:
            return

    await asyncio.gather(*(caller() for _ in range(callers)))
    await client.aclose()
    return answered


@pytest.mark.parametrize("callers", [1, 50])
async def test_a_kill_loses_no_answered_step_with_always(tmp_path: Path, callers: int) -> None:
    """With `appendfsync always` every step that was answered is there after kill -9, whole, time after time."""
    with running_redis(tmp_path, ALWAYS) as server:
        done = 0
        for _ in range(5):
            done = await charge_until_killed(server, callers, done + random.randint(1, 20 * callers))
            server.start()
            kept = int(server.command("GET", "{sluice}:sum"))
            assert kept >= done
            assert server.command("XLEN", "{sluice}:rows") == kept
            done = kept


async def test_a_kill_loses_no_settled_charge_with_always(tmp_path: Path) -> None:
    """Every charge whose settlement was answered is spent and in the ledger's rows after kill -9; both say the same."""
    with running_redis(tmp_path, ALWAYS) as server:
        backend = RedisBackend(server)
        settled = 0
        for life in range(3):
            setup = StoreSetup(backend, caps(cap(10**9)))
            await setup.start()
            settled += await settle_until_killed(setup, server, life, callers=20, kill_after=random.randint(1, 100))
            server.start()
            await until(lambda: backend.client(setup.store).connected)  # noqa: B023 -- used up before the next turn
            rows = sum(row.amount_nusd for row in backend.rows())
            assert await setup.spent() == {"acme/day": rows}
            assert rows >= settled
            await setup.stop()


async def settle_until_killed(setup: StoreSetup, server: RedisServer, life: int, callers: int, kill_after: int) -> int:
    """Many callers spend one nano-dollar at a time; the server dies after so many. Returns how many were answered."""
    settled = 0

    async def caller(name: int) -> None:
        nonlocal settled
        with contextlib.suppress(StoreUnavailable):
            for number in count():
                hold_id = f"r{life}-{name}-{number}:1"
                await setup.store.open(wish(hold_id, 2))
                await setup.store.settle(paid(hold_id, 1))
                settled += 1
                if settled == kill_after:
                    server.kill()

    await asyncio.gather(*(caller(name) for name in range(callers)))
    return settled


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 -- a client announces nothing
            await asyncio.sleep(0.005)


async def test_without_a_file_a_kill_loses_everything_and_is_warned_of(tmp_path: Path) -> None:
    """`appendonly no` forgets all that was spent; the warning said `everything` while there was still time."""
    with running_redis(tmp_path) as server:
        assert await warned(server, "always") == [
            "Redis has appendonly no: a crash loses everything, though `durability: always` is promised; "
            "set appendonly yes and appendfsync always"
        ]
        await charge_until_killed(server, callers=1, kill_after=10)
        server.start()
        assert server.command("GET", "{sluice}:sum") is None


async def warned(server: RedisServer, promise: Promise) -> list[str]:
    client = RedisClient(RedisAddress.from_url(server.url))
    try:
        await client.connect()
        return await durability_warnings(client, promise)
    finally:
        await client.aclose()


@pytest.mark.parametrize(
    ("options", "promise", "says"),
    [
        (ALWAYS, "always", []),
        (EVERYSEC, "everysec", []),
        (ALWAYS, "everysec", []),
        ({}, "none", []),
        (EVERYSEC, "always", ["appendfsync everysec: a crash loses the last second of it, at worst two"]),
        ({"appendonly": "yes", "appendfsync": "no"}, "everysec", ["appendfsync no: a crash loses what the system had"]),
        (
            {"save": "3600 1"},
            "everysec",
            ["appendonly no: a crash loses everything since its last snapshot (save 3600 1)"],
        ),
        ({**ALWAYS, "no-appendfsync-on-rewrite": "yes"}, "always", ["no-appendfsync-on-rewrite yes"]),
        ({"maxmemory-policy": "allkeys-lru"}, "none", ["maxmemory-policy is allkeys-lru"]),
        ({"maxmemory-policy": "volatile-ttl"}, "everysec", ["maxmemory-policy is volatile-ttl", "appendonly no"]),
        ({**EVERYSEC, "rename-command": "CONFIG nothing"}, "everysec", ["refuses CONFIG GET"]),
    ],
)
async def test_settings_weaker_than_promised_are_warned_of(
    tmp_path: Path, options: dict[str, str], promise: Promise, says: list[str]
) -> None:
    """Each setting that can lose more than the policy promises is named; one that keeps the promise is not."""
    with running_redis(tmp_path, options) as server:
        found = await warned(server, promise)
    assert len(found) == len(says)
    for expected, warning in zip(says, found, strict=True):
        assert expected in warning


async def test_a_user_who_may_not_read_settings_is_warned(tmp_path: Path) -> None:
    """Refused by an ACL, CONFIG makes a warning and no failure; the rest is still checked."""
    with running_redis(tmp_path, {**EVERYSEC, "maxmemory-policy": "allkeys-lru"}) as server:
        server.command("ACL", "SETUSER", "default", "-config")
        found = await warned(server, "everysec")
    assert ["maxmemory-policy" in found[0], "refuses CONFIG GET" in found[1]] == [True, True]


def replicated(promise: Promise, **settings: str) -> list[str]:
    info = {"aof_enabled": "1", "maxmemory_policy": "noeviction", "role": "master", "connected_slaves": "1"}
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    return weaknesses(Server(info, {"appendfsync": "always", **named}), promise)


def test_what_a_failover_may_lose_is_bounded_by_the_replicas_lag() -> None:
    """A replica that may lag without a bound, or longer than the promise, is warned of with what it may lose."""
    assert "without a bound" in replicated("everysec")[0]
    assert "without a bound" in replicated("everysec", min_replicas_to_write="0", min_replicas_max_lag="10")[0]
    assert "up to 10 s" in replicated("everysec", min_replicas_to_write="1", min_replicas_max_lag="10")[0]
    assert replicated("everysec", min_replicas_to_write="1", min_replicas_max_lag="2") == []
    assert "up to 2 s" in replicated("always", min_replicas_to_write="1", min_replicas_max_lag="2")[0]
    assert replicated("none") == []


def test_a_replica_and_a_failing_file_are_named() -> None:
    """A replica cannot be written to; a file that cannot be written keeps no promise."""
    info = {"aof_enabled": "1", "maxmemory_policy": "noeviction", "aof_last_write_status": "err", "role": "slave"}
    failing, replica = weaknesses(Server(info, {"appendfsync": "always"}), "always")
    assert "cannot write its append-only file" in failing
    assert "Redis is a replica here" in replica
