"""What dies while the ledger is drained: processes, PostgreSQL, connections. No row is lost or counted twice."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from pricing.errors import StoreUnavailable
from pricing.ledger.place import PostgresUrl
from pricing.ledger.upgrade import ensure_current
from pricing.redis.drainer import Drainer
from support.money import request, row
from support.real_postgres import PostgresServer
from support.shared_ledger import SharedLedger, shared_ledger, sum_problems

HOUR = 3_600_000_000
SEED = 20261121


@pytest.fixture
async def ledger(redis_url: str, mortal: PostgresServer) -> AsyncIterator[SharedLedger]:
    async with shared_ledger(redis_url, mortal.new_database()) as made:
        yield made


async def settle_many(ledger: SharedLedger, first: int, last: int) -> None:
    """Requests of one or two attempts; every fifth entry comes twice, as after a lost answer."""
    for number in range(first, last):
        rows = [
            row(f"r{number:04}:{attempt}", number, at_us=number * HOUR // 9) for attempt in range(1, 2 + number % 2)
        ]
        for _ in range(2 if number % 5 == 0 else 1):
            await ledger.add(*rows, request=request(f"r{number:04}", at_us=number * HOUR // 9))


def expected_rows(count: int) -> list[tuple[str, int]]:
    return [(f"r{n:04}:{attempt}:attempt", n) for n in range(count) for attempt in range(1, 2 + n % 2)]


async def start(ledger: SharedLedger, redis_url: str, consumer: str) -> Process:
    words = (sys.executable, "-m", "support.draining", redis_url, ledger.url.dsn, ledger.namespace, consumer)
    process = await asyncio.create_subprocess_exec(*words, stdout=PIPE, env={"PYTHONPATH": ":".join(sys.path)})
    assert process.stdout is not None
    assert await process.stdout.readline() == b"drains\n"
    return process


async def test_kill_9_of_draining_processes_loses_and_doubles_nothing(ledger: SharedLedger, redis_url: str) -> None:
    """Two processes drain, one is killed and replaced again and again at random instants; rows and sums are exact."""
    chance = random.Random(SEED)
    await settle_many(ledger, 0, 100)
    steady = await start(ledger, redis_url, "steady")
    for round_ in range(4):
        await settle_many(ledger, 100 * (round_ + 1), 100 * (round_ + 2))
        victim = await start(ledger, redis_url, f"victim-{round_}")
        await asyncio.sleep(chance.uniform(0, 0.03))
        victim.kill()
        await victim.wait()
    steady.kill()
    await steady.wait()
    await ledger.drain(ledger.drainer("last", claim_after_s=0))
    assert ledger.rows() == expected_rows(500)
    assert ledger.query("SELECT count(*) FROM requests") == [(500,)]
    assert sum_problems(ledger.url) == []
    backlog = await ledger.stream.backlog()
    assert (backlog.entries, backlog.bytes, backlog.poison) == (0, 0, 0)


async def test_kill_9_of_postgresql_in_the_midst_of_draining(ledger: SharedLedger, mortal: PostgresServer) -> None:
    """The server dies again and again between batches and within them; drained goes on when it is back."""
    await settle_many(ledger, 0, 300)
    chance, drainer = random.Random(SEED), ledger.drainer()
    for _ in range(5):
        step = asyncio.ensure_future(several_steps(drainer))
        await asyncio.sleep(chance.uniform(0.001, 0.04))
        await asyncio.to_thread(mortal.kill)
        with suppress(StoreUnavailable):
            await step
        with pytest.raises(StoreUnavailable, match="ledger postgresql://"):
            await several_steps(drainer)
        await asyncio.to_thread(mortal.start)
    await ledger.drain(drainer)
    assert ledger.rows() == expected_rows(300)
    assert sum_problems(ledger.url) == []
    assert (await ledger.stream.backlog()).entries == 0


async def several_steps(drainer: Drainer) -> None:
    for _ in range(8):
        await drainer.step()


async def test_a_drainer_that_is_cancelled_at_any_instant_leaves_its_work_to_the_next(ledger: SharedLedger) -> None:
    """Stopping a replica in the midst of a batch loses none of it."""
    await settle_many(ledger, 0, 120)
    chance = random.Random(SEED)
    for round_ in range(12):
        drainer = ledger.drainer(f"stopped-{round_}", claim_after_s=0)
        running = asyncio.create_task(drainer.run())
        await asyncio.sleep(chance.uniform(0, 0.02))
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await drainer.aclose()
    await ledger.drain(ledger.drainer("last", claim_after_s=0))
    assert ledger.rows() == expected_rows(120)
    assert sum_problems(ledger.url) == []


async def test_tables_may_be_upgraded_while_others_drain(ledger: SharedLedger) -> None:
    """A replica that starts meanwhile, and finds tables that are current, disturbs nobody."""
    await settle_many(ledger, 0, 50)
    url = PostgresUrl(ledger.url.dsn)
    await asyncio.gather(ledger.drain(), *(asyncio.to_thread(ensure_current, url) for _ in range(4)))
    assert ledger.rows() == expected_rows(50)
