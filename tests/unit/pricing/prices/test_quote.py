"""Quotes: the expected bill, the expected charge, and the seconds behind them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.money import format_usd, parse_usd
from pricing.prices.quote import (
    added_alive_s,
    boots_one,
    cost_up_nusd,
    expected_bill_nusd,
    expected_charge_nusd,
    share_nusd_per_h,
)

T4 = parse_usd("0.59")
L40S = parse_usd("1.95")


def test_a_cold_cheap_pool_against_a_warm_dear_one() -> None:
    """4 s of service: the cold T4 adds 104 s and $0.0170, the L40S last used 20 s ago adds 24 s and $0.0130."""
    cold_s = added_alive_s(4, 60, alive=0, in_flight=0, target_concurrency=4)
    warm_s = added_alive_s(4, 60, alive=1, in_flight=0, target_concurrency=4, idle_s=20)
    assert (40 + cold_s, warm_s) == (104, 24)
    assert format_usd(expected_bill_nusd(T4, 1.0, 40, cold_s)) == "$0.0170"
    assert format_usd(expected_bill_nusd(L40S, 0.0, 40, warm_s)) == "$0.0130"


def test_ten_such_requests_in_a_row_are_cheaper_on_the_cheap_pool() -> None:
    """The boot is paid once: from the second request on, the T4's added seconds cost less than the L40S's."""
    following = added_alive_s(4, 60, alive=1, in_flight=0, target_concurrency=4, idle_s=0)
    cheap = expected_bill_nusd(T4, 1.0, 40, 64) + 9 * expected_bill_nusd(T4, 0.0, 40, following)
    dear = expected_bill_nusd(L40S, 0.0, 40, 24) + 9 * expected_bill_nusd(L40S, 0.0, 40, following)
    assert cheap < dear


@pytest.mark.parametrize(
    ("alive", "in_flight", "most", "boots"),
    [(0, 0, 4, True), (1, 0, 4, False), (1, 3, 4, False), (1, 4, 4, True), (2, 7, 4, False), (2, 8, 2, False)],
)
def test_what_makes_the_autoscaler_boot(alive: int, in_flight: int, most: int, boots: bool) -> None:
    """A boot comes from sleep, or from every container being at its target with one more allowed."""
    assert boots_one(alive, in_flight, 4, most) is boots


def test_a_request_beside_others_only_lengthens_the_tail() -> None:
    """Beside 3 others in one container, 8 s of service add 2 s; the window was to be paid anyway."""
    assert added_alive_s(8, 60, alive=1, in_flight=3, target_concurrency=4) == 2


def test_an_idle_container_of_a_busy_pool_counts_half_its_window() -> None:
    """Nobody knows how long the second container has been idle, so half of its window is taken off."""
    assert added_alive_s(8, 60, alive=2, in_flight=4, target_concurrency=4) == 8 + 30


def test_a_container_that_still_boots_adds_only_the_service() -> None:
    """It will live its window from when it is up; a request then moves that window by its own service."""
    assert added_alive_s(8, 60, alive=1, in_flight=0, target_concurrency=4, idle_s=0) == 8


def test_containers_kept_alive_add_nothing_until_one_more_is_needed() -> None:
    """Under min_containers the bill does not grow; the request that starts another container pays for it."""
    kept = {"alive": 1, "target_concurrency": 2, "min_containers": 1, "max_containers": 2}
    assert added_alive_s(8, 60, in_flight=0, idle_s=500, **kept) == 0
    assert added_alive_s(8, 60, in_flight=1, **kept) == 0
    assert added_alive_s(8, 60, in_flight=2, **kept) == 68


def test_a_full_pool_at_its_largest_shares_on() -> None:
    """At max_containers and above target, a request joins one of the serving containers."""
    assert added_alive_s(9, 60, alive=2, in_flight=16, target_concurrency=4, max_containers=2) == 1


@pytest.mark.parametrize(
    ("alive", "in_flight", "added_s"), [(0, 0, 8.0), (1, 0, 8.0), (1, 3, 2.0), (2, 4, 8.0), (2, 12, 8 * 2 / 14)]
)
@pytest.mark.parametrize("min_containers", [0, 2])
def test_without_a_price_for_idle_time_only_service_is_added(
    alive: int, in_flight: int, added_s: float, min_containers: int
) -> None:
    """No window follows, none is moved, and containers that are always there cost nothing until they serve."""
    kept = {"min_containers": min_containers, "max_containers": 2}
    assert added_s == pytest.approx(
        added_alive_s(
            8, 60, alive=alive, in_flight=in_flight, target_concurrency=4, idle_s=20, bills_idle=False, **kept
        )
    )


@pytest.mark.parametrize(
    ("ready", "in_flight", "share"),
    [(0, 0, 1000), (1, 0, 1000), (1, 3, 250), (1, 4, 200), (2, 4, 400), (4, 4, 400), (3, 2, 334)],
)
def test_shares_follow_the_meters_rule(ready: int, in_flight: int, share: int) -> None:
    """b·r/R with the newcomer counted, b = min(n, R, ceil(R/target)), rounded up."""
    assert share_nusd_per_h(1000, ready, in_flight, 4) == share


def test_a_charge_is_the_share_of_the_service_only() -> None:
    """$3.60 an hour shared by four is $0.00025 a second each; 8 s of it are $0.002."""
    share = share_nusd_per_h(parse_usd("3.60"), 1, 3, 4)
    assert expected_charge_nusd(share, 8.0) == parse_usd("0.002")


@given(
    st.integers(0, 10**11),
    st.integers(0, 20),
    st.integers(0, 200),
    st.integers(1, 64),
)
def test_nobody_is_quoted_more_than_one_container(rate: int, ready: int, in_flight: int, target: int) -> None:
    """A share is never above the rate, and all shares together pay at least for the containers that serve."""
    share = share_nusd_per_h(rate, ready, in_flight, target)
    running = in_flight + 1
    serving = min(max(ready, 1), running, -(-running // target))
    assert share <= rate
    assert rate * serving <= share * running < rate * serving + running


@given(
    st.floats(0, 600),
    st.floats(2, 3600),
    st.integers(0, 8),
    st.integers(0, 100),
    st.integers(1, 16),
    st.floats(0, 10_000) | st.none(),
)
def test_added_seconds_are_between_nothing_and_a_container_of_its_own(
    service_s: float, window_s: float, alive: int, in_flight: int, target: int, idle_s: float | None
) -> None:
    """No request adds less than nothing, nor more than its service and one window."""
    added_s = added_alive_s(
        service_s,
        window_s,
        alive=alive,
        in_flight=in_flight,
        target_concurrency=target,
        idle_s=idle_s,
        max_containers=8,
    )
    assert 0 <= added_s <= service_s + window_s


@given(st.integers(0, 10**12), st.floats(0, 100_000))
def test_costs_are_rounded_up_within_a_microsecond(rate: int, seconds: float) -> None:
    """The quote is at least the rate times the whole microseconds, and less than one nano-dollar above."""
    cost = cost_up_nusd(rate, seconds)
    exact_times_hour = rate * int(seconds * 1_000_000)
    assert exact_times_hour <= cost * 3_600_000_000 < exact_times_hour + 3_600_000_000
