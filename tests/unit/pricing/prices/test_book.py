"""Price books: what loads, what is refused and where, what a lookup answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricing.errors import FileProblem, UnknownPrice
from pricing.prices.book import (
    find_book,
    load_book,
    load_books,
    shipped_books,
)

HEAD = """\
id: {id}
title: Test book
provider: test
source: a test
as_of: 2026-01-01
effective_from: {start}
series: {series}
currency: USD
bills_image_pull: true
bills_model_init: true
bills_idle_tail: true
min_increment_s: 0
idle_default_s: 60
cpu: {{billing: separate, usd_per_hour: 0.0473}}
memory: {{billing: included}}
gpus:
"""
HEAD_LINES = HEAD.count("\n")


def write(
    folder: Path,
    *gpus: str,
    name: str = "book.yaml",
    book_id: str = "test",
    start: str = "null",
    series: str = "test",
) -> Path:
    path = folder / name
    rows = "".join(f"  - {gpu}\n" for gpu in gpus)
    path.write_text(HEAD.format(id=book_id, start=start, series=series) + rows, encoding="utf-8")
    return path


def problem(folder: Path, *gpus: str) -> str:
    with pytest.raises(FileProblem) as caught:
        load_book(write(folder, *gpus))
    return str(caught.value)


def test_prices_per_hour_and_per_second_become_one_integer_unit(tmp_path: Path) -> None:
    """A book keeps the source's own number and unit beside nano-dollars an hour."""
    book = load_book(write(tmp_path, "{gpu: T4, usd_per_hour: 0.59}", "{gpu: A10G, usd_per_second: 0.000306}"))
    assert [(price.gpu, price.nusd_per_h, str(price.stated), price.per) for price in book.gpus.values()] == [
        ("T4", 590_000_000, "0.59", "hour"),
        ("A10", 1_101_600_000, "0.000306", "second"),
    ]
    assert book.gpu_price("a10g").place.endswith(f"book.yaml:{HEAD_LINES + 2}")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{gpu: H2000, usd_per_hour: 1}", "'H2000' is not a known GPU; did you mean 'H200'"),
        ("{gpu: A100, usd_per_hour: 1}", "write A100-40GB or A100-80GB"),
        ("{gpu: T4, usd_per_hour: -0.59}", "must be above 0"),
        ("{gpu: T4, usd_per_hour: 0}", "must be above 0"),
        ("{gpu: T4}", "the price of T4 is missing; add usd_per_hour or usd_per_second"),
        ("{gpu: T4, usd_per_hour: null}", "the price of T4 is missing"),
        ("{gpu: T4, usd_per_hour: 0.59, usd_per_second: 0.000164}", "keep the one that the source computes with"),
        ("{gpu: T4, usd_per_hour: cheap}", "must be a number"),
        ("{gpu: T4, usd_per_hour: true}", "must be a number"),
        ("{gpu: T4, usd_per_hour: .inf}", "must be a finite number"),
        ("{gpu: T4, usd_per_hour: 0.0000000001}", "more than nine decimals"),
        ("{gpu: T4, usd_per_hours: 0.59}", "did you mean 'usd_per_hour'"),
    ],
)
def test_a_wrong_price_is_refused_with_file_and_line(tmp_path: Path, row: str, words: str) -> None:
    """Each mistake in a row names the file, the row's line and what to write instead."""
    said = problem(tmp_path, "{gpu: L4, usd_per_hour: 0.8}", row)
    assert f"book.yaml:{HEAD_LINES + 2}: " in said
    assert words in said


def test_two_entries_for_one_gpu_are_refused(tmp_path: Path) -> None:
    """A10 and A10G are one GPU, so a book that prices both is refused at the second, naming the first's line."""
    said = problem(tmp_path, "{gpu: A10, usd_per_hour: 1.1}", "{gpu: A10G, usd_per_hour: 0.6}")
    assert f"book.yaml:{HEAD_LINES + 2}: A10 has a price already, on line {HEAD_LINES + 1}" in said


@pytest.mark.parametrize(
    ("stated", "typed", "words"),
    [
        ("min_increment_s: 0", "min_increment_s: 1e300", "must be at most 86,400, a day"),
        ("idle_default_s: 60", "idle_default_s: 600000", "must be at most 86,400, a day"),
        ("idle_default_s: 60", "idle_default_s: 60\nregion_multipliers: {us: 1e300}", "at most 100"),
        ("idle_default_s: 60", "idle_default_s: 60\nnonpreemptible_multiplier: 0", "must be above 0"),
    ],
)
def test_what_no_source_could_mean_is_refused(tmp_path: Path, stated: str, typed: str, words: str) -> None:
    """Before a sum is too large to be written."""
    path = write(tmp_path, "{gpu: L4, usd_per_hour: 0.8}")
    path.write_text(path.read_text(encoding="utf-8").replace(stated, typed), encoding="utf-8")
    with pytest.raises(FileProblem, match=words):
        load_book(path)


