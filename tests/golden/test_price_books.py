"""The shipped books, number by number: what each source states, in the source's own unit."""

from __future__ import annotations

from datetime import date

import pytest

from pricing.prices.book import ResourcePrice, load_books, shipped_books
from pricing.prices.schema import ResourceBilling

BOOKS = shipped_books()

STATED = {
    "modal-2026-10": {
        "T4": "0.59",
        "L4": "0.8",
        "A10": "1.1",
        "L40S": "1.95",
        "A100-40GB": "2.1",
        "A100-80GB": "2.5",
        "RTX-PRO-6000": "3.03",
        "H100": "3.95",
        "H200": "4.54",
        "B200": "6.25",
        "B300": "7.1",
    },
    "doc-inference-cost-optimization": {"T4": "0.27", "A10": "0.6", "L4": "0.5", "L40S": "1.4", "A100-80GB": "2.5"},
    "doc-qwen-vllm-models": {"H100": "4"},
    "doc-gpu-requirements": {
        "T4": "0.000164",
        "L4": "0.000222",
        "A10": "0.000306",
        "L40S": "0.000542",
        "A100-40GB": "0.000556",
        "A100-80GB": "0.000694",
        "H100": "0.001097",
    },
    "doc-qwen3-4b": {"A10": "0.4", "A100-40GB": "1.5", "T4": "0.35"},
    "doc-inference-summary": {"A10": "1.1", "A100-40GB": "3"},
    "runpod-flex": {
        "A4000": "0.00016",
        "L4": "0.00019",
        "A5000": "0.00019",
        "RTX-3090": "0.00019",
        "RTX-4090": "0.00031",
        "A6000": "0.00034",
        "L40S": "0.00053",
        "A100-80GB": "0.00076",
        "H100": "0.00116",
        "H200": "0.00155",
        "B200": "0.0024",
    },
    "runpod-active": {
        "A4000": "0.00011",
        "L4": "0.00013",
        "A5000": "0.00013",
        "RTX-3090": "0.00013",
        "RTX-4090": "0.00021",
        "A6000": "0.00024",
        "L40S": "0.00037",
        "A100-80GB": "0.0006",
        "H100": "0.00093",
        "H200": "0.00124",
        "B200": "0.0019",
    },
    "cloud-run-2026-08": {"L4": "0.0001867"},
}
PER_SECOND = {"doc-gpu-requirements", "runpod-flex", "runpod-active", "cloud-run-2026-08"}

AS_OF = {
    "modal-2026-10": date(2026, 10, 8),
    "doc-inference-cost-optimization": None,
    "doc-qwen-vllm-models": date(2025, 10, 23),
    "doc-gpu-requirements": date(2026, 1, 21),
    "doc-qwen3-4b": None,
    "doc-inference-summary": date(2025, 10, 15),
    "runpod-flex": None,
    "runpod-active": None,
    "cloud-run-2026-08": date(2026, 8, 1),
}


def test_the_books_are_these() -> None:
    """Modal's list, a book for each of the five documents, RunPod's two kinds of workers, Cloud Run."""
    assert set(BOOKS) == set(STATED)
    assert {name: book.as_of for name, book in BOOKS.items()} == AS_OF


@pytest.mark.parametrize("name", STATED)
def test_each_price_is_the_source_s_own_number(name: str) -> None:
    """Every price is kept as its source writes it, per hour or per second, and no GPU is added or left out."""
    prices = BOOKS[name].gpus.values()
    assert {price.gpu: f"{price.stated.normalize():f}" for price in prices} == STATED[name]
    assert {price.per for price in prices} == {"second" if name in PER_SECOND else "hour"}


def test_the_gpu_requirements_document_states_hours_beside_seconds() -> None:
    """Its hourly prices are kept beside those it computes with, and are the same to the cent."""
    for price in BOOKS["doc-gpu-requirements"].gpus.values():
        assert price.also_stated_nusd_per_h is not None
        assert abs(price.nusd_per_h - price.also_stated_nusd_per_h) < 5_000_000


def test_names_that_the_documents_use_are_kept() -> None:
    """A10G is A10; A100 alone is the size that the document gives beside it."""
    assert BOOKS["doc-qwen3-4b"].gpus["A100-40GB"].source_says == "A100"
    assert BOOKS["doc-inference-cost-optimization"].gpus["A100-80GB"].source_says == "A100"
    assert BOOKS["doc-inference-summary"].gpus["A10"].source_says == "A10G"


def test_cpu_and_memory_are_billed_as_each_source_says() -> None:
    """Modal and Cloud Run bill them on top, RunPod includes them, the documents do not say."""
    kinds = {name: (book.cpu.billing, book.memory.billing) for name, book in BOOKS.items()}
    for name, (cpu, memory) in kinds.items():
        assert cpu is memory
        if name.startswith("doc-"):
            assert cpu is ResourceBilling.NOT_STATED
        elif name.startswith("runpod"):
            assert cpu is ResourceBilling.INCLUDED
    separate = ResourceBilling.SEPARATE
    assert BOOKS["modal-2026-10"].cpu == ResourcePrice(separate, 47_300_000)
    assert BOOKS["modal-2026-10"].memory == ResourcePrice(separate, 8_000_000)
    assert BOOKS["cloud-run-2026-08"].cpu == ResourcePrice(separate, 2 * 64_800_000)
    assert BOOKS["cloud-run-2026-08"].memory == ResourcePrice(separate, 7_200_000)


def test_billing_flags_are_those_of_the_sources() -> None:
    """(image pull, model init, idle tail, step in s, idle window in s); None where the source does not say."""
    found = {
        name: (
            book.bills_image_pull,
            book.bills_model_init,
            book.bills_idle_tail,
            book.min_increment_s,
            book.idle_default_s,
        )
        for name, book in BOOKS.items()
    }
    assert found == {
        "modal-2026-10": (True, True, True, 0, 60),
        "doc-inference-cost-optimization": (None, None, True, None, 120),
        "doc-qwen-vllm-models": (None, None, True, None, 600),
        "doc-gpu-requirements": (None, None, False, 0, None),
        "doc-qwen3-4b": (None, None, True, None, None),
        "doc-inference-summary": (None, None, None, None, None),
        "runpod-flex": (None, True, True, 1, 5),
        "runpod-active": (None, True, True, 1, None),
        "cloud-run-2026-08": (None, True, True, None, None),
    }


def test_modal_s_multipliers() -> None:
    """Nine broad regions at 1.5, thirteen narrow ones at 1.75, nonpreemptible at 3."""
    book = BOOKS["modal-2026-10"]
    factors = list(book.region_thousandths.values())
    assert (factors.count(1500), factors.count(1750), len(factors)) == (9, 13, 22)
    assert (book.region_thousandths["us"], book.region_thousandths["us-west"]) == (1500, 1750)
    assert book.nonpreemptible_thousandths == 3000


def test_a_shipped_book_can_be_read_from_its_own_file() -> None:
    """Each book's path is the file it came from, which messages tell people to edit."""
    for book in BOOKS.values():
        assert load_books(book.path) == {book.id: book}
