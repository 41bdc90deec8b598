"""What an amount rests on: a platform's list that was fresh all the while, or what answers let the router believe."""

from __future__ import annotations

import pytest

from pricing.budgets.meters_local import LocalMeters
from pricing.budgets.store import MeterEntry
from pricing.clock import ManualClock
from pricing.ledger.rows import Evidence, LedgerRow, RowKind
from pricing.meter.pool import LIST_GOOD_FOR_US, PoolMeter
from support.money import house_row

RATE = 3_600_000_000  # a million nano-dollars a second
S = 1_000_000
START = 1_000 * S
OBSERVED, MODELLED = Evidence.OBSERVED, Evidence.MODELLED


def listed(ready: int = 1, booting: int = 0) -> PoolMeter:
    """A meter that a list came for at START."""
    meter = PoolMeter("l4", RATE, 4, START - 100 * S)
    meter.set_containers(START, ready, booting, listed=True)
    meter.listed(START)
    return meter


def left(meter: PoolMeter, entered_us: int, left_us: int) -> Evidence:
    meter.enter(entered_us, "a")
    meter.leave(left_us, "a")
    return meter.evidence(entered_us)


def test_a_request_on_listed_containers_is_observed() -> None:
    """As long as the list is fresh to its last microsecond."""
    assert left(listed(), START, START + LIST_GOOD_FOR_US) is OBSERVED
    assert left(listed(), START, START + LIST_GOOD_FOR_US + 1) is MODELLED


def test_a_list_that_comes_again_keeps_it_observed() -> None:
    """Each list is good for as long as the first."""
    meter = listed()
    meter.enter(START, "a")
    for seconds in range(15, 301, 15):
        meter.listed(START + seconds * S)
    meter.leave(START + 310 * S, "a")
    assert meter.evidence(START) is OBSERVED


def test_a_gap_in_the_lists_marks_what_ran_in_it_and_nothing_later() -> None:
    """A request that enters after lists came again is observed, one that ran through the gap is not."""
    meter = listed()
    meter.enter(START, "through")
    meter.listed(START + 2 * LIST_GOOD_FOR_US)
    assert left(meter, START + 2 * LIST_GOOD_FOR_US, START + 2 * LIST_GOOD_FOR_US + S) is OBSERVED
    meter.leave(START + 2 * LIST_GOOD_FOR_US + 2 * S, "through")
    assert meter.evidence(START) is MODELLED


def test_a_container_that_is_assumed_is_modelled() -> None:
    """The list shows none that is ready, and yet a request runs."""
    assert left(listed(ready=0, booting=1), START, START + S) is MODELLED


def test_without_a_list_all_is_modelled() -> None:
    """Answers prove a container; since when it lives, and until when, is believed."""
    meter = PoolMeter("l4", RATE, 4, START)
    meter.set_containers(START, 1, 0)
    assert left(meter, START + S, START + 2 * S) is MODELLED
    assert meter.drain(START + 3 * S).evidence is MODELLED


def test_a_row_of_the_house_is_observed_if_all_its_time_was() -> None:
    """A gap marks the row that it falls into, and not the next; time without containers needs no list."""
    meter = listed()
    assert meter.drain(START + S).evidence is OBSERVED
    assert meter.drain(START + LIST_GOOD_FOR_US + S).evidence is MODELLED
    meter.set_containers(START + LIST_GOOD_FOR_US + S, 0, 0, listed=True)
    assert meter.drain(START + 9 * LIST_GOOD_FOR_US).evidence is OBSERVED


@pytest.mark.parametrize(
    ("steps", "boots"),
    [
        ([(1, 0, True), (0, 3, True), (2, 1, True)], 2),  # one was there when the list began
        ([(0, 0, True), (1, 0, True), (0, 1, True), (1, 0, True)], 1),  # one ended while another booted: not seen
        ([(0, 0, True), (0, 1, True), (1, 0, True), (0, 0, True), (2, 0, True)], 3),
        ([(1, 0, False), (3, 0, True), (3, 1, True)], 1),  # what answers told, then what the list shows
        ([(0, 1, False), (1, 0, False), (0, 0, False), (0, 1, False)], 2),
    ],
)
def test_containers_that_began_to_boot_are_counted(steps: list[tuple[int, int, bool]], boots: int) -> None:
    """Those that are more than before, but for those of which nobody knows since when they live."""
    meter = PoolMeter("l4", RATE, 4, START)
    for ready, booting, by_list in steps:
        meter.set_containers(START, ready, booting, listed=by_list)
    assert meter.drain(START).boots == boots
    assert meter.drain(START).boots == 0


async def test_charges_and_rows_say_it() -> None:
    """A charge says what it rests on however often it is asked for; boots are in boot rows."""
    clock, written = ManualClock(), list[LedgerRow]()

    async def post(rows: list[LedgerRow]) -> None:
        written.extend(rows)

    meters = LocalMeters(clock, post)  # type: ignore[arg-type]
    meters.set_rate("l4", clock.wall_us(), RATE, 4)
    meters.set_containers("l4", clock.wall_us(), 1, 1, listed=True)
    meters.listed("l4", clock.wall_us())
    meters.listed("unknown", clock.wall_us())
    meters.enter(MeterEntry("l4"), "seen")
    clock.advance(2)
    meters.enter(MeterEntry("l4"), "ended")
    meters.drop("ended")
    assert [(await meters.leave("l4", name)).evidence for name in ("seen", "seen", "ended")] == [OBSERVED] * 3
    await meters.post_house({"l4": house_row("", RowKind.IDLE, 0, 0)})
    meters.enter(MeterEntry("l4"), "late")
    clock.advance(100)
    assert (await meters.leave("l4", "late")).evidence is MODELLED
    await meters.post_house({"l4": house_row("", RowKind.IDLE, 0, 0)})
    assert [(row.kind, row.boots, row.evidence) for row in written] == [
        (RowKind.BOOT, 1, OBSERVED),
        (RowKind.BOOT, 0, MODELLED),
    ]
