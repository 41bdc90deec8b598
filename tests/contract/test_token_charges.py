"""Attempts that are billed by the token, over every store: no cap is passed, and what is settled is what was spent."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from policies.policy import Payer
from policies.requirements import Tier
from pools.spec import TokenTerms
from pricing.budgets.meters_local import LocalMeters
from pricing.clock import Clock
from pricing.errors import BudgetExceeded
from pricing.ledger.rows import House, RowKind
from pricing.prices.rates import ContainerRate
from pricing.prices.token_price import TokenPrice
from router.interrupts import Cause
from router.money.accounting import Accounting, Attempt
from router.money.meters import MeteredPools
from support.chains import attempt, candidate, chain
from support.choosing import ladder, needs, rung, shipped
from support.money import cap, caps
from support.stores import Backend, RedisBackend, SqliteBackend, StoreSetup
from support.values import replace

CAP_NUSD = 3_000_000
PRICE = TokenPrice("mini", 150_000_000, 600_000_000, 75_000_000)
RATE = ContainerRate(0, 0, 0, 0, "api-1", tokens=PRICE)
BASE = rung("qwen3-vl-8b-fp8-l4")
RUNG = replace(BASE, rate=RATE, pool=replace(BASE.pool, name="api", terms=TokenTerms("mini", (), 1.0, 50.0)))
POLICY = replace(shipped(), rates={**shipped().rates, "api": RATE})
ASKED = needs("chat", Tier.STANDARD, prompt=1000, output=100)


def sqlite(fixtures: pytest.FixtureRequest) -> Backend:
    folder: Path = fixtures.getfixturevalue("tmp_path")
    return SqliteBackend(folder)


def redis(fixtures: pytest.FixtureRequest) -> Backend:
    return RedisBackend(fixtures.getfixturevalue("redis_server"))


BACKENDS: dict[str, Callable[[pytest.FixtureRequest], Backend]] = {"sqlite": sqlite, "redis": redis}


@pytest.fixture(params=BACKENDS)
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[StoreSetup]:
    made = StoreSetup(BACKENDS[request.param](request), caps(cap(CAP_NUSD)))
    await made.start()
    yield made
    await made.stop()


async def unposted(_: object) -> None:
    """Rows of the house: there are none."""


def accounting(setup: StoreSetup) -> Accounting:
    """Whatever a meter were asked here would fail: none of the pools has one."""
    clock: Clock = setup.clock
    return Accounting(setup.store, MeteredPools(LocalMeters(clock, unposted), clock), clock)


def made(setup: StoreSetup, number: int) -> Attempt:
    under_way = chain(setup.clock, ASKED, request_class=ladder(RUNG), policy=POLICY)
    under_way.request_id = f"req_{number}"
    return attempt(
        under_way, candidate(ASKED, ladder(RUNG)), expected_prompt_tokens=1000, output_bound=100, streamed=True
    )


async def spent(setup: StoreSetup) -> int:
    [amount] = (await setup.spent()).values()
    return amount


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_said_no_cap_is_passed(setup: StoreSetup, seed: int) -> None:
    """Streams of any length side by side until the cap is full: tenants pay within it, the house carries the rest, and
    all rows together are tokens × price.
    """
    draw, books = random.Random(seed), accounting(setup)
    billed, refused = 0, 0

    async def one(number: int) -> None:
        nonlocal billed, refused
        begun = made(setup, number)
        try:
            await books.begin(begun, None)
        except BudgetExceeded:
            refused += 1
            return
        books.dispatch(begun)
        prompt, answer = draw.randint(500, 1500), draw.randint(1, 1200)
        while begun.produced_tokens < answer and begun.interrupts.cause is None:
            begun.produced_tokens += draw.randint(1, 200)
            await books.tick()
            assert await spent(setup) <= CAP_NUSD
        begun.prompt_tokens, begun.completion_tokens = prompt, max(1, begun.produced_tokens)
        settlement = await books.close(begun, "answered", Payer.TENANT)
        assert settlement.amount_nusd <= begun.hold_nusd
        billed += PRICE.cost_nusd(prompt, begun.completion_tokens)
        await setup.store.settle(settlement)

    for first in range(0, 24, 4):
        await asyncio.gather(*map(one, range(first, first + 4)))
    rows = setup.rows().values()
    assert await spent(setup) == sum(row.amount_nusd for row in rows if row.account == "acme") <= CAP_NUSD
    assert sum(row.amount_nusd for row in rows) == billed
    assert {row.account for row in rows} <= {"acme", House.OVERRUN}
    assert refused


async def test_a_hold_that_nobody_ends_is_settled_at_its_amount(setup: StoreSetup) -> None:
    """As with a meter: the replica may have died under a stream; its late word is a row of 0."""
    books, begun = accounting(setup), made(setup, 1)
    await books.begin(begun, None)
    books.dispatch(begun)
    await books.tick()  # a hold in which nothing was ever heard of is released instead
    setup.clock.advance(begun.limits.hold_lease_s + 1)
    assert await setup.store.expire() == [begun.hold_id]
    assert await spent(setup) == begun.hold_nusd
    begun.prompt_tokens, begun.completion_tokens = 1000, 7
    await setup.store.settle(await books.close(begun, "answered", Payer.TENANT))
    assert await spent(setup) == begun.hold_nusd
    rows = sorted((row.kind, row.amount_nusd, row.estimated) for row in setup.rows().values())
    assert rows == [(RowKind.ATTEMPT, begun.hold_nusd, True), (RowKind.LATE, 0, False)]


async def test_what_failed_is_settled_with_the_next_attempts_hold(setup: StoreSetup) -> None:
    """One step, as ever: the house pays the broken one, and the next begins."""
    books, first = accounting(setup), made(setup, 1)
    await books.begin(first, None)
    books.dispatch(first)
    first.produced_tokens = 10
    settlement = await books.close(first, "unavailable", Payer.HOUSE)
    second = made(setup, 1)
    second.number, second.hold_id = 2, "req_1:2"
    await books.begin(second, settlement)
    [row] = setup.rows().values()
    assert (row.account, row.amount_nusd) == (House.FAILED, PRICE.cost_nusd(1000, 10))
    assert second.interrupts.cause is not Cause.CUT
    await setup.store.release(second.hold_id)
    assert await spent(setup) == 0
