"""Several replicas before one set of pools: one budget and one ledger, whatever happens to a replica or a server."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from pricing.clock import US_PER_S
from pricing.ledger.rows import WITHOUT_STORE
from pricing.redis.views import OLD_US
from support.real_redis import RedisServer, running_redis
from support.replicas import KEYS, Replicas, policy, replicas

DURABLE = {"appendonly": "yes", "appendfsync": "always"}
CAP_NUSD = 1_500_000
CAP = {"name": "day", "amount_usd": CAP_NUSD / 1e9, "window": "24h", "scope": "tenant:acme"}
ALLOW = {"allowance_usd": 1}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test's own, which keeps what it has answered."""
    with running_redis(tmp_path / "redis", DURABLE) as server:
        yield server


@pytest.fixture
async def shared(tmp_path: Path, redis: RedisServer, postgres_url: str) -> AsyncIterator[Replicas]:
    """Replicas whose tenant acme has a cap that a few dozen answers fill."""
    async with replicas(tmp_path, redis.url, postgres_url, policy(caps=[CAP])) as made:
        yield made


async def test_a_burst_over_two_replicas_is_served_whoever_fills_the_pool(
    tmp_path: Path, redis: RedisServer, postgres_url: str
) -> None:
    """A container takes twenty, and each replica hears of the other's requests a tick later: those that meet the
    platform's 429 wait in line as the others do.
    """
    files = policy()
    files["pools"]["small"] |= {"max_containers": 1}
    async with replicas(tmp_path, redis.url, postgres_url, files) as made:
        await asyncio.gather(made.start("a"), made.start("b"))
        await asyncio.gather(made.chat("a"), made.chat("b"))
        replies = await asyncio.gather(*(made.chat("ab"[number % 2], tokens=60) for number in range(60)))
        await made.drained()
    assert Counter(reply.status for reply in replies) == {200: 60}


async def test_two_replicas_keep_one_budget(shared: Replicas) -> None:
    """Requests over both until the cap is full: it holds over both, and everyone who is asked says the same."""
    await asyncio.gather(shared.start("a"), shared.start("b"))

    told: Counter[str] = Counter()

    async def client(number: int) -> None:
        while (reply := await shared.chat("ab"[number % 2])).status == 200:
            told[reply.headers["x-sluice-request-id"]] = reply.cost_nusd
        assert (reply.status, reply.json["error"]["code"]) == (429, "budget_exceeded")

    await asyncio.gather(*map(client, range(6)))
    await shared.drained()
    answered: Counter[str] = Counter()
    for row in shared.rows():
        if row.outcome == "answered":
            answered[str(row.request_id)] += row.amount_nusd
    assert answered == told
    paid = sum(row.amount_nusd for row in shared.rows() if row.account == "acme")
    asked = sum(row.amount_nusd for row in shared.rows() if row.tenant == "acme")
    assert 0.5 * CAP_NUSD < paid <= CAP_NUSD
    for name in ("a", "b"):
        [budget] = (await shared.ask(name, "/budgets")).json["data"]
        assert round(budget["spent_usd"] * 1e9) == paid
        since_s = int(time.time()) - 86_400
        page = (await shared.ask(name, f"/v1/costs?start_time={since_s}&project_ids=acme&group_by=project_id")).json
        costs = [result["amount"]["value"] for bucket in page["data"] for result in bucket["results"]]
        assert round(sum(costs) * 1e9) == asked  # with what the house paid of it: attempts that failed, overruns
    report = await asyncio.to_thread(shared.sluice, "report", "--by", "tenant", "--format", "json")
    assert [line["charged_nusd"] for line in json.loads(report.output)["lines"]] == [paid]
    for child in shared.running.values():
        await child.stop()


