"""The fair-share clock of a pool."""

import pytest

from pricing.meter.pool import PoolMeter
from pricing.prices.billed import Billed

S = 1_000_000
RATE = 1000 * 3600  # nano-dollars per hour: 1000 a second


def make_meter(target_concurrency: int = 2, ready: int = 1, booting: int = 0) -> PoolMeter:
    meter = PoolMeter("l4", RATE, target_concurrency, now_us=0)
    meter.set_containers(0, ready, booting)
    return meter


def test_the_worked_example_of_the_design() -> None:
    """Two requests over one and then two containers pay 5000 and 4000, and 1000 is idle."""
    meter = PoolMeter("l4", RATE, target_concurrency=1, now_us=0)
    meter.set_containers(0, ready=1, booting=0)
    meter.enter(0, "A")
    meter.enter(2 * S, "B")
    meter.set_containers(4 * S, ready=2, booting=0)
    assert meter.leave(6 * S, "A") == 5000
    assert meter.leave(7 * S, "B") == 4000
    totals = meter.totals(7 * S)
    assert (totals.busy_nusd, totals.idle_nusd, totals.charged_nusd) == (9000, 1000, 9000)
    assert totals.busy_us == 9 * S


def test_a_lone_request_pays_the_whole_container() -> None:
    """With nobody to share with, a request costs rate × time."""
    meter = make_meter()
    meter.enter(0, "A")
    assert meter.share_nusd_per_h(S, "A") == RATE
    assert meter.accrued(S, "A") == 1000
    assert meter.leave(3 * S, "A") == 3000


def test_the_last_to_leave_takes_the_remainder() -> None:
    """Thirds of a nano-dollar are not lost: three requests that share 1000 nano-dollars pay 1000 together."""
    meter = make_meter(target_concurrency=3)
    for name in "ABC":
        meter.enter(0, name)
    assert sum(meter.leave(S, name) for name in "ABC") == 1000


def test_weights_share_one_container_in_proportion() -> None:
    """On one container a request of weight 3 pays three times what one of weight 1 pays."""
    meter = make_meter()
    meter.enter(0, "A", weight=3)
    meter.enter(0, "B", weight=1)
    assert (meter.leave(4 * S, "A"), meter.leave(4 * S, "B")) == (3000, 1000)


def test_a_heavy_request_pays_one_container_at_most() -> None:
    """With two containers serving, weight 9 of 10 pays one container's rate and the other request pays the other."""
    meter = make_meter(target_concurrency=1, ready=2)
    meter.enter(0, "A", weight=9)
    meter.enter(0, "B", weight=1)
    assert meter.share_nusd_per_h(S, "A") == meter.share_nusd_per_h(S, "B") == RATE
    assert (meter.leave(4 * S, "A"), meter.leave(4 * S, "B")) == (4000, 4000)


def test_a_heavy_request_goes_back_to_sharing_when_a_container_goes() -> None:
    """A request set apart while two containers served pays its weighted part once only one does."""
    meter = make_meter(target_concurrency=1, ready=2)
    meter.enter(0, "A", weight=3)
    meter.enter(0, "B", weight=1)
    meter.set_containers(1 * S, ready=1, booting=0)
    assert (meter.leave(5 * S, "A"), meter.leave(5 * S, "B")) == (1000 + 3000, 1000 + 1000)


def test_a_price_change_takes_effect_at_its_instant() -> None:
    """What ran before a new price book keeps its old price."""
    meter = make_meter()
    meter.enter(0, "A")
    meter.set_rate(2 * S, 2 * RATE)
    assert meter.leave(3 * S, "A") == 2000 + 2000


def test_a_clock_that_steps_back_stands_still() -> None:
    """Time never runs backwards for the meter, and nothing is charged twice."""
    meter = make_meter()
    meter.enter(5 * S, "A")
    meter.enter(3 * S, "B")
    meter.leave(4 * S, "B")
    assert meter.leave(6 * S, "A") == 1000


def test_a_request_on_a_pool_believed_empty_is_metered_on_one_assumed_container() -> None:
    """The request pays as if one container served it; the adjustment takes back what nobody has reported."""
    meter = make_meter(ready=0)
    meter.enter(0, "A")
    assert meter.leave(2 * S, "A") == 2000
    totals = meter.totals(5 * S)
    assert (totals.assumed_us, totals.adjustment_nusd, totals.idle_us) == (2 * S, -2000, 0)
    meter.missed("ready", 3 * S)  # it was there for three seconds, as is learnt later
    assert meter.totals(5 * S).adjustment_nusd == 1000


def test_all_phases_together_are_the_containers_that_were_told() -> None:
    """A request that runs while containers are only booting is charged, and adds no container to the bill."""
    meter = make_meter(ready=0, booting=2)
    meter.enter(1 * S, "A")
    totals = meter.totals(3 * S)
    assert (totals.boot_us, totals.busy_us, totals.adjustment_us) == (6 * S, 2 * S, -2 * S)


