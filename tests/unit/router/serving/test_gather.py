"""The facts of a decision are what memory holds now, narrowed by what the request has left."""

from __future__ import annotations

from pathlib import Path

from policies.choose.facts import PastAttempt
from pools.failures.classes import FailureClass
from pools.live.all_pools import LivePools, LiveSettings
from pricing.budgets.sqlite import SqliteStore
from pricing.clock import ManualClock
from router.serving.gather import Gatherer
from support.chains import chain
from support.choosing import needs, shipped
from support.money import cap, caps
from support.values import replace

POOL = "qwen3-vl-8b-fp8-l4"
USD = 10**9


def gatherer(folder: Path, clock: ManualClock) -> Gatherer:
    live = LivePools(clock, on_change=lambda *_: None, on_missed=lambda *_: None)
    live.configure({POOL: LiveSettings(60.0, 120.0, always_on=1)})
    table = caps(cap(5 * USD), cap(3 * USD, scope="tag:team"), cap(7 * USD, scope=f"pool:{POOL}"))
    return Gatherer(live, SqliteStore(folder / "ledger.sqlite", clock, table), clock)


async def test_deadline_and_money_shrink_as_a_chain_goes_on(tmp_path: Path) -> None:
    """What has passed and what was spent is not there any more; money never goes below 0."""
    clock = ManualClock()
    found = gatherer(tmp_path, clock)
    under_way = chain(clock, needs("chat"))
    assert found.of_chain(under_way).chain_left_nusd is None
    under_way.cost_limit_nusd, under_way.spent_nusd = 1_000, 400
    under_way.past.append(PastAttempt(POOL, FailureClass.TIMEOUT))
    clock.advance(100)
    facts = found.of_chain(under_way)
    assert (facts.requirements.deadline_s, facts.chain_left_nusd) == (20.0, 600)
    assert facts.past == tuple(under_way.past)
    under_way.spent_nusd = 5_000
    assert found.of_chain(under_way).chain_left_nusd == 0
    await found.store.aclose()


async def test_a_client_s_own_deadline_bounds_the_choosing(tmp_path: Path) -> None:
    """A pool that is too slow for the client is none that can serve it."""
    clock = ManualClock()
    found = gatherer(tmp_path, clock)
    assert found.of_chain(chain(clock, needs("chat"), client_s=4)).requirements.deadline_s == 4.0
    assert found.of_chain(chain(clock, needs("chat"), client_s=400)).requirements.deadline_s == 120.0
    await found.store.aclose()


async def test_room_is_the_tightest_cap_of_the_request(tmp_path: Path) -> None:
    """Tenant, key, class, route and tags count; a pool's own cap is told apart, for that pool alone."""
    clock = ManualClock()
    found = gatherer(tmp_path, clock)
    table = caps(cap(7 * USD, scope=f"pool:{POOL}"))
    facts = found.of_chain(chain(clock, needs("chat"), policy=replace(shipped(), caps=table)))
    assert (facts.room.left_nusd, facts.room.cap) == (3 * USD, "tag:team/day")
    assert {pool: room.left_nusd for pool, room in facts.pool_rooms.items()} == {POOL: 7 * USD}
    assert facts.states[POOL].ready == 1
    assert found.of_chain(chain(clock, needs("chat"))).pool_rooms == {}
    await found.store.aclose()
