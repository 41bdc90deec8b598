"""How long answers are likely to be: their running median, and what those come to that run at one moment."""

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


def test_what_runs_at_one_moment_is_longer_than_what_is_asked_for() -> None:
    """One answer in ten is long and runs as long as all others together: the weighted mean sees it, the median not."""
    expectation = OutputExpectation()
    for number in range(120):
        expectation.observe("t", "c", 360 if number % 10 == 0 else 40)
    assert expectation.expect("t", "c", 10_000) < 80
    assert expectation.running("t", "c") == 200  # half of the tokens are of answers of 360, half of answers of 40


def test_it_says_nothing_before_it_has_seen_some() -> None:
    """The bound counts until then; and answers without a token are answers."""
    expectation = OutputExpectation()
    for number in range(8):
        assert expectation.running("t", "c") is None, number
        expectation.observe("t", "c", 0)
    assert expectation.running("t", "c") == 1


@given(st.lists(st.integers(0, 10_000), min_size=8, max_size=300))
def test_what_runs_lies_between_the_last_answers_mean_and_their_longest(lengths: list[int]) -> None:
    """And only the last 128 count."""
    expectation = OutputExpectation()
    for length in lengths:
        expectation.observe("t", "c", length)
    last = lengths[-128:]
    running = expectation.running("t", "c")
    assert running is not None
    assert sum(last) / len(last) <= running <= max(1, *last)
