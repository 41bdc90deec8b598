"""PostgreSQL is away, frozen or late while replicas serve: requests do not notice, and every row comes once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pricing.ledger.entries import value_json
from pricing.ledger.place import PostgresUrl
from pricing.ledger.read import recent_rows
from pricing.redis.scripts import script
from support.money import request
from support.real_postgres import PostgresServer
from support.real_redis import RedisServer, running_redis
from support.replicas import Replicas, Reply, policy, replicas

MIB = 2**20
ALLOWANCE_USD = 0.01


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "redis") as server:
        yield server


@asynccontextmanager
async def one_replica(
    folder: Path, redis: RedisServer, postgres: PostgresServer, files: Mapping[str, Any] | None = None
) -> AsyncIterator[Replicas]:
    """It has served a request, whose rows are in the database."""
    async with replicas(folder, redis.url, postgres.new_database(), files or policy()) as shared:
        shared.environ["SLUICE_BACKLOG_MIB"] = "1"
        await shared.start("a")
        await shared.until(lambda: shared.is_up("a"))
        assert (await shared.chat("a")).status == 200
        await shared.drained()
        yield shared
        await shared.running["a"].stop()


async def costs(shared: Replicas) -> list[int]:
    """What rows in the database say that acme pays."""
    rows = await asyncio.to_thread(recent_rows, PostgresUrl(shared.environ["SLUICE_LEDGER"]), 10_000)
    return sorted(row.amount_nusd for row in rows if row.account == "acme")


def told(*replies: Reply) -> list[int]:
    assert {reply.status for reply in replies} == {200}
    return sorted(reply.cost_nusd for reply in replies)


async def ledger_is_down(shared: Replicas) -> bool:
    return b"sluice_ledger_down 1.0" in (await shared.ask("a", "/metrics")).body


async def test_requests_do_not_notice_that_postgresql_was_killed(
    tmp_path: Path, redis: RedisServer, mortal: PostgresServer
) -> None:
    """They are answered and say their cost; what reads the ledger says that it is away; then each row is there once."""
    async with one_replica(tmp_path, redis, mortal) as shared:
        before = await costs(shared)
        mortal.kill()
        replies = [await shared.chat("a") for _ in range(5)]
        await shared.until(lambda: ledger_is_down(shared))
        waiting = (await shared.ask("a", "/health")).json["ledger"]
        page = await shared.ask("a", "/v1/costs?start_time=0")
        readiness = await shared.readiness("a")
        mortal.start()
        await shared.drained()
        assert await costs(shared) == sorted(before + told(*replies))
        assert not await ledger_is_down(shared)
    assert (readiness["ready"], readiness["store"]) == (True, "up")
    assert "ledger postgresql://" in waiting["trouble"]
    assert (page.status, page.json["error"]["code"]) == (503, "store_unavailable")


async def test_requests_do_not_notice_that_postgresql_is_frozen(
    tmp_path: Path, redis: RedisServer, mortal: PostgresServer
) -> None:
    """Nothing of it answers, connections stay open: requests go on, and so does a replica that is stopped meanwhile."""
    async with one_replica(tmp_path, redis, mortal) as shared:
        before = await costs(shared)
        mortal.freeze()
        try:
            replies = [await shared.chat("a") for _ in range(5)]
            assert (await shared.readiness("a"))["ready"]
            await shared.running["a"].stop()
        finally:
            mortal.thaw()
        await shared.start("a")
        await shared.drained()
        assert await costs(shared) == sorted(before + told(*replies))


async def test_a_replica_serves_before_postgresql_is_there(
    tmp_path: Path, redis: RedisServer, mortal: PostgresServer
) -> None:
    """It starts while the database is down, and again while it is frozen: Redis has the budgets, which is enough."""
    async with one_replica(tmp_path, redis, mortal) as shared:
        before = await costs(shared)
        replies = []
        for leaves, returns in ((mortal.kill, mortal.start), (mortal.freeze, mortal.thaw)):
            await shared.running["a"].stop()
            leaves()
            try:
                await shared.start("a")
                replies += [await shared.chat("a") for _ in range(2)]
                await shared.until(lambda: ledger_is_down(shared))
            finally:
                returns()
        await shared.drained()
        assert await costs(shared) == sorted(before + told(*replies))


async def test_new_servers_are_told_from_lost_budgets_by_the_ledger(
    tmp_path: Path, redis: RedisServer, mortal: PostgresServer
) -> None:
    """A Redis without budgets is not served from before the ledger has said that it knows of none."""
    async with replicas(tmp_path, redis.url, mortal.new_database()) as shared:
        mortal.kill()
        try:
            await shared.start("a")
            refused = await shared.chat("a")
            trouble = (await shared.ask("a", "/health")).json["budget_store"]["trouble"]
        finally:
            mortal.start()
        await shared.until(lambda: shared.is_up("a"))
        assert (await shared.chat("a")).status == 200
        await shared.drained()
        await shared.running["a"].stop()
    assert (refused.status, refused.json["error"]["code"]) == (503, "store_unavailable")
    assert "whether it has lost them only the ledger can tell" in trouble


def fill_backlog(redis: RedisServer) -> None:
    """A mebibyte of summaries, written by the product's own script."""
    for number in range(20):
        words = [value_json(request(f"filler-{number}", outcome="refused", attempts=0, tags=("x" * 60_000,)))]
        redis.command("EVAL", script("rows").text, 1, "{sluice}:", "", *words)
    assert int(redis.command("GET", "{sluice}:backlog")) > MIB