def test_time_learnt_late_goes_to_boot_and_adjustment() -> None:
    """Settled charges stay: the boot row and the adjustment row take what was missed, also when it is negative."""
    meter = make_meter(ready=0)
    meter.missed("boot", 3 * S)
    meter.missed("ready", -1 * S)
    cost = meter.drain(0)
    assert (cost.boot_nusd, cost.boot_us, cost.adjustment_nusd, cost.adjustment_us) == (3000, 3 * S, -1000, -S)


def free_when_idle() -> PoolMeter:
    """One that asks for a container for each request; nobody pays for idle time or boots."""
    return PoolMeter("l4", RATE, 1, 0, Billed(boot=False, idle=False))


def test_what_is_not_billed_is_counted_and_costs_nothing() -> None:
    """Boot and idle seconds are there, without money; a later book bills them from its own instant on."""
    meter = free_when_idle()
    meter.set_containers(0, ready=2, booting=1)
    meter.enter(0, "A")
    assert meter.leave(3 * S, "A") == 3000
    meter.set_rate(4 * S, RATE)
    cost = meter.drain(6 * S)
    assert (cost.boot_us, cost.boot_nusd) == (6 * S, 2000)
    assert (cost.idle_us, cost.idle_nusd) == (3 * S + 2 * S + 4 * S, 4000)


def test_time_learnt_late_is_busy_as_far_as_requests_asked_for_it() -> None:
    """Two requests on one container that was known, 5 s long, and 8 s of another one: it served for 5 s, and idled for
    3 s at no price. A second time that it was missed is idle: those 5 s have been counted.
    """
    meter = free_when_idle()
    meter.set_containers(0, ready=1, booting=0)
    meter.enter(0, "A")
    meter.enter(0, "B")
    meter.totals(5 * S)
    meter.missed("boot", 2 * S)
    meter.missed("ready", 8 * S)
    meter.missed("ready", 1 * S)
    cost = meter.drain(5 * S)
    assert (cost.boot_nusd, cost.boot_us, cost.adjustment_nusd, cost.adjustment_us) == (0, 2 * S, 5000, 9 * S)


def test_a_request_that_nobody_knew_a_container_of_is_billed_once() -> None:
    """The adjustment takes its time back until a list shows where it ran; then all is what it was charged."""
    meter = free_when_idle()
    meter.enter(0, "A")
    meter.totals(4 * S)
    meter.missed("ready", 6 * S)  # for two seconds of which it idled
    meter.set_containers(4 * S, ready=1, booting=0)
    assert meter.leave(4 * S, "A") == 4000
    assert meter.totals(4 * S).adjustment_nusd == 0


def test_time_that_is_taken_back_was_idle_as_far_as_any_was() -> None:
    """A container was thought alive for 5 s too long, in 3 s of which one too many counted as serving."""
    meter = free_when_idle()
    meter.set_containers(0, ready=2, booting=0)
    meter.enter(0, "A")
    meter.enter(2 * S, "B")  # one idled for 2 s
    meter.totals(5 * S)
    meter.missed("ready", -5 * S)
    assert (meter.totals(5 * S).adjustment_nusd, meter.totals(5 * S).adjustment_us) == (-3000, -5 * S)


def test_a_list_that_shows_all_ends_what_may_have_been_missed() -> None:
    """What was idle or asked for before it is no part of what a later list corrects."""
    meter = free_when_idle()
    meter.set_containers(0, ready=1, booting=0)
    meter.enter(2 * S, "A")
    meter.enter(2 * S, "B")
    meter.listed(4 * S)
    meter.missed("ready", -1 * S)
    meter.missed("ready", 3 * S)
    assert meter.totals(4 * S).adjustment_nusd == -1000


def test_drains_add_up_to_the_totals() -> None:
    """Draining often gives the same sum as draining once, however small the pieces."""
    meter = PoolMeter("l4", 7, 1, now_us=0)
    meter.set_containers(0, ready=1, booting=1)
    drains = [meter.drain(second * 37 * S) for second in range(1, 500)]
    totals = meter.totals(499 * 37 * S)
    assert sum(drain.idle_nusd for drain in drains) == totals.idle_nusd
    assert sum(drain.boot_us for drain in drains) == totals.boot_us


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_below_one_is_refused(weight: int) -> None:
    """A request without weight would run for free."""
    with pytest.raises(ValueError, match="below 1"):
        make_meter().enter(0, "A", weight)


def test_one_member_cannot_enter_twice() -> None:
    """A second entry of the same name would lose the first one's cost."""
    meter = make_meter()
    meter.enter(0, "A")
    with pytest.raises(ValueError, match="already running"):
        meter.enter(1, "A")


def test_someone_who_never_entered_cannot_leave() -> None:
    """Leaving twice is a bug of the caller and shows as one."""
    with pytest.raises(KeyError):
        make_meter().leave(0, "A")


def test_impossible_settings_are_refused() -> None:
    """A negative rate, a target of zero or a negative count cannot be metered."""
    with pytest.raises(ValueError, match="rate"):
        PoolMeter("l4", -1, 1, 0)
    with pytest.raises(ValueError, match="target"):
        PoolMeter("l4", 1, 0, 0)
    with pytest.raises(ValueError, match="0 or more"):
        make_meter().set_containers(0, -1, 0)
