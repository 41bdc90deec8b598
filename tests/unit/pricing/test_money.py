"""Money: parsing, roundings, rates and text."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.money import (
    US_PER_HOUR,
    ceil_nusd,
    cost_nusd,
    format_usd,
    half_even_nusd,
    parse_usd,
    rate_from_usd_per_s,
    to_usd,
)

AMOUNTS = st.integers(-(10**18), 10**18)
DIVISORS = st.integers(1, 10**12)


@given(AMOUNTS)
def test_parsing_undoes_writing(nusd: int) -> None:
    """Every amount, written as exact dollars and read again, is the same amount."""
    assert parse_usd(to_usd(nusd)) == nusd
    assert parse_usd(str(to_usd(nusd))) == nusd


@given(st.integers(0, 10**8), st.integers(0, 6))
def test_a_float_means_its_shortest_text(units: int, decimals: int) -> None:
    """A price that YAML hands over as a float is the price that stands in the file."""
    text = f"{units / 10**decimals:.{decimals}f}"
    assert parse_usd(float(text)) == parse_usd(text) == units * 10 ** (9 - decimals)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a dollar",
        "nan",
        "inf",
        "-Infinity",
        True,
        0.0000000001,
        "1,5",
        "1e-400",
        "5.0" + "0" * 30 + "1",
        "٥",
        "0o17",
    ],
)
def test_what_is_no_exact_amount_is_refused(bad: str | float | bool) -> None:
    """Words, NaN, infinities, booleans and more than nine decimals are errors, not roundings."""
    with pytest.raises(ValueError):
        parse_usd(bad)


@given(AMOUNTS, DIVISORS)
def test_both_roundings_are_what_they_are_called(numerator: int, denominator: int) -> None:
    """Up is the next whole number from the exact value on, half-even the nearest (to even at a tie)."""
    exact = Fraction(numerator, denominator)
    assert exact <= ceil_nusd(numerator, denominator) < exact + 1
    assert half_even_nusd(numerator, denominator) == round(exact)  # Fraction rounds half to even, exactly


def test_a_tie_goes_to_the_even_neighbour() -> None:
    """Halves do not drift upwards."""
    assert [half_even_nusd(twice, 2) for twice in (-3, -1, 1, 3, 5)] == [-2, 0, 0, 2, 2]


@given(st.integers(0, 10**11), st.lists(st.integers(0, 10**10), min_size=1, max_size=20))
def test_a_time_cut_in_pieces_costs_the_same_within_half_a_nano_dollar_a_piece(rate: int, pieces: list[int]) -> None:
    """Σ cost of pieces and cost of the whole differ by the roundings only."""
    whole = Fraction(rate * sum(pieces), US_PER_HOUR)
    assert abs(sum(cost_nusd(rate, piece) for piece in pieces) - whole) <= Fraction(len(pieces), 2)


@given(st.integers(0, 10**11))
def test_an_hour_costs_the_hourly_rate(rate: int) -> None:
    """The rate is per hour, exactly."""
    assert cost_nusd(rate, US_PER_HOUR) == rate


@given(st.decimals(0, 1, places=9))
def test_a_rate_per_second_is_exact_per_hour(per_second: Decimal) -> None:
    """3,600 times a price with nine decimals is a whole number of nano-dollars."""
    assert to_usd(rate_from_usd_per_s(per_second)) == per_second * 3600


@pytest.mark.parametrize(
    ("nusd", "decimals", "text"),
    [
        (13_000_000, 4, "$0.0130"),
        (-1_500_000_000, 2, "-$1.50"),
        (1_234_567_890_000_000_000, 2, "$1,234,567,890.00"),
        (-4, 4, "$0.0000"),
        (2_500_000_000, 0, "$2"),
    ],
)
def test_amounts_as_text(nusd: int, decimals: int, text: str) -> None:
    """Dollars with the wanted decimals, rounded half to even, and no minus before nothing."""
    assert format_usd(nusd, decimals) == text