async def backlog_is_shown(shared: Replicas) -> bool:
    waiting = (await shared.ask("a", "/health")).json["ledger"]["waiting"]
    return waiting is not None and waiting["bytes"] > MIB


@pytest.mark.parametrize("on_store_down", ["reject", "allow"])
async def test_a_backlog_at_its_limit_counts_as_a_store_that_is_down(
    tmp_path: Path, redis: RedisServer, mortal: PostgresServer, on_store_down: str
) -> None:
    """`on_store_down` decides, visibly in readiness, health, metrics and headers; PostgreSQL's return mends it all."""
    allows = on_store_down == "allow"
    files = policy(store={"allowance_usd": ALLOWANCE_USD})
    files["defaults"]["on_store_down"] = on_store_down
    async with one_replica(tmp_path, redis, mortal, files) as shared:
        before = await costs(shared)
        mortal.kill()
        try:
            below = await shared.chat("a")
            fill_backlog(redis)
            beyond = [await shared.chat("a") for _ in range(3)]
            readiness = await shared.ask("a", "/health/readiness")
            metrics = (await shared.ask("a", "/metrics")).body.decode()
            health = (await shared.ask("a", "/health")).json
            if not allows:
                await shared.until(lambda: backlog_is_shown(shared))
        finally:
            mortal.start()
        await shared.until(lambda: shared.is_up("a"))
        after = await shared.chat("a")
        await shared.drained()
        paid = [below, after, *(beyond if allows else [])]
        assert await costs(shared) == sorted(before + told(*paid))
    assert [reply.status for reply in beyond] == [200 if allows else 503] * 3
    assert [reply.headers.get("x-sluice-store") for reply in beyond] == ["down-allowed" if allows else None] * 3
    assert not {"x-sluice-store"} & (below.headers.keys() | after.headers.keys())
    assert (readiness.status, readiness.json["degraded"]) == (200 if allows else 503, allows)
    assert (readiness.json["ready"], readiness.json["store"]) == (allows, "down")
    assert "wait in Redis for PostgreSQL, which is the limit" in health["budget_store"]["trouble"]
    assert "sluice_store_down 1.0" in metrics
    decision = "allowed" if allows else "refused"
    assert f'sluice_store_down_holds_total{{decision="{decision}"}} 3.0' in metrics
