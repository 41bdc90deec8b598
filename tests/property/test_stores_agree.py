"""The Redis store says step by step what the budget book says: amounts, refusals, rates, warnings."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.budgets.account import CapWarning
from pricing.budgets.book import BudgetBook, Held
from pricing.budgets.caps import Cap, CapTable, RateLimits, Scope, TemporaryRaise, Unlimited, parse_scope, parse_window
from pricing.budgets.store import Hold, OpenHold
from pricing.clock import US_PER_S, ManualClock
from pricing.errors import BudgetExceeded, HoldEnded, PricingError, RateLimited
from pricing.redis.store import RedisStore
from support.budget_machine import OTHERS, TENANTS, ZONE
from support.money import paid, row
from support.real_redis import RedisServer
from support.stores import RedisBackend

KEY = parse_scope("key:k1")
BEGIN_S = 1_767_225_600

scope_sets = st.tuples(st.sampled_from(TENANTS), st.sets(st.sampled_from([*OTHERS, KEY]))).map(
    lambda chosen: (chosen[0], *sorted(chosen[1], key=str))
)
raises = st.builds(
    TemporaryRaise, st.integers(0, 60), st.integers(BEGIN_S, BEGIN_S + 40 * 86_400).map(lambda s: s * US_PER_S)
)
caps_of = st.builds(
    Cap,
    name=st.sampled_from(["day", "week", "all"]),
    scope=st.sampled_from([*TENANTS, *OTHERS]),
    amount_nusd=st.one_of(st.integers(0, 60), st.just(Unlimited.UNLIMITED)),
    window=st.sampled_from(["15m", "24h", "7d", "30d", "1mo"]).map(parse_window),
    warn_permille=st.sampled_from([None, 1, 333, 800, 1000]),
    lower_tier_permille=st.sampled_from([None, 500]),
    raises=st.lists(raises, max_size=2).map(tuple),
)
some_limit = st.one_of(st.none(), st.integers(0, 6))
# Who is limited stays the same: the book forgets what a scope asked for when nothing limits it any more.
limits_of = st.fixed_dictionaries(
    {
        scope: st.builds(RateLimits, some_limit, st.one_of(st.none(), st.integers(0, 40)), some_limit)
        for scope in (*TENANTS, KEY)
    }
)
tables = st.builds(
    lambda caps, limits: CapTable(tuple({(cap.scope, cap.name): cap for cap in caps}.values()), ZONE, limits),
    st.lists(caps_of, max_size=5),
    limits_of,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), scope_sets, st.integers(0, 15), st.integers(0, 12), st.booleans()),
        st.tuples(st.just("extend"), st.integers(0, 3), st.integers(0, 40)),
        st.tuples(st.just("settle"), st.integers(0, 3), st.integers(0, 20), st.booleans(), st.integers(-12, 9)),
        st.tuples(st.just("wait"), st.one_of(st.integers(0, 20), st.sampled_from([65, 900, 86_400, 8 * 86_400]))),
        st.tuples(st.just("expire")),
        st.tuples(st.just("caps"), tables),
    ),
    max_size=25,
)
Answer = tuple[object, ...]


class Twins:
    """The same steps on a book in memory and on Redis; each answers with what a caller could see."""

    def __init__(self, backend: RedisBackend, clock: ManualClock, table: CapTable) -> None:
        self.clock = clock
        self.told: tuple[list[CapWarning], list[CapWarning]] = ([], [])
        self.book = BudgetBook(table, clock.wall_us(), self.told[0].append)
        self.backend = backend
        self.table = table
        self.redis: RedisStore
        self.ids: list[str] = []
        self.anchors: dict[str, int] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.redis = await self.backend.start(self.clock, self.table, self.told[1].append)
        yield
        await self.backend.stop(self.redis)

    @property
    def times(self) -> tuple[int, int]:
        return self.clock.wall_us(), self.clock.mono_us()

    async def open(self, scopes: tuple[Scope, ...], amount: int, tokens: int, chained: bool) -> tuple[Answer, Answer]:
        hold_id = f"r{len(self.ids) + 1}:1"
        anchor = self.anchors.get(self.ids[-1]) if chained and self.ids else None
        wish = OpenHold(hold_id, hold_id, scopes, amount, 30.0, anchor, row(hold_id, amount), tokens)
        self.ids.append(hold_id)
        mine = self._said(lambda: self._opened(self.book.open(wish, *self.times)))
        other = await self._replied(self.redis.open(wish))
        await self.redis.extend([(hold_id, 0)])  # a first tick; before it, a hold that expires is not charged in Redis
        self.anchors[hold_id] = anchor or self.clock.wall_us()
        return mine, other

    async def extend(self, back: int, amount: int) -> tuple[Answer, Answer]:
        hold_id = self._id(back)
        return (self.book.extend(hold_id, amount, *self.times),), tuple(await self.redis.extend([(hold_id, amount)]))

    async def settle(self, back: int, amount: int, finish: bool, more: int) -> tuple[Answer, Answer]:
        hold_id = self._id(back)
        if self.book.has_expired(hold_id):
            return (), ()
        settlement = paid(hold_id, amount, may_exceed_hold=finish, more_tokens=more)
        mine = self._said(lambda: self._settled(hold_id, amount, finish, more))
        return mine, await self._replied(self.redis.settle(settlement))

    async def wait(self, seconds: int) -> tuple[Answer, Answer]:
        self.clock.advance(seconds)
        return (), ()

    async def expire(self) -> tuple[Answer, Answer]:
        mine = sorted(held.hold_id for held in self.book.expire(*self.times))
        return tuple(mine), tuple(sorted(await self.redis.expire()))

    async def caps(self, table: CapTable) -> tuple[Answer, Answer]:
        self.book.replace_caps(table, self.clock.wall_us())
        self.redis.replace_caps(table)
        return (), ()

    async def views(self) -> tuple[Answer, Answer]:
        """What is said of every cap and limit, and of a request that comes next."""
        wall_us = self.clock.wall_us()
        scopes = (*TENANTS, *OTHERS)
        statuses = await self.redis.statuses()
        self.redis.refusal(scopes, 7)
        await self.redis.refresh(scopes)
        mine = (
            self.book.statuses(wall_us),
            self.book.room(scopes, wall_us),
            _seen(self.book.refusal(scopes, 7, wall_us)),
            list(self.book.rate_statuses(wall_us)),
        )
        other = (
            statuses,
            self.redis.room(scopes),
            _seen(self.redis.refusal(scopes, 7)),
            await self.redis.rate_statuses(),
        )
        return mine, other

    def _settled(self, hold_id: str, amount: int, finish: bool, more: int) -> None:
        self.book.settle(hold_id, amount, self.clock.wall_us(), may_exceed_hold=finish, more_tokens=more)

    def _opened(self, held: Held) -> Hold:
        wall_us, mono_us = self.times
        return held.as_hold(mono_us, self.book.standing(held, wall_us))

    def _id(self, back: int) -> str:
        return self.ids[-1 - back] if back < len(self.ids) else "never:1"

    def _said(self, ask: Callable[[], object]) -> Answer:
        try:
            return (ask(),)
        except (PricingError, ValueError) as error:
            return _seen(error)

    async def _replied(self, asked: Any) -> Answer:
        try:
            return (await asked,)
        except (PricingError, ValueError) as error:
            return _seen(error)


def _seen(error: Exception | None) -> Answer:
    match error:
        case BudgetExceeded():
            return "budget", error.shortfall, str(error)
        case RateLimited():
            return "rate", error.scope, error.dimension, error.limit, error.retry_after_s, str(error)
        case HoldEnded():
            return ("ended",)
        case None:
            return ("fits",)
    return type(error).__name__, str(error)


async def run(server: RedisServer, table: CapTable, sequence: list[Any]) -> None:
    twins = Twins(RedisBackend(server), ManualClock(), table)
    async with twins.running():
        for name, *args in sequence:
            mine, other = await getattr(twins, name)(*args)
            assert other == mine, name
            mine, other = await twins.views()
            assert other == mine, name
        assert twins.told[1] == twins.told[0]


@settings(max_examples=50)
@given(table=tables, sequence=steps)
def test_both_say_the_same_of_every_step(redis_server: RedisServer, table: CapTable, sequence: list[Any]) -> None:
    """Any steps of any requests, under any caps and limits: the same amounts, the same errors with the same words, the
    same time at which there is room again, the same warnings.
    """
    asyncio.run(run(redis_server, table, sequence))