async def test_holds_of_a_replica_that_is_killed_end_with_their_leases(shared: Replicas, redis: RedisServer) -> None:
    """kill -9 in the midst of answers: the other replica settles what was held, as an estimate, and serves on."""
    await asyncio.gather(shared.start("a"), shared.start("b"))
    assert (await shared.chat("a")).status == 200
    body = {"tokens": 2_000, "stream": True}
    lost = [asyncio.create_task(shared.chat("a", "globex", **body)) for _ in range(3)]

    async def running() -> bool:
        held = await asyncio.to_thread(redis.command, "KEYS", "{sluice}:hold:*")
        return len(held) == 3 and not any(redis.command("HGET", hold, "unheard") for hold in held)  # a tick has passed

    await shared.until(running)
    await shared.running["a"].kill()
    assert all(isinstance(one, aiohttp.ClientError) for one in await asyncio.gather(*lost, return_exceptions=True))
    assert (await shared.chat("b")).status == 200

    await shared.drained()  # there are tables now

    async def ended() -> bool:
        return sum(row.account == "globex" for row in await asyncio.to_thread(shared.rows)) == 3

    await shared.until(ended)
    lost_rows = [row for row in shared.rows() if row.account == "globex"]
    assert [(row.outcome, row.estimated) for row in lost_rows] == [("expired", True)] * 3
    found = await shared.verified()  # rows that the dead replica was about to write still wait, and count
    assert (found["problems"], found["open_holds"]) == ([], 0)
    await shared.running["b"].stop()


async def test_whichever_replica_is_asked_lowers_the_tier(
    tmp_path: Path, redis: RedisServer, postgres_url: str
) -> None:
    """One replica serves until the threshold is passed; the other, which has never seen the tenant, serves its first
    request from the lower tier.
    """
    lowering = {**CAP, "thresholds": {"lower_tier": "1%"}}
    files = policy(caps=[lowering])
    files["pools"]["large"] = files["pools"]["small"]
    ladder = {"standard": ["small"], "premium": ["large"]}  # in this order, however warm the dearer one is
    files["classes"]["chat"] |= {"default_tier": "premium", "objective": "listed", "ladder": ladder}
    async with replicas(tmp_path, redis.url, postgres_url, files) as shared:
        await asyncio.gather(shared.start("a"), shared.start("b"))
        served = [await shared.chat("a", tokens=60)]
        await asyncio.sleep(OLD_US / US_PER_S)  # so long counts what the other has read at its start
        served.append(await shared.chat("b"))
        await asyncio.gather(*(shared.running[name].stop() for name in ("a", "b")))
    assert [reply.status for reply in served] == [200, 200]
    assert [reply.headers["x-sluice-pool"] for reply in served] == ["large", "small"]


async def test_a_replica_starts_before_its_servers_and_finds_them_later(
    tmp_path: Path, redis: RedisServer, postgres_url: str
) -> None:
    """Redis is frozen while a replica starts: it listens, is not ready, refuses, and never serves without budgets; when
    Redis answers it is ready, with the cap as it stands.
    """
    async with replicas(tmp_path, redis.url, postgres_url, policy(caps=[CAP])) as shared:
        redis.freeze()
        await shared.start("a")
        early, readiness = await shared.chat("a"), await shared.readiness("a")
        assert (early.status, early.json["error"]["code"]) == (503, "store_unavailable")
        assert (readiness["ready"], readiness["store"]) == (False, "down")
        assert (await shared.ask("a", "/health/liveness")).status == 200
        assert "the budget store is down, and requests wait for on_store_down" in shared.log("a")
        redis.thaw()
        await shared.until(lambda: _ready(shared, "a"))
        assert (await shared.chat("a")).status == 200
        await shared.drained()
        await shared.running["a"].stop()


async def test_a_redis_that_keeps_less_than_promised_is_warned_of(tmp_path: Path, postgres_url: str) -> None:
    """With the setting to change, once in the log, in `/health` and as a metric; requests are served all the same."""
    with running_redis(tmp_path / "redis", {"appendonly": "yes", "appendfsync": "no"}) as weak:
        async with replicas(tmp_path, weak.url, postgres_url, policy(caps=[CAP])) as shared:
            await shared.start("a")
            await shared.until(lambda: _ready(shared, "a"))
            served = await shared.chat("a")
            store = (await shared.ask("a", "/health")).json["budget_store"]
            metrics = (await shared.ask("a", "/metrics")).body.decode()
            await shared.running["a"].stop()
            log = shared.log("a")
    assert served.status == 200
    assert log.count("the budget store keeps less than promised") == 1
    assert "set appendfsync everysec" in log
    [weaker] = store["weaker_than_promised"]
    assert weaker.startswith("Redis has appendfsync no: a crash loses what the system had not flushed")
    assert "sluice_store_weaknesses 1.0" in metrics


