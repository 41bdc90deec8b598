"""The scaled clock: two that share speedup and origin agree, whenever each was made."""

from __future__ import annotations

import pytest

from pricing.clock import US_PER_S, ScaledClock

ORIGIN_US = 1_700_000_000 * US_PER_S


def test_clocks_of_one_origin_agree() -> None:
    """Made one after the other, they show one time: the second is not behind by what passed in between."""
    first = ScaledClock(10.0, ORIGIN_US)
    second = ScaledClock(10.0, ORIGIN_US)
    before_us, shown_us, after_us = first.wall_us(), second.wall_us(), first.wall_us()
    assert before_us - 1000 <= shown_us <= after_us + 1000  # a millisecond for the two roots of the machine's time


def test_time_is_stretched_about_the_origin() -> None:
    """At the origin scaled and real time are the same; what has passed since counts ten times."""
    real_us = ScaledClock(1.0).wall_us()
    scaled_us = ScaledClock(10.0, ORIGIN_US).wall_us()
    assert scaled_us - ORIGIN_US == pytest.approx(10 * (real_us - ORIGIN_US), abs=10 * US_PER_S)


def test_without_an_origin_it_begins_at_the_present() -> None:
    """A clock of its own starts at the machine's time."""
    assert ScaledClock(50.0).wall_us() == pytest.approx(ScaledClock(1.0).wall_us(), abs=US_PER_S * 10)


def test_a_clock_that_stands_still_is_refused() -> None:
    """A speedup of 0 or below is an error."""
    with pytest.raises(ValueError, match="above 0"):
        ScaledClock(0)
