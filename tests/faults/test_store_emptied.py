"""Redis is emptied under load: nothing is spent from budgets that begin at zero, and the ledger gives them back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pricing.ledger.place import PostgresUrl
from pricing.ledger.read import recent_rows
from support.real_redis import RedisServer, running_redis
from support.replicas import Replicas, Reply, policy, replicas

CAP_NUSD = 3_000_000
CAP = {"name": "day", "amount_usd": CAP_NUSD / 1e9, "window": "24h", "scope": "tenant:acme"}
REMEDY = "give them back with `sluice ledger restore-budgets --write`"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def shared(tmp_path: Path, redis: RedisServer, postgres_url: str) -> AsyncIterator[Replicas]:
    """Two replicas; tenant acme has a cap that a few dozen answers fill."""
    async with replicas(tmp_path, redis.url, postgres_url, policy(caps=[CAP])) as made:
        await asyncio.gather(made.start("a"), made.start("b"))
        await made.until(lambda: stores(made, "up"))
        yield made
        for child in made.running.values():
            await child.stop()


async def stores(shared: Replicas, state: str) -> bool:
    said = await asyncio.gather(*(shared.readiness(name) for name in shared.running))
    return all(one["store"] == state for one in said)


async def verb(shared: Replicas, *words: str) -> tuple[int, str]:
    said = await asyncio.to_thread(shared.sluice, "ledger", *words)
    return said.exit_code, said.output


async def load(shared: Replicas, number: int) -> list[tuple[float, Reply]]:
    """One request after another until three were refused, each with the time at which it was sent."""
    replies: list[tuple[float, Reply]] = []
    while sum(reply.status != 200 for _, reply in replies) < 3:
        replies.append((time.monotonic(), await shared.chat("ab"[number % 2])))
    return replies


async def spent_nusd(shared: Replicas) -> int:
    [budget] = (await shared.ask("a", "/budgets")).json["data"]
    return round(budget["spent_usd"] * 1e9)


async def test_nobody_spends_from_budgets_that_were_lost_and_the_ledger_gives_them_back(
    shared: Replicas, redis: RedisServer
) -> None:
    """FLUSHALL while clients ask: from then on all are refused, and replicas and verifying say why, and what to do.
    Restored, the cap has what was spent, everything agrees, and the cap holds to the end.
    """
    for name in "abab":
        assert (await shared.chat(name)).status == 200
    await shared.drained()
    clients = [asyncio.create_task(load(shared, number)) for number in range(4)]
    await asyncio.sleep(0.3)
    redis.command("FLUSHALL")
    emptied_s = time.monotonic()
    emptied = await verb(shared, "verify")
    await shared.until(lambda: stores(shared, "down"))
    opened = redis.command("KEYS", "{sluice}:hold:*")
    sent = [each for replies in await asyncio.gather(*clients) for each in replies]
    late = [reply for at_s, reply in sent if at_s > emptied_s]
    health = [(await shared.ask(name, "/health")).json["budget_store"]["trouble"] for name in "ab"]
    unrestored = await verb(shared, "verify")
    would = await verb(shared, "restore-budgets")
    assert await stores(shared, "down")
    wrote = await verb(shared, "restore-budgets", "--write")
    await shared.until(lambda: stores(shared, "up"))
    await shared.drained()
    verified, again = await verb(shared, "verify"), await verb(shared, "restore-budgets")
    while (last := await shared.chat("a")).status == 200:
        pass
    await shared.drained()
    rows = recent_rows(PostgresUrl(shared.environ["SLUICE_LEDGER"]), 10_000)
    paid = sum(row.amount_nusd for row in rows if row.account == "acme")
    assert {reply.status for _, reply in sent} == {200, 503}
    assert {(reply.status, reply.json["error"]["code"]) for reply in late} == {(503, "store_unavailable")}
    assert opened == []
    assert all(REMEDY in trouble for trouble in health)
    for status, said in (emptied, unrestored):
        assert status == 1
        assert REMEDY in said
        assert "everything agrees" not in said
    assert would[0] == wrote[0] == 0
    assert "would change; --write does it" in would[1]
    assert "sums written" in wrote[1]
    assert verified[0] == 0, verified[1]
    assert again == (0, "budgets have all that the ledger says\n")
    assert last.json["error"]["code"] == "budget_exceeded"
    assert 0.8 * CAP_NUSD < paid <= CAP_NUSD
    assert await spent_nusd(shared) == paid
    assert (await verb(shared, "verify"))[0] == 0
