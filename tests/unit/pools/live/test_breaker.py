"""Breakers of pools and shapes, on a time that the test passes in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.live.breaker import MISCONFIGURED_PROBE_S, OVERLOAD_PAUSE_S, PROBE_LOOK_S, PoolBreaker, ShapeBreaker
from pools.live.state import BreakerState
from pricing.clock import US_PER_S

OPEN, HALF_OPEN, CLOSED = BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED


@dataclass(frozen=True)
class Limits:
    failures: int = 5
    window_s: float = 30.0
    half_open_after_s: float = 15.0


LIMITS = Limits()


def s(seconds: float) -> int:
    return round(seconds * US_PER_S)


def opened() -> PoolBreaker:
    """A breaker that opened at second 0."""
    breaker = PoolBreaker()
    for _ in range(5):
        breaker.failure(0, "reset", LIMITS)
    return breaker


def test_five_failures_within_the_window_open_it() -> None:
    """Four do not, nor do five that are spread over more than 30 s."""
    breaker = PoolBreaker()
    for at in (0, 10, 20, 29, 30):  # the first is 30 s old when the fifth comes
        breaker.failure(s(at), "reset", LIMITS)
        assert breaker.state(s(at)) is CLOSED
    breaker.failure(s(31), "reset", LIMITS)
    assert (breaker.state(s(31)), breaker.reason(s(31)), breaker.retry_s(s(31))) == (OPEN, "reset", 15.0)


def test_half_open_lets_exactly_one_probe_try() -> None:
    """From the moment the probe is out, everyone else sees an open breaker, and a wait that is no nought."""
    breaker = opened()
    assert breaker.state(s(14.9)) is OPEN
    assert breaker.state(s(15)) is HALF_OPEN
    breaker.entered("probe", s(15))
    assert (breaker.state(s(16)), breaker.retry_s(s(16))) == (OPEN, PROBE_LOOK_S)
    breaker.left("another")
    assert breaker.state(s(16)) is OPEN


def test_the_probes_first_word_closes_it_while_the_probe_runs_on() -> None:
    """A long answer keeps nobody else waiting, nor the next probe after a later failure."""
    breaker = opened()
    breaker.entered("probe", s(15))
    breaker.speaks(s(16))
    assert breaker.state(s(16)) is CLOSED
    for _ in range(5):
        breaker.failure(s(20), "reset", LIMITS)
    assert (breaker.state(s(21)), breaker.state(s(35))) == (OPEN, HALF_OPEN)
    breaker.left("probe")
    assert breaker.state(s(35)) is HALF_OPEN


def test_a_probe_that_says_nothing_for_long_is_joined_by_another() -> None:
    """An answer that comes whole may take minutes: a second request tries after another wait, and either one's verdict
    counts.
    """
    breaker = opened()
    breaker.entered("whole", s(15))
    assert (breaker.state(s(29.5)), breaker.retry_s(s(29.5))) == (OPEN, 0.5)
    assert (breaker.state(s(30)), breaker.retry_s(s(30))) == (HALF_OPEN, 0.0)
    breaker.entered("second", s(30))
    breaker.left("whole")
    assert (breaker.state(s(44)), breaker.state(s(45))) == (OPEN, HALF_OPEN)
    breaker.speaks(s(46))
    assert breaker.state(s(46)) is CLOSED
    breaker = opened()
    breaker.entered("whole", s(15))
    breaker.entered("second", s(30))
    breaker.left("whole")
    breaker.failure(s(40), "timeout", LIMITS)
    assert (breaker.state(s(54)), breaker.state(s(55))) == (OPEN, HALF_OPEN)


def test_the_probes_success_closes_and_its_failure_opens_again() -> None:
    """One success is enough, and a failure starts the wait anew."""
    breaker = opened()
    breaker.entered("probe", s(15))
    breaker.left("probe")
    breaker.success(s(20))
    assert breaker.state(s(20)) is CLOSED
    breaker = opened()
    breaker.entered("probe", s(15))
    breaker.left("probe")
    breaker.failure(s(20), "reset", LIMITS)
    assert (breaker.state(s(34)), breaker.state(s(35))) == (OPEN, HALF_OPEN)


def test_a_probe_that_ends_without_a_verdict_leaves_it_half_open() -> None:
    """The client left: another request may be the probe."""
    breaker = opened()
    breaker.entered("probe", s(15))
    breaker.left("probe")
    assert breaker.state(s(20)) is HALF_OPEN


@pytest.mark.parametrize(("answered", "state"), [(5, OPEN), (6, CLOSED)])
def test_failures_that_may_be_the_requests_own_must_be_half_of_what_ended(answered: int, state: BreakerState) -> None:
    """Five bad requests among more good ones prove nothing about the pool; what ended before the window does not."""
    breaker = PoolBreaker()
    for _ in range(1_000):
        breaker.success(s(9))
    for _ in range(answered):
        breaker.success(s(35))
    for _ in range(5):
        breaker.failure(s(40.5), "server error", LIMITS, surely=False)
    assert breaker.state(s(40.5)) is state


def test_failures_that_only_the_pool_can_have_need_no_share() -> None:
    """An engine that died a moment ago answered thousands within the window."""
    breaker = PoolBreaker()
    for _ in range(1_000):
        breaker.success(s(35))
    for _ in range(5):
        breaker.failure(s(40), "refused", LIMITS, surely=True)
    assert breaker.state(s(40)) is OPEN


def test_older_requests_neither_close_nor_prolong_an_open_breaker() -> None:
    """What was sent before it opened says nothing about now."""
    breaker = opened()
    breaker.success(s(5))
    breaker.failure(s(6), "reset", LIMITS)
    assert (breaker.state(s(7)), breaker.state(s(15))) == (OPEN, HALF_OPEN)


def test_failures_before_it_closed_are_forgotten() -> None:
    """After a good probe it takes five new failures."""
    breaker = opened()
    breaker.success(s(16))
    for _ in range(4):
        breaker.failure(s(17), "reset", LIMITS)
    assert breaker.state(s(17)) is CLOSED


def test_overload_is_a_short_pause_and_no_failure() -> None:
    """As long as the pool asks for, or a second; then closed, without a probe."""
    breaker = PoolBreaker()
    breaker.overloaded(0, None)
    assert (breaker.state(0), breaker.reason(0)) == (OPEN, "overloaded")
    assert breaker.state(s(OVERLOAD_PAUSE_S)) is CLOSED
    for _ in range(20):
        breaker.overloaded(s(10), 7)
    assert (breaker.retry_s(s(10)), breaker.state(s(16.9)), breaker.state(s(17))) == (7.0, OPEN, CLOSED)
    breaker.overloaded(s(20), 9)
    breaker.overloaded(s(21), 1)  # a shorter one does not end a longer one
    assert breaker.state(s(28)) is OPEN


def test_a_misconfigured_pool_is_probed_once_a_minute() -> None:
    """One request tries it: where that is refused again it takes another minute; success or a reload closes it."""
    breaker = PoolBreaker()
    breaker.out_of_service(0, "refuses our credentials (HTTP 401)")
    breaker.success(s(10))
    assert (breaker.state(s(10)), breaker.misconfigured, breaker.retry_s(s(10))) == (OPEN, True, 50.0)
    assert breaker.reason(s(10)) == "refuses our credentials (HTTP 401)"
    assert breaker.state(s(MISCONFIGURED_PROBE_S)) is HALF_OPEN
    breaker.entered("probe", s(60))
    breaker.left("probe")
    breaker.out_of_service(s(61), "refuses our credentials (HTTP 401)")
    assert (breaker.state(s(120)), breaker.state(s(121))) == (OPEN, HALF_OPEN)
    breaker.success(s(121))
    assert (breaker.state(s(121)), breaker.misconfigured, breaker.reason(s(121))) == (CLOSED, False, "")
    breaker.out_of_service(s(130), "refuses our credentials (HTTP 401)")
    breaker.reloaded()
    assert breaker.state(s(130)) is CLOSED


def test_a_reload_closes_no_breaker_that_failures_opened() -> None:
    """Files say nothing about an engine that died."""
    breaker = opened()
    breaker.reloaded()
    assert breaker.state(s(1)) is OPEN


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["failure", "success", "overloaded", "entered", "state"]))))
def test_an_open_breaker_always_ends(steps: list[tuple[float, str]]) -> None:
    """Whatever happened, who comes back each time that it says finds it over, after no longer than a request may be the
    only one that tries it; and a wait is never negative.
    """
    breaker, now_us = PoolBreaker(), 0
    for pause, step in steps:
        now_us += s(pause)
        match step:
            case "failure":
                breaker.failure(now_us, "reset", LIMITS)
            case "success":
                breaker.success(now_us)
            case "overloaded":
                breaker.overloaded(now_us, 5)
            case "entered":
                breaker.entered("any", now_us)
        wait_s = breaker.retry_s(now_us)
        assert wait_s >= 0
        assert (breaker.state(now_us) is OPEN) == (wait_s > 0)
        over_us, latest_us = now_us, now_us + s(wait_s + LIMITS.half_open_after_s)
        while breaker.state(over_us) is OPEN:
            over_us += s(breaker.retry_s(over_us))
            assert over_us <= latest_us


def test_a_certain_out_of_memory_closes_that_shape_out_at_once() -> None:
    """For the cooldown, and no other shape."""
    shapes = ShapeBreaker()
    shapes.out_of_memory(14, 0, 300)
    assert (shapes.open_shapes(s(299)), shapes.retry_s(s(299))) == (frozenset({14}), 1.0)
    assert (shapes.open_shapes(s(300)), shapes.retry_s(s(300))) == (frozenset(), 0.0)


def test_a_second_death_with_the_same_largest_shape_counts_as_out_of_memory() -> None:
    """One death alone, or two with different shapes, close nothing out."""
    shapes = ShapeBreaker()
    assert [shapes.engine_died(shape, s(at), 300) for shape, at in ((14, 0), (13, 60), (14, 120))] == [
        False,
        False,
        True,
    ]
    assert shapes.open_shapes(s(120)) == {14}


def test_all_failures_of_one_death_are_one_strike() -> None:
    """A dying engine fails every request in flight within moments."""
    shapes = ShapeBreaker()
    for at in (0, 0.01, 0.5, 4.9):
        assert not shapes.engine_died(14, s(at), 300)
    assert shapes.open_shapes(s(5)) == frozenset()


def test_strikes_fade_and_are_used_up() -> None:
    """A death half an hour later is a first one again; so is one after the cooldown."""
    shapes = ShapeBreaker()
    assert not shapes.engine_died(14, 0, 300)
    assert not shapes.engine_died(14, s(1800), 300)
    assert shapes.engine_died(14, s(1900), 300)
    assert not shapes.engine_died(14, s(2300), 300)
