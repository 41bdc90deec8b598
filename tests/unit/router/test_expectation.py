"""The running median of answers' lengths."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from router.expectation import OutputExpectation


def test_it_settles_at_the_median() -> None:
    """After some hundred answers the expectation is near the true median, far from the mean."""
    rng = random.Random(7)
    lengths = [round(rng.lognormvariate(4.5, 1.0)) + 1 for _ in range(2_000)]
    expectation = OutputExpectation()
    for length in lengths:
        expectation.observe("acme", "chat", length)
    median = sorted(lengths)[1_000]
    assert 0.7 * median < expectation.expect("acme", "chat", 10_000) < 1.4 * median


@given(st.integers(1, 4_096), st.lists(st.integers(0, 100_000), max_size=50))
def test_it_stays_within_the_bound(bound: int, lengths: list[int]) -> None:
    """Never below one token, never above what the request may have."""
    expectation = OutputExpectation()
    for length in lengths:
        expectation.observe("t", "c", length)
    assert 1 <= expectation.expect("t", "c", bound) <= bound


def test_tenants_do_not_teach_each_other() -> None:
    """One tenant's long answers do not raise another's holds."""
    expectation = OutputExpectation()
    before = expectation.expect("b", "chat", 4_096)
    for _ in range(100):
        expectation.observe("a", "chat", 4_000)
    assert expectation.expect("b", "chat", 4_096) == before
