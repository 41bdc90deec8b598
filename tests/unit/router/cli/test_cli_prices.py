"""`sluice prices`: what is printed is what the books say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pricing.errors import FileProblem, UnknownPrice
from pricing.money import to_usd
from pricing.prices.book import shipped_books
from pricing.prices.rates import not_applied, not_billed
from router.cli.prices import app
from router.cli.prices_view import WIDTH, hourly

BOOKS = shipped_books()


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def line_of(text: str, word: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [word])


@pytest.mark.parametrize("book_id", BOOKS)
def test_a_book_s_page_shows_its_own_numbers(book_id: str) -> None:
    """Every GPU's hourly price, the source's date and the billing flags on the page are the book's."""
    text, book = run(book_id), BOOKS[book_id]
    for gpu, price in book.gpus.items():
        shown = line_of(text, gpu)
        assert shown[1] == hourly(price.nusd_per_h)
        assert float(shown[1]) == pytest.approx(float(to_usd(price.nusd_per_h)), abs=5e-5)
    assert f"as of              {book.as_of or 'undated'}" in text
    flag = {True: "yes", False: "no", None: "not stated"}[book.bills_idle_tail]
    assert f"bills idle tail    {flag}" in text
    for note in (*not_billed(book), *not_applied(book)):
        assert note in " ".join(text.split())


@pytest.mark.parametrize("book_id", BOOKS)
def test_a_book_s_json_has_exact_rates(book_id: str) -> None:
    """The JSON's dollars an hour are the book's integers over a thousand million, GPU by GPU."""
    body = run_json(book_id)
    assert {each["gpu"]: round(each["usd_per_hour"] * 10**9) for each in body["gpus"]} == {
        gpu: price.nusd_per_h for gpu, price in BOOKS[book_id].gpus.items()
    }
    assert tuple(body["not_applied"]) == not_applied(BOOKS[book_id])
    assert tuple(body["not_billed"]) == not_billed(BOOKS[book_id])
    assert body["cpu_core"]["billing"] == str(BOOKS[book_id].cpu.billing)


def test_without_an_argument_all_books_are_listed() -> None:
    """Each book stands in the list, with its date."""
    text = run()
    assert {book: line_of(text, book)[0] for book in BOOKS} == {book: book for book in BOOKS}
    assert [each["id"] for each in run_json()["books"]] == list(BOOKS)


def test_two_books_are_compared_gpu_by_gpu() -> None:
    """A10 costs 0.40 in one book and 1.10 in the other, 2.75 times as much."""
    assert line_of(run("doc-qwen3-4b", "modal-2026-10"), "A10") == ["A10", "0.40", "1.10", "2.75×"]
    pair = next(each for each in run_json("doc-qwen3-4b", "modal-2026-10")["gpus"] if each["gpu"] == "H100")
    assert pair == {"gpu": "H100", "first_usd_per_hour": None, "second_usd_per_hour": 3.95, "ratio": None}


def test_disagreements_show_prices_books_dates_and_ratio() -> None:
    """T4 is listed at 0.27, 0.35 and 0.59, with the oldest and newest date and 2.19 times between them."""
    found = {each["gpu"]: each for each in run_json("--disagreements")["disagreements"]}
    t4 = found["T4"]
    assert [price["usd_per_hour"] for price in t4["prices"]] == [0.27, 0.35, 0.59]
    assert (t4["oldest"], t4["newest"], f"{t4['ratio']:.2f}") == ("2026-01-21", "2026-10-08", "2.19")
    text = run("--disagreements")
    assert line_of(text, "T4")[1:3] == ["0.27", "doc-inference-cost-optimization"]
    assert line_of(text, "T4")[-1] == "2.19×"


def test_the_documents_figures_are_printed_with_their_verdicts() -> None:
    """The cost impact analysis is among them: 5.42 a day becomes 3.06, and both hold."""
    scenarios = {each["book"]: each for each in run_json("--documents")["scenarios"]}
    claims = {each["id"]: each for each in scenarios["doc-gpu-requirements"]["claims"]}
    assert (claims["current-day"]["computed"], claims["current-day"]["verdict"]) == ([5.42, 5.42], "holds")
    assert (claims["hybrid-day"]["computed"], claims["hybrid-day"]["verdict"]) == ([3.058, 3.058], "holds")
    assert "$3.06/day" in run("--documents")


@pytest.mark.parametrize("arguments", [(), ("modal-2026-10",), ("--disagreements",), ("--documents",)])
def test_output_without_a_terminal_is_plain_and_at_most_100_columns(arguments: tuple[str, ...]) -> None:
    """No escape sequences, and no line is wider than the page."""
    text = run(*arguments)
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_own_books_and_scenarios_are_read_besides_the_shipped_ones(tmp_path: Path) -> None:
    """A book of one's own can be shown, compared, and used by a scenario file."""
    shipped = BOOKS["doc-qwen3-4b"].path.read_text(encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(shipped.replace("id: doc-qwen3-4b", "id: ours").replace("0.40", "0.44"), encoding="utf-8")
    assert line_of(run("doc-qwen3-4b", "ours", "--books", str(tmp_path)), "A10")[1:] == ["0.40", "0.44", "1.10×"]
    scenario = tmp_path / "plan" / "plan.yaml"
    scenario.parent.mkdir()
    scenario.write_text(
        "title: Plan\nas_of: null\nbook: ours\nclaims:\n"
        "  - {id: a, table: t, claim: c, compute: {hours_bought: {usd: 44, gpu: A10}}}\n",
        encoding="utf-8",
    )
    body = run_json("--scenario", str(scenario), "--books", str(own))
    assert body["scenarios"][0]["claims"][0]["computed"] == [100.0, 100.0]


def test_wrong_input_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """An unknown book, a bad file and two questions at once are refused."""
    runner = CliRunner()
    assert isinstance(runner.invoke(app, ["modal"]).exception, UnknownPrice)
    bad = tmp_path / "bad.yaml"
    bad.write_text("id: x\n", encoding="utf-8")
    assert isinstance(runner.invoke(app, ["--books", str(bad)]).exception, FileProblem)
    both = runner.invoke(app, ["modal-2026-10", "--documents"])
    assert both.exit_code == 2
    assert "choose one of" in both.output
