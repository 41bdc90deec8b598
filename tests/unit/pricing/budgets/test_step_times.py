"""The histogram of a store's steps: powers of two, cumulative, nothing lost at either end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pricing.budgets.times import StepTimes


@given(st.lists(st.integers(0, 60_000_000)))
def test_every_step_is_below_the_bounds_above_it(taken_us: list[int]) -> None:
    """Each bound counts exactly the steps that took less, the last one all."""
    times = StepTimes()
    for each in taken_us:
        times.add(each)
    told = list(times.cumulative())
    assert [count for _, count in told] == [sum(each < bound * 1e6 for each in taken_us) for bound, _ in told]
    assert told[-1] == (float("inf"), len(taken_us))
    assert times.total_us == sum(taken_us)