async def test_two_processes_with_one_name_are_not_two_replicas(shared: Replicas) -> None:
    """The second says so and never serves, until the first gives the name up."""
    await shared.start("a")
    await shared.until(lambda: _ready(shared, "a"))
    await shared.start("twin", called="a")
    refused = await shared.chat("twin")
    assert (refused.status, await _ready(shared, "twin"), await _ready(shared, "a")) == (503, False, True)
    assert "another process runs as replica a; give each a SLUICE_REPLICA of its own" in shared.log("twin")
    assert (await shared.chat("a")).status == 200
    await shared.running["a"].stop()
    await shared.until(lambda: _ready(shared, "twin"))
    await shared.running["twin"].stop()


async def test_a_replica_whose_name_was_taken_is_not_ready(shared: Replicas, redis: RedisServer) -> None:
    """Cut off for longer than its name's lease, it finds another process in its place."""
    await shared.start("a")
    await shared.until(lambda: _ready(shared, "a"))
    redis.command("SET", "{sluice}:name:a", "another process", "PX", 60_000)

    async def lost() -> bool:
        return not await _ready(shared, "a")

    async def logged() -> bool:
        return "another process runs as replica a" in await asyncio.to_thread(shared.log, "a")

    await shared.until(lost)
    await shared.until(logged)  # lines of the log wait a moment for others
    await shared.running["a"].stop()


async def _ready(shared: Replicas, name: str) -> bool:
    return bool((await shared.readiness(name))["ready"])


async def test_an_outage_that_is_allowed_is_bounded_marked_and_made_up_for(
    tmp_path: Path, redis: RedisServer, postgres_url: str
) -> None:
    """Redis is killed: requests pass, and say so; when it is back the ledger has their exact cost, marked, and budgets,
    meters and rows agree, boot and idle included.
    """
    files = policy(caps=[CAP], store=ALLOW)
    files["defaults"]["on_store_down"] = "allow"
    async with replicas(tmp_path, redis.url, postgres_url, files) as shared:
        await asyncio.gather(shared.start("a"), shared.start("b"))
        before = await shared.chat("a")
        redis.kill()
        during = [await shared.chat(name) for name in "aabb"]
        readiness = await shared.readiness("a")
        metrics = (await shared.ask("a", "/metrics")).body.decode()
        redis.start()
        await shared.until(lambda: shared.is_up("a"))
        await shared.until(lambda: shared.is_up("b"))
        after = await shared.chat("b")
        await shared.drained()
        found = shared.rows()
        budgets = (await shared.ask("a", "/budgets")).json["data"]
        for child in shared.running.values():
            await child.stop()
    assert [reply.status for reply in (before, *during, after)] == [200] * 6
    assert {reply.headers.get("x-sluice-store") for reply in during} == {"down-allowed"}
    assert not {"x-sluice-store"} & (before.headers.keys() | after.headers.keys())
    assert (readiness["ready"], readiness["degraded"], readiness["store"]) == (True, True, "down")
    assert "sluice_store_down 1.0" in metrics
    assert 'sluice_store_down_holds_total{decision="allowed"} 2.0' in metrics
    marked = [row for row in found if row.tags == (WITHOUT_STORE,) and row.account == "acme"]
    assert sorted(row.amount_nusd for row in marked) == sorted(reply.cost_nusd for reply in during)
    assert not any(row.estimated for row in marked)
    paid = sum(reply.cost_nusd for reply in (before, *during, after))
    assert round(budgets[0]["spent_usd"] * 1e9) == paid


async def test_no_password_is_shown(tmp_path: Path, postgres_url: str) -> None:
    """Neither of Redis nor of PostgreSQL, in no log, error, health or metric; with both servers out of reach."""
    urls = ("redis://sluice:hunter2@127.0.0.1:1", "postgresql://sluice:hunter3@127.0.0.1:1/ledger")
    async with replicas(tmp_path, *urls) as shared:
        await shared.start("a", "--log-level", "debug")
        refused = await shared.chat("a")
        shown = [
            await shared.ask("a", path)
            for path in ("/health", "/health/readiness", "/metrics", "/budgets", "/v1/costs")
        ]
        verb = await asyncio.to_thread(shared.sluice, "ledger", "verify")
        await shared.running["a"].stop()
        said = [
            shared.log("a"),
            verb.output,
            repr(verb.exception),
            *(reply.body.decode() for reply in (refused, *shown)),
        ]
    assert refused.status == 503
    assert "127.0.0.1:1" in shared.log("a")
    assert not any(secret in text for text in said for secret in ("hunter2", "hunter3", *KEYS.values()))
