"""What a decision expects of pools whose provider does not bill every phase."""

from __future__ import annotations

from policies.choose.decide import decide
from policies.choose.decision import Candidate
from policies.policy import Rung
from pools.live.state import PoolState
from pricing.prices.billed import Billed
from pricing.prices.quote import cost_up_nusd
from support.choosing import facts, ladder, needs, rung
from support.values import replace

ASKED = needs("chat")
DEAR = rung("qwen3-vl-8b-bf16-l40s")


def billing(billed: Billed, **pool: int) -> Rung:
    """The L40S pool under a book that bills these phases."""
    return replace(DEAR, rate=replace(DEAR.rate, billed=billed), pool=replace(DEAR.pool, **pool))


def priced(one: Rung, state: PoolState) -> Candidate:
    chosen = decide(facts(ASKED, ladder(one), {one.pool.name: state})).chosen
    assert chosen is not None
    return chosen


def test_a_free_boot_is_waited_for_and_costs_nothing() -> None:
    """A chain's limit has no boot in it then, and the bill is less by just that; so is it by a window that is free."""
    asleep, boots, windows = PoolState(), Billed(boot=False), Billed(idle=False)
    all_billed, no_boot, no_window = (priced(billing(each), asleep) for each in (Billed(), boots, windows))
    rate, window_s = DEAR.rate.nusd_per_h, DEAR.pool.scaledown_window_s
    assert (all_billed.boot_nusd, no_boot.boot_nusd) == (cost_up_nusd(rate, DEAR.boot_s), 0)
    assert no_boot.wait_s == all_billed.wait_s == DEAR.boot_s
    assert abs(all_billed.expected_bill_nusd - no_boot.expected_bill_nusd - all_billed.boot_nusd) <= 1
    window_nusd = cost_up_nusd(rate, window_s)
    assert abs(all_billed.expected_bill_nusd - no_window.expected_bill_nusd - window_nusd) <= 1
    assert no_boot.expected_charge_nusd == no_window.expected_charge_nusd == all_billed.expected_charge_nusd
    assert (ladder(billing(boots)).dearest_boot_nusd, ladder(DEAR).dearest_boot_nusd > 0) == (0, True)


def test_a_container_that_is_kept_costs_its_service_where_idling_is_free() -> None:
    """Where it is paid for anyway, one more request costs nothing."""
    kept = PoolState(ready=1, idle_s=10.0)
    paid, free = (priced(billing(Billed(idle=idle), min_containers=1), kept) for idle in (True, False))
    assert paid.expected_bill_nusd == 0
    assert free.expected_bill_nusd == cost_up_nusd(DEAR.rate.nusd_per_h, free.expected_s)
