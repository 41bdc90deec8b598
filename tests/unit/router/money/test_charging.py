"""Attempts that are billed by the token: holds that grow with what is said, cuts, and who carries the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.policy import Limits, OnExhausted, Payer, Policy
from policies.requirements import Tier
from pools.spec import TokenTerms
from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.sqlite import SqliteStore
from pricing.clock import ManualClock
from pricing.ledger.read import recent_rows
from pricing.ledger.rows import RowKind
from pricing.prices.rates import ContainerRate
from pricing.prices.token_price import TokenPrice
from router.interrupts import Cause
from router.money.accounting import Accounting, Attempt
from router.money.charging import ByTokens, tokens_said
from router.money.meters import MeteredPools
from support.chains import attempt, candidate, chain
from support.choosing import ladder, needs, rung, shipped
from support.money import cap, caps
from support.values import replace

PRICE = TokenPrice("mini", 150_000_000, 600_000_000, 75_000_000)
IN, OUT = 150, 600  # nano-dollars a token
SPEED = 50.0
RATE = ContainerRate(0, 0, 0, 0, "api-1", tokens=PRICE)
BASE = rung("qwen3-vl-8b-fp8-l4")
TERMS = TokenTerms("mini", (), 1.0, SPEED)
RUNG = replace(BASE, rate=RATE, pool=replace(BASE.pool, name="api", terms=TERMS))
ASKED = needs("chat", Tier.STANDARD, prompt=1000, output=100)


@dataclass
class Books:
    clock: ManualClock
    store: SqliteStore
    accounting: Accounting
    path: Path

    async def begun(self, request_id: str = "req_1", *, finish: bool = False, **more: Any) -> Attempt:
        limits = Limits(on_exhausted=OnExhausted.FINISH if finish else OnExhausted.CUT)
        one = ladder(RUNG, limits=limits)
        policy = replace(shipped(), rates={**shipped().rates, "api": RATE})
        under_way = chain(self.clock, ASKED, request_class=one, policy=policy)
        under_way.request_id = request_id
        given = {"expected_prompt_tokens": 1000, "output_bound": 100, "streamed": True, **more}
        made = attempt(under_way, candidate(ASKED, one), **given)
        await self.accounting.begin(made, None)
        self.accounting.dispatch(made)
        return made


def books(folder: Path, cap_nusd: int = 10**12) -> Books:
    clock = ManualClock()
    store = SqliteStore(folder / "ledger.sqlite", clock, caps(cap(cap_nusd)))
    return Books(clock, store, Accounting(store, MeteredPools(store.meters, clock), clock), folder / "ledger.sqlite")


async def test_the_first_hold_is_what_is_expected(tmp_path: Path) -> None:
    """Prompt and answer at their prices, which is more than two ticks of writing."""
    kept = books(tmp_path)
    begun = await kept.begun()
    assert begun.hold_nusd == 1000 * IN + 100 * OUT
    await kept.store.aclose()


async def test_a_hold_grows_with_what_is_said_and_not_beyond_the_bound(tmp_path: Path) -> None:
    """Two ticks ahead at twice the speed; a client's `max_tokens` ends it, unless the API goes on all the same."""
    kept = books(tmp_path)
    free, bound = await kept.begun(), await kept.begun("req_2", most_nusd=1000 * IN + 150 * OUT)
    for one in (free, bound):
        one.produced_tokens = 100
    await kept.accounting.tick()
    assert free.hold_nusd == 1000 * IN + 100 * OUT + 4 * int(SPEED) * OUT
    assert bound.hold_nusd == 1000 * IN + 150 * OUT
    bound.produced_tokens = 200
    await kept.accounting.tick()
    assert bound.hold_nusd == 1000 * IN + 200 * OUT + 4 * int(SPEED) * OUT
    await kept.store.aclose()


async def test_usage_settles_it_to_the_nano_dollar(tmp_path: Path) -> None:
    """What was estimated on the way does not matter once usage is there; time costs nothing."""
    kept = books(tmp_path)
    begun = await kept.begun()
    begun.produced_tokens = 3
    kept.clock.advance(500)
    begun.prompt_tokens, begun.completion_tokens, begun.cached_tokens = 900, 70, 400
    settlement = await kept.accounting.close(begun, "answered", Payer.TENANT)
    await kept.store.settle(settlement)
    [row] = recent_rows(kept.path, 10)
    assert row.amount_nusd == row.metered_nusd == 500 * IN + 400 * 75 + 70 * OUT
    assert (row.estimated, row.price_books) == (False, "api-1")
    await kept.store.aclose()


