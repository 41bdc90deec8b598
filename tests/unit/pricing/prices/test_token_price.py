"""Prices by the million tokens: what an answer costs, what is expected, and books that state them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.errors import FileProblem, UnknownPrice
from pricing.prices.book import load_book, load_books
from pricing.prices.rates import token_rate
from pricing.prices.token_price import TokenPrice

MINI = TokenPrice("mini", 150_000_000, 600_000_000, 75_000_000)
HEAD = """\
id: {id}
title: An API's prices
provider: example
source: its price page
as_of: 2026-11-01
effective_from: {begins}
series: example
currency: USD
per_million_tokens:
"""
LINE = "  - {model: mini, input_usd: 0.15, cached_input_usd: 0.075, output_usd: 0.60}\n"

tokens = st.integers(0, 10**7)
prices = st.integers(1, 10**12)


def book(folder: Path, lines: str, *, id: str = "api", begins: str = "null") -> Path:
    path = folder / f"{id}.yaml"
    path.write_text(HEAD.format(id=id, begins=begins) + lines, encoding="utf-8")
    return path


def test_an_answer_costs_its_tokens() -> None:
    """1,000 tokens in, 400 of them cached, and 500 out, at $0.15, $0.075 and $0.60 a million."""
    assert MINI.cost_nusd(1000, 500, 400) == 600 * 150 + 400 * 75 + 500 * 600


def test_more_cached_tokens_than_the_prompt_has_are_not_believed() -> None:
    """No answer gets cheaper than its whole prompt from the cache."""
    assert MINI.cost_nusd(100, 0, 10_000) == 100 * 75


@given(tokens, tokens, tokens, prices, prices)
def test_costs_are_exact_to_half_a_nano_dollar(prompt: int, answer: int, cached: int, dear: int, cheap: int) -> None:
    """Whatever the prices; and what is expected is never below what the same usage costs."""
    price = TokenPrice("m", max(dear, cheap), dear, min(dear, cheap))
    cached = min(cached, prompt)
    exact = Fraction(
        (prompt - cached) * price.input_nusd + cached * price.cached_input_nusd + answer * price.output_nusd, 10**6
    )
    assert abs(price.cost_nusd(prompt, answer, cached) - exact) <= Fraction(1, 2)
    assert 0 <= price.expected_nusd(prompt, answer, cached) - exact < 1


def test_a_negative_usage_is_refused() -> None:
    """A sign that was lost somewhere is a bug, not a discount."""
    with pytest.raises(ValueError, match="no usage"):
        MINI.cost_nusd(-1, 5)


def test_a_book_of_tokens_needs_nothing_of_containers(tmp_path: Path) -> None:
    """Its prices carry their line; a GPU has no price in it, and a model that it lacks is named with the nearest."""
    found = load_book(book(tmp_path, LINE))
    assert token_rate(found, "mini").tokens == found.token_price("mini")
    assert (found.token_price("mini").place, found.gpus) == (f"{tmp_path / 'api.yaml'}:10", {})
    assert token_rate(found, "mini").nusd_per_h == 0
    with pytest.raises(UnknownPrice, match=r"no price for tokens of 'mimi' in book 'api' \(as of 2026-11-01\).*'mini'"):
        found.token_price("mimi")
    with pytest.raises(UnknownPrice, match="no price for GPU 'T4'"):
        found.gpu_price("T4")


def test_prompt_tokens_without_a_cached_price_cost_the_same(tmp_path: Path) -> None:
    """A book that states none has no discount to give."""
    found = load_book(book(tmp_path, "  - {model: mini, input_usd: 0.15, output_usd: 0.6}\n"))
    assert found.token_price("mini").cost_nusd(100, 0, 50) == 100 * 150


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (LINE + LINE, r"api.yaml:11: 'mini' has a price already, on line 10"),
        ("  - {model: mini, input_usd: 0, output_usd: 1}\n", r"api.yaml:10: .*must be above 0"),
        ("  - {model: mini, input_usd: 1, output_usd: 1, cached_input_usd: 2}\n", "cached_input_usd is above input"),
        ("  - {model: mini, input_usd: 1}\n", "output_usd"),
        ("  - {model: mini, input_usd: 0.0000000001, output_usd: 1}\n", "api.yaml:10"),
    ],
)
def test_what_is_wrong_has_its_line(tmp_path: Path, lines: str, says: str) -> None:
    """Each mistake in a price is said with file and line."""
    with pytest.raises(FileProblem, match=says):
        load_book(book(tmp_path, lines))


def test_two_prices_of_one_day_in_one_series_are_refused(tmp_path: Path) -> None:
    """Nobody could say which holds; with another day both stand."""
    book(tmp_path, LINE)
    book(tmp_path, LINE, id="other")
    with pytest.raises(FileProblem, match="mini has two prices from the beginning in series 'example'"):
        load_books(tmp_path)
    book(tmp_path, LINE, id="other", begins="2026-12-01")
    assert set(load_books(tmp_path)) == {"api", "other"}
