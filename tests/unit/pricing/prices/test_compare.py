"""Where books disagree, and two books side by side."""

from __future__ import annotations

from datetime import date

from pricing.money import to_usd
from pricing.prices.book import shipped_books
from pricing.prices.compare import disagreements, side_by_side

BOOKS = shipped_books()


def test_the_sources_disagree_as_they_are_known_to() -> None:
    """Modal's GPUs have the prices that the documents and the list state, lowest first, by how far they are apart."""
    found = {
        each.gpu: [str(to_usd(quoted.nusd_per_h)) for quoted in each.prices] for each in disagreements(BOOKS.values())
    }
    assert found == {
        "A10": ["0.4", "0.6", "1.1"],
        "T4": ["0.27", "0.35", "0.59"],
        "A100-40GB": ["1.5", "2", "2.1", "3"],
        "L4": ["0.5", "0.8"],
        "L40S": ["1.4", "1.95"],
        "H100": ["3.95", "4"],
    }


def test_a_disagreement_names_its_books_dates_and_ratio() -> None:
    """For A10: who says what, the oldest and newest dated source, and highest over lowest."""
    a10 = disagreements(BOOKS.values())[0]
    assert [quoted.books for quoted in a10.prices] == [
        ("doc-qwen3-4b",),
        ("doc-inference-cost-optimization",),
        ("doc-gpu-requirements", "doc-inference-summary", "modal-2026-10"),
    ]
    assert (a10.oldest, a10.newest, float(a10.ratio)) == (date(2025, 10, 15), date(2026, 10, 8), 2.75)


def test_a_rounded_price_per_second_and_other_products_are_no_disagreement() -> None:
    """$0.000694 a second and $2.50 an hour agree; RunPod's flex and active prices are two products."""
    assert "A100-80GB" not in {each.gpu for each in disagreements(BOOKS.values())}
    assert {each.provider for each in disagreements(BOOKS.values())} == {"modal"}


def test_side_by_side_has_every_gpu_of_both() -> None:
    """A GPU that only one book prices has no ratio; one that both price has the second over the first."""
    pairs = {pair.gpu: pair for pair in side_by_side(BOOKS["doc-qwen3-4b"], BOOKS["modal-2026-10"])}
    assert set(pairs) == set(BOOKS["doc-qwen3-4b"].gpus) | set(BOOKS["modal-2026-10"].gpus)
    assert pairs["A10"].ratio is not None
    assert float(pairs["A10"].ratio) == 2.75
    assert (pairs["H100"].one_nusd_per_h, pairs["H100"].ratio) == (None, None)
