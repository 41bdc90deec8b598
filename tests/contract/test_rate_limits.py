"""What every budget store promises of rate limits, asked of each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pricing.budgets.caps import CapTable, RateLimits, Scope, parse_scope
from pricing.budgets.store import OpenHold, RateStanding, Settlement, Standing
from pricing.errors import BudgetExceeded, RateLimited
from support.money import ACME, GLOBEX, POOL, UTC, cap, paid, wish
from support.stores import ALL_STORES, StoreSetup, running
from support.values import replace

KEY = parse_scope("key:k1")


def table(*limits: tuple[Scope, RateLimits]) -> CapTable:
    return CapTable((cap(1_000),), UTC, dict(limits))


@pytest.fixture(params=ALL_STORES)
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[StoreSetup]:
    """A store on a clock that stands at the beginning of a slot."""
    async with running(ALL_STORES[request.param](request), table()) as made:
        assert made.clock.wall_us() % 5_000_000 == 0
        yield made


def ask(number: int, tokens: int = 0, amount: int = 1, *scopes: Scope) -> OpenHold:
    return replace(wish(f"r{number}:1", amount, *(scopes or (ACME, KEY, POOL))), tokens=tokens)


async def use(setup: StoreSetup) -> list[int]:
    return [status.used for status in await setup.store.rate_statuses()]


async def test_two_hundred_at_once_pass_exactly_the_limit(setup: StoreSetup) -> None:
    """Concurrent openings share one count, in which there is no gap between looking and counting."""
    setup.use(table((ACME, RateLimits(requests_per_minute=61))))
    results = await asyncio.gather(*(setup.store.open(ask(number)) for number in range(200)), return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 61
    assert sum(isinstance(result, RateLimited) for result in results) == 139
    assert await use(setup) == [61]


async def test_a_minute_is_full_for_sixty_to_sixty_five_seconds(setup: StoreSetup) -> None:
    """What was asked in a slot of five seconds is free again once the whole slot is a minute old."""
    setup.use(table((ACME, RateLimits(requests_per_minute=1))))
    setup.clock.advance(3)
    await setup.store.open(ask(1))
    for second in (0, 30, 31.999):
        setup.clock.advance(second)
        with pytest.raises(RateLimited) as refused:
            await setup.store.open(ask(2))
    assert refused.value.retry_after_s == pytest.approx(0.001)
    setup.clock.advance(0.001)
    await setup.store.open(ask(2))


async def test_the_refusal_says_which_limit(setup: StoreSetup) -> None:
    """Its words, its numbers and the wait are the same on every store."""
    setup.use(table((ACME, RateLimits(9, 100, 2)), (KEY, RateLimits(requests_per_minute=2))))
    await setup.store.open(ask(1, 70))
    told = []
    for wanted in (ask(2, 31), ask(3, 101)):
        with pytest.raises(RateLimited) as refused:
            await setup.store.open(wanted)
        told.append(refused.value)
    await setup.store.open(ask(4, 30))
    with pytest.raises(RateLimited) as refused:
        await setup.store.open(ask(5))
    told.append(refused.value)
    await setup.store.settle(paid("r1:1", 1))
    with pytest.raises(RateLimited) as refused:
        await setup.store.open(ask(6))
    told.append(refused.value)
    assert [(one.scope, one.dimension, one.limit, one.retry_after_s) for one in told] == [
        ("tenant:acme", "tokens", 100, 65.0),
        ("tenant:acme", "tokens", 100, None),
        ("tenant:acme", "in_flight", 2, None),
        ("key:k1", "requests", 2, 65.0),
    ]
    assert str(told[0]) == (
        "rate limit of tenant `acme`: needs 31, 30 of 100 tokens per minute are left; try again in 65 s, "
        "or raise tokens_per_minute"
    )


async def test_caps_are_asked_first_and_a_refusal_counts_nothing(setup: StoreSetup) -> None:
    """All or nothing over caps and limits, in every scope."""
    setup.use(table((ACME, RateLimits(5, 100, 5)), (KEY, RateLimits(requests_per_minute=0))))
    with pytest.raises(BudgetExceeded):
        await setup.store.open(ask(1, 10, 1_001))
    with pytest.raises(RateLimited, match="key `k1`"):
        await setup.store.open(ask(2, 10))
    assert await use(setup) == [0, 0, 0, 0]
    assert await setup.left(ACME) == 1_000


async def test_an_attempt_that_goes_on_is_neither_counted_nor_refused(setup: StoreSetup) -> None:
    """The next attempt of a request passes a limit that its first has used up."""
    setup.use(table((ACME, RateLimits(1, 10, 1))))
    first = await setup.store.open(ask(1, 10))
    await setup.store.settle_and_open(paid("r1:1", 1), replace(wish("r1:2", 1), anchor_us=first.anchor_us, tokens=10))
    assert await use(setup) == [1, 10, 1]


async def test_a_settlement_stands_where_the_next_opening_is_limited(setup: StoreSetup) -> None:
    """As with caps, one step that settles and opens may do the first half."""
    setup.use(table((ACME, RateLimits(requests_per_minute=1))))
    await setup.store.open(ask(1, amount=5))
    with pytest.raises(RateLimited):
        await setup.store.settle_and_open(paid("r1:1", 5), ask(2))
    assert await setup.spent() == {"acme/day": 5}


@pytest.mark.parametrize(("more", "used"), [(-60, 20), (40, 120), (-500, 0)])
async def test_a_settlement_corrects_the_minute_of_its_request(setup: StoreSetup, more: int, used: int) -> None:
    """Given back, or added beyond the limit; never more given back than was there."""
    setup.use(table((ACME, RateLimits(tokens_per_minute=100))))
    hold = await setup.store.open(ask(1, 80))
    setup.clock.advance(40)
    await setup.store.settle(Settlement("r1:1", 0, (), more_tokens=more))
    assert await use(setup) == [used]
    setup.clock.advance(25)
    assert await use(setup) == [0]
    assert hold.standing.tokens == RateStanding(100, 20, 65.0)


async def test_a_correction_after_its_minute_changes_nothing(setup: StoreSetup) -> None:
    """An answer that took two minutes does not charge the minute in which it ended."""
    setup.use(table((ACME, RateLimits(tokens_per_minute=100))))
    await setup.store.open(replace(ask(1, 80), lease_s=600.0))
    setup.clock.advance(120)
    await setup.store.settle(Settlement("r1:1", 0, (), more_tokens=50))
    assert await use(setup) == [0]


async def test_holds_that_end_by_themselves_are_no_longer_in_flight(setup: StoreSetup) -> None:
    """A dead replica's requests free their places with their leases."""
    setup.use(table((ACME, RateLimits(in_flight=1))))
    await setup.store.open(ask(1))
    with pytest.raises(RateLimited):
        await setup.store.open(ask(2))
    setup.clock.advance(31)
    await setup.store.expire()
    await setup.store.open(ask(2))
    await setup.store.release("r2:1")
    assert await use(setup) == [0]


async def test_a_hold_says_how_its_limits_stand(setup: StoreSetup) -> None:
    """The tightest of each rate, and of the caps."""
    setup.use(table((ACME, RateLimits(10, 1_000)), (KEY, RateLimits(3))))
    hold = await setup.store.open(ask(1, 200, 100))
    assert hold.standing == Standing(900, RateStanding(3, 2, 65.0), RateStanding(1_000, 800, 65.0))


async def test_others_are_not_limited(setup: StoreSetup) -> None:
    """A limit is its own scope's; a hold of others says nothing of it."""
    setup.use(table((ACME, RateLimits(0, 0, 0))))
    hold = await setup.store.open(ask(1, 9, 1, GLOBEX))
    assert hold.standing == Standing()


async def test_what_was_in_flight_is_known_after_a_restart(setup: StoreSetup) -> None:
    """Open holds are remembered; what was asked in the last minute only where the store outlives the process."""
    setup.use(table((ACME, RateLimits(in_flight=1))))
    await setup.store.open(ask(1))
    await setup.restart()
    with pytest.raises(RateLimited):
        await setup.store.open(ask(2))