def test_every_problem_of_every_file_is_said_at_once(tmp_path: Path) -> None:
    """Two bad rows in one file and one in another are three problems of one error."""
    write(tmp_path, "{gpu: T4}", "{gpu: L4, usd_per_hour: -1}", name="a.yaml")
    write(tmp_path, "{gpu: nope, usd_per_hour: 1}", name="b.yaml", book_id="other")
    with pytest.raises(FileProblem) as caught:
        load_books(tmp_path)
    assert [text.partition(": ")[0].rpartition("/")[2] for text in caught.value.problems] == [
        f"a.yaml:{HEAD_LINES + 1}",
        f"a.yaml:{HEAD_LINES + 2}",
        f"b.yaml:{HEAD_LINES + 1}",
    ]


def test_a_book_in_another_currency_is_refused(tmp_path: Path) -> None:
    """All money is counted in dollars, so prices in euros are refused at their line rather than taken for dollars."""
    path = write(tmp_path, "{gpu: T4, usd_per_hour: 0.59}")
    path.write_text(path.read_text(encoding="utf-8").replace("currency: USD", "currency: EUR"), encoding="utf-8")
    with pytest.raises(FileProblem) as caught:
        load_book(path)
    line = HEAD.splitlines().index("currency: USD") + 1
    assert [text.partition("book.yaml:")[2] for text in caught.value.problems] == [
        f"{line}: 'currency': input should be 'USD', not 'EUR'"
    ]


def test_two_prices_for_one_gpu_from_one_day_are_refused(tmp_path: Path) -> None:
    """Books of one series that begin on one day may not price the same GPU; both places are named."""
    write(tmp_path, "{gpu: T4, usd_per_hour: 0.59}", name="a.yaml", book_id="a", start="2026-03-01")
    write(tmp_path, "{gpu: T4, usd_per_hour: 0.61}", name="b.yaml", book_id="b", start="2026-03-01")
    with pytest.raises(FileProblem, match=rf"b\.yaml:{HEAD_LINES + 1}: T4 has two prices from 2026-03-01") as caught:
        load_books(tmp_path)
    assert f"a.yaml:{HEAD_LINES + 1}" in str(caught.value)


def test_one_id_twice_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    """A second book under a taken id, and a folder without books, are errors rather than a silent choice."""
    with pytest.raises(FileProblem, match="no price books here"):
        load_books(tmp_path)
    write(tmp_path, "{gpu: T4, usd_per_hour: 0.59}", name="a.yaml")
    write(tmp_path, "{gpu: T4, usd_per_hour: 0.61}", name="b.yaml")
    with pytest.raises(FileProblem, match="book id 'test' is taken by"):
        load_books(tmp_path)


def test_a_rate_stands_where_and_only_where_a_resource_is_billed_separately(tmp_path: Path) -> None:
    """`separate` without a price and `included` with one are both refused."""
    path = write(tmp_path, "{gpu: T4, usd_per_hour: 0.59}")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("separate, usd_per_hour: 0.0473", "separate"), encoding="utf-8")
    with pytest.raises(FileProblem, match="billed separately but has no price"):
        load_book(path)
    path.write_text(text.replace("included", "included, usd_per_hour: 0.008"), encoding="utf-8")
    with pytest.raises(FileProblem, match="its billing is 'included'; write 'separate' or drop the price"):
        load_book(path)


def test_a_vcpu_is_half_a_core(tmp_path: Path) -> None:
    """A rate per vCPU is doubled, because pools count physical cores."""
    path = write(tmp_path, "{gpu: T4, usd_per_hour: 0.59}")
    text = path.read_text(encoding="utf-8").replace("separate, usd_per_hour", "separate, per: vcpu, usd_per_hour")
    path.write_text(text, encoding="utf-8")
    assert load_book(path).cpu.nusd_per_h == 2 * 47_300_000


def test_an_unknown_price_names_the_file_to_edit(tmp_path: Path) -> None:
    """A GPU that a book lacks is never priced by default."""
    path = write(tmp_path, "{gpu: T4, usd_per_hour: 0.59}")
    with pytest.raises(UnknownPrice) as caught:
        load_book(path).gpu_price("H200")
    assert "no price for GPU 'H200' in book 'test' (as of 2026-01-01)" in str(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(UnknownPrice, match="did you mean 'H200'"):
        load_book(path).gpu_price("H2000")


def test_an_unknown_book_gets_the_nearest_id() -> None:
    """A misspelt book id comes with a suggestion."""
    with pytest.raises(UnknownPrice, match="did you mean 'modal-2026-10'"):
        find_book(shipped_books(), "modal-2026-1")
