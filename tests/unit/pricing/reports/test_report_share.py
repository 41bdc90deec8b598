"""Shares of container time: whole nano-dollars, by largest remainder, within the place where they fell."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.money import apportion
from pricing.reports.lines import HouseLine
from pricing.reports.share import Containers, HouseView, Use, share

AMOUNTS = st.integers(-(10**15), 10**15)
WEIGHTS = st.lists(st.integers(0, 10**15), min_size=1, max_size=9).filter(any)


def idle(amount: int, place: str) -> Containers:
    return Containers(HouseLine("__idle__", (), amount, 1_000), (place,))


def use(key: str, place: str, busy_nusd: int, attempts: int = 1) -> Use:
    return Use((key,), (place,), busy_nusd, attempts)


@given(AMOUNTS, WEIGHTS)
def test_parts_add_up_and_are_within_one_of_their_quota(amount: int, weights: list[int]) -> None:
    """Whatever is shared by whatever weights, nothing is lost, and nobody is a whole nano-dollar off."""
    parts = apportion(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(amount * weight, sum(weights))) < 1
        assert part == 0 or weight > 0


def test_what_is_left_goes_to_the_largest_remainders() -> None:
    """10 by 1:1:1 is 4, 3, 3, since the first of equal remainders comes first; 10 by 1:2:4 is 1, 3, 6."""
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]
    assert apportion(10, [1, 2, 4]) == [1, 3, 6]
    assert apportion(-10, [1, 1, 1]) == [-3, -3, -4]


def test_nothing_to_share_by_is_an_error() -> None:
    """Weights of 0 share nothing."""
    with pytest.raises(ValueError, match="all weights are 0"):
        apportion(1, [0, 0])


@pytest.mark.parametrize(
    ("view", "parts"),
    [
        (HouseView.WEIGHTED, {"a": 75, "b": 25}),
        (HouseView.EVEN, {"a": 50, "b": 50}),
        (HouseView.SEPARATE, {}),
    ],
)
def test_each_view_by_hand(view: HouseView, parts: dict[str, int]) -> None:
    """100 of idle time, on a pool where a spent 300 and b 100, and 7 on one that nobody used."""
    shared, apart = share(
        [idle(100, "l4"), idle(7, "a10")], [use("a", "l4", 300), use("b", "l4", 100), use("c", "t4", 9)], view
    )
    assert {part.key[0]: part.amount_nusd for part in shared} == parts
    assert sum(line.amount_nusd for line in apart) == (107 if view is HouseView.SEPARATE else 7)


def test_a_group_counts_once_at_a_place() -> None:
    """Rows that end in one line, such as of two orders of the same tags, are one user of the pool."""
    shared, _ = share([idle(10, "l4")], [use("a", "l4", 1), use("a", "l4", 1), use("b", "l4", 2)], HouseView.EVEN)
    assert [part.amount_nusd for part in shared] == [5, 5]


def test_refused_requests_used_nothing() -> None:
    """A group without an attempt at a pool has no share of it."""
    shared, apart = share([idle(10, "l4")], [use("a", "l4", 0, attempts=0)], HouseView.EVEN)
    assert (shared, len(apart)) == ([], 1)
