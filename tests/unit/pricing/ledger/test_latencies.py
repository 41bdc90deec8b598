"""Buckets of latencies, and the percentiles that are read from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.ledger.latencies import SMALLEST, bucket_of, quantile, value_of


@given(st.floats(SMALLEST, 1e12))
def test_a_bucket_is_within_a_percent(value: float) -> None:
    """Of every value from a microsecond up."""
    assert abs(value_of(bucket_of(value)) / value - 1) < 0.01


def test_nothing_counts_as_a_microsecond() -> None:
    """Zero has no logarithm."""
    assert bucket_of(0) == bucket_of(SMALLEST)


@given(st.lists(st.floats(SMALLEST, 1e7), min_size=1, max_size=50), st.floats(0, 1))
def test_a_percentile_is_that_of_the_values(values: list[float], q: float) -> None:
    """The nearest rank of the sorted values, to a percent."""
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    ranked = sorted(values)
    true = next(each for place, each in enumerate(ranked, 1) if place >= q * len(ranked))
    assert quantile(counts, q) == pytest.approx(true, rel=0.01)


def test_nothing_has_no_percentile() -> None:
    """Unknown is not zero; a share is between 0 and 1."""
    assert quantile({}, 0.5) is None
    with pytest.raises(ValueError, match=r"1\.5 is not a share"):
        quantile({}, 1.5)
