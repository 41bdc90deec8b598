"""Numbers as the dashboard writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dashboard.words import FILTERS, decimals, dollars, moment, nusd_of, price, seconds, share, time_of, usd


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (dollars(None), "–"),
        (dollars(0), "$0.00"),
        (dollars(215_627), "$0.000216"),
        (dollars(12_300_000), "$0.0123"),
        (dollars(12_345_678_900_000), "$12,345.68"),
        (dollars(-1_500_000_000), "-$1.5000"),
        (usd(0.000215627, 6), "$0.000216"),
        (price(0.02), "$0.02"),
        (price(50), "$50.00"),
        (price(1.245), "$1.245"),
        (share(None), "–"),
        (share(0), "0%"),
        (share(0.00001), "<0.1%"),
        (share(0.0049), "0.5%"),
        (share(0.996), "100%"),
        (share(1.5), "150%"),
        (seconds(None), "–"),
        (seconds(0.0384), "38 ms"),
        (seconds(1.239), "1.24 s"),
        (seconds(61.5), "61.5 s"),
        (seconds(185), "3 min 05 s"),
        (seconds(7260), "2 h 01 min"),
        (moment(1_795_242_588.26), "2026-11-21 06:29:48"),
        (time_of("2026-11-21T06:29:58.645+00:00"), "06:29:58"),
    ],
)
def test_a_number_reads_as_people_write_it(text: str, expected: str) -> None:
    """Dollars, shares, times and instants."""
    assert text == expected


@given(st.integers(min_value=-(2**52), max_value=2**52))
def test_an_amount_of_the_api_is_exact(nusd: int) -> None:
    """Dollars as the API writes them are the nano-dollars that they were made from."""
    assert nusd_of(nusd / 1_000_000_000) == nusd


@given(st.lists(st.integers(min_value=0, max_value=10**15), min_size=1))
def test_a_column_has_as_many_decimals_as_its_largest_needs(amounts: list[int]) -> None:
    """So that the digits that say something about the largest are there, and no more than six."""
    assert decimals(amounts) in (2, 4, 6)
    assert decimals([*amounts, max(amounts) + 10**10]) == 2


def test_every_filter_is_a_function_of_this_module() -> None:
    """Templates know them by their own names."""
    assert {name: each.__name__ for name, each in FILTERS.items()} == {name: name for name in FILTERS}