async def test_under_cut_the_tenant_pays_its_hold_and_the_house_the_rest(tmp_path: Path) -> None:
    """No cap has room: the answer is cut when the next tick would pass the hold; what came beyond it is the house's."""
    room = 1000 * IN + 160 * OUT
    kept = books(tmp_path, room)
    begun = await kept.begun()
    begun.produced_tokens = 150
    await kept.accounting.tick()
    assert begun.interrupts.cause is Cause.CUT
    begun.prompt_tokens, begun.completion_tokens = 1000, 400  # the provider's word, after the cut
    settlement = await kept.accounting.close(begun, "cut", Payer.TENANT)
    assert settlement.amount_nusd <= room
    kinds = {row.kind: row.amount_nusd for row in settlement.rows}
    assert kinds[RowKind.ATTEMPT] + kinds[RowKind.OVERRUN] == 1000 * IN + 400 * OUT
    await kept.store.settle(settlement)
    assert [status.spent_nusd for status in await kept.store.statuses()] == [settlement.amount_nusd]
    await kept.store.aclose()


async def test_under_finish_the_tenant_pays_what_it_came_to(tmp_path: Path) -> None:
    """As on pools that are billed by the second."""
    kept = books(tmp_path, 1000 * IN + 160 * OUT)
    begun = await kept.begun(finish=True)
    begun.prompt_tokens, begun.completion_tokens = 1000, 400
    settlement = await kept.accounting.close(begun, "answered", Payer.TENANT)
    assert (settlement.amount_nusd, settlement.may_exceed_hold) == (1000 * IN + 400 * OUT, True)
    await kept.store.aclose()


async def test_an_answer_that_comes_whole_is_held_for_by_the_clock(tmp_path: Path) -> None:
    """Nothing is heard of it until it is there: it is taken to be written at the row's speed, up to its bound."""
    kept = books(tmp_path)
    begun = await kept.begun(streamed=False)
    await kept.accounting.tick()
    assert begun.accrued_nusd == 1000 * IN
    kept.clock.advance(2)
    await kept.accounting.tick()
    assert begun.accrued_nusd == 1000 * IN + 50 * OUT
    kept.clock.advance(600)
    await kept.accounting.tick()
    assert begun.accrued_nusd == 1000 * IN + 100 * OUT
    await kept.store.aclose()


@pytest.mark.parametrize(("refused", "produced", "nusd"), [(True, 0, 0), (True, 5, 5 * OUT), (False, 0, 0)])
async def test_without_usage_what_is_known_is_charged(tmp_path: Path, refused: bool, produced: int, nusd: int) -> None:
    """An error costs nothing unless the answer had begun; a break costs its prompt and what was said, estimated."""
    kept = books(tmp_path)
    begun = await kept.begun()
    begun.refused, begun.produced_tokens = refused, produced
    prompt = 0 if refused and not produced else 1000 * IN
    assert await kept.accounting.leave_meter(begun) == prompt + nusd
    assert begun.estimated is not (refused and not produced)
    await kept.store.aclose()


async def test_nothing_of_it_enters_a_meter(tmp_path: Path) -> None:
    """A pool that is billed by the token has none, whatever is told of its containers."""
    kept = books(tmp_path)
    begun = await kept.begun()
    assert begun.hold_id not in kept.store.meters
    assert ByTokens(kept.clock).entry(begun) is None
    await kept.store.aclose()


@given(st.binary(max_size=100))
def test_a_frame_that_says_something_is_a_token_at_least(text: bytes) -> None:
    """So that a stream of single letters cannot run for nothing."""
    assert tokens_said(text) == max(1, len(text) // 4)


def of_pools(*names: str, rate: ContainerRate) -> Policy:
    """A policy of these pools, all at one rate."""
    pools = {name: replace(BASE.pool, name=name) for name in names}
    return replace(shipped(), pools=pools, rates=dict.fromkeys(names, rate))


async def test_a_pool_that_changes_its_billing_is_counted_once(tmp_path: Path) -> None:
    """From tokens to seconds on a reload, and back: containers cost only while seconds are billed."""
    clock = ManualClock()
    posted = []

    async def post(rows: Any) -> None:
        posted.extend(rows)

    pools = MeteredPools(LocalMeters(clock, post), clock)
    pools.apply(of_pools("x", rate=RATE))
    pools.set_containers("x", clock.wall_us(), 1, 0)
    clock.advance(100)
    await pools.post_house()
    assert posted == []
    pools.apply(of_pools("x", rate=BASE.rate))
    clock.advance(10)
    pools.apply(of_pools("x", rate=RATE))
    clock.advance(100)
    await pools.post_house()
    assert [(row.kind, row.duration_us) for row in posted] == [(RowKind.IDLE, 10_000_000)]
