"""Container counts that are learnt late."""

from dataclasses import dataclass

from pricing.lifetimes import ContainerWatch
from pricing.meter import PoolMeter

S = 1_000_000
RATE = 1000 * 3600


@dataclass(frozen=True)
class Life:
    id: str
    started_us: int
    ready_us: int | None


def start() -> tuple[PoolMeter, ContainerWatch]:
    meter = PoolMeter("l4", RATE, 1, now_us=0)
    return meter, ContainerWatch(meter, 0)


def test_a_boot_seen_late_is_booked_in_full() -> None:
    """A container that began between two looks has its whole boot in the boot row."""
    meter, watch = start()
    watch.observe(10 * S, [Life("a", 4 * S, None)])
    assert meter.drain(10 * S).boot_us == 6 * S


def test_ready_time_seen_late_is_an_adjustment() -> None:
    """A container found ready was booting and idle before: its boot is boot, the rest is adjustment."""
    meter, watch = start()
    watch.observe(10 * S, [Life("a", 1 * S, 7 * S)])
    cost = meter.drain(10 * S)
    assert (cost.boot_us, cost.adjustment_us, cost.idle_us) == (6 * S, 3 * S, 0)


def test_boot_counted_too_long_is_taken_back() -> None:
    """Between looks the meter went on booting; the time it was ready moves from boot to adjustment."""
    meter, watch = start()
    watch.observe(2 * S, [Life("a", 1 * S, None)])
    watch.observe(10 * S, [Life("a", 1 * S, 5 * S)])
    cost = meter.drain(10 * S)
    assert (cost.boot_us, cost.adjustment_us) == (4 * S, 5 * S)


def test_an_assumed_container_that_turns_out_real_is_counted_once() -> None:
    """A request ran before its container was reported; the adjustment takes only what was not metered as busy."""
    meter, watch = start()
    meter.enter(4 * S, "A")
    meter.leave(6 * S, "A")
    watch.observe(10 * S, [Life("a", 1 * S, 3 * S)])
    totals = meter.totals(10 * S)
    assert (totals.boot_us, totals.busy_us, totals.adjustment_us) == (2 * S, 2 * S, 5 * S)


def test_an_assumed_container_that_never_was_is_taken_back() -> None:
    """A request that ran against nothing keeps its charge; the adjustment brings the sum back to what lived."""
    meter, watch = start()
    meter.enter(4 * S, "A")
    assert meter.leave(6 * S, "A") == 2000
    watch.observe(10 * S, [])
    assert meter.drain(10 * S).adjustment_nusd == -2000


def test_a_container_that_is_gone_keeps_what_was_counted() -> None:
    """Nobody says when it ended; the meter's count until this look stands."""
    meter, watch = start()
    watch.observe(1 * S, [Life("a", 0, 0)])
    watch.observe(5 * S, [])
    totals = meter.totals(9 * S)
    assert (totals.idle_us, totals.adjustment_us) == (4 * S, 1 * S)


def test_one_goes_and_one_comes_between_two_looks() -> None:
    """Equal counts hide nothing: the newcomer's boot is booked beside the time of the one that went."""
    meter, watch = start()
    watch.observe(0, [Life("a", 0, 0)])
    watch.observe(10 * S, [Life("b", 8 * S, None)])
    totals = meter.totals(10 * S)
    assert (totals.idle_us, totals.boot_us, totals.adjustment_us) == (10 * S, 2 * S, 0)
