"""`sluice prices`: the price books, one of them, two side by side, where they disagree, and what documents claimed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from pricing.money import usd_number
from pricing.prices.book import SHIPPED_FOLDER, PriceBook, ResourcePrice, find_book, load_books, shipped_books
from pricing.prices.compare import Disagreement, Pair, disagreements, side_by_side
from pricing.prices.rates import not_applied, not_billed
from pricing.prices.scenarios import Figure, Finding, Scenario, document_files, load_scenario
from router.cli import prices_view as view

LIST_BOOK = "modal-2026-10"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def prices(
    book: Annotated[str | None, typer.Argument(help="Show this book.")] = None,
    other: Annotated[str | None, typer.Argument(help="Compare it with this one.")] = None,
    show_disagreements: Annotated[
        bool, typer.Option("--disagreements", help="List the GPUs that sources price differently.")
    ] = False,
    documents: Annotated[
        bool, typer.Option("--documents", help="Recompute every cost figure of the source documents.")
    ] = False,
    scenario: Annotated[list[Path] | None, typer.Option(help="Recompute the figures of this file.")] = None,
    books: Annotated[list[Path] | None, typer.Option(help="Read these books or folders too.")] = None,
    at: Annotated[str, typer.Option(help="The book of the column 'at list'.")] = LIST_BOOK,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show price books, with no argument all of them; compare two; list where sources disagree."""
    if sum((book is not None, show_disagreements, documents, bool(scenario))) > 1:
        raise typer.BadParameter("choose one of BOOK, --disagreements, --documents and --scenario")
    known = load_books([SHIPPED_FOLDER, *books]) if books else dict(shipped_books())
    if documents or scenario:
        _claims(scenario or document_files(), known, at, as_json)
    elif show_disagreements:
        _disagreements(known, as_json)
    elif book is None:
        _list(known, as_json)
    elif other is None:
        shown = find_book(known, book)
        _print(_book_json(shown)) if as_json else view.console().print(view.book_page(shown))
    else:
        _compare(find_book(known, book), find_book(known, other), as_json)


def _list(known: dict[str, PriceBook], as_json: bool) -> None:
    if as_json:
        _print({"books": [_book_json(each) for each in known.values()]})
        return
    view.console().print(view.books_table(list(known.values())))
    view.console().print("`sluice prices BOOK` shows one, `sluice prices BOOK OTHER` compares two.")


def _compare(one: PriceBook, other: PriceBook, as_json: bool) -> None:
    pairs = side_by_side(one, other)
    if as_json:
        _print({"first": one.id, "second": other.id, "gpus": [_pair_json(pair) for pair in pairs]})
        return
    view.console().print(view.comparison(one, other, pairs))


def _disagreements(known: dict[str, PriceBook], as_json: bool) -> None:
    found = disagreements(known.values())
    if as_json:
        _print({"disagreements": [_disagreement_json(each, known) for each in found]})
        return
    view.console().print(view.disagreement_table(found, known))


def _claims(files: Iterable[Path], known: dict[str, PriceBook], at: str, as_json: bool) -> None:
    scenarios = [load_scenario(path, known, at) for path in files]
    if as_json:
        _print({"scenarios": [_scenario_json(each, at) for each in scenarios]})
        return
    for each in scenarios:
        view.console().print(view.scenario_table(each, at))


def _print(body: dict[str, Any]) -> None:
    typer.echo(json.dumps(body, indent=2, ensure_ascii=False))


def _book_json(book: PriceBook) -> dict[str, Any]:
    return {
        "id": book.id,
        "title": book.title,
        "provider": book.provider,
        "product": book.product,
        "source": book.source,
        "as_of": _day(book.as_of),
        "effective_from": _day(book.effective_from),
        "series": book.series,
        "currency": book.currency,
        "file": str(book.path),
        "bills_image_pull": book.bills_image_pull,
        "bills_model_init": book.bills_model_init,
        "bills_idle_tail": book.bills_idle_tail,
        "min_increment_s": _number(book.min_increment_s),
        "idle_default_s": _number(book.idle_default_s),
        "cpu_core": _resource_json(book.cpu),
        "memory_gib": _resource_json(book.memory),
        "region_multipliers": {name: factor / 1000 for name, factor in book.region_thousandths.items()},
        "nonpreemptible_multiplier": None if (np := book.nonpreemptible_thousandths) is None else np / 1000,
        "notes": list(book.notes),
        "not_billed": list(not_billed(book)),
        "not_applied": list(not_applied(book)),
        "per_million_tokens": [
            {
                "model": price.model,
                "input_usd": usd_number(price.input_nusd),
                "cached_input_usd": usd_number(price.cached_input_nusd),
                "output_usd": usd_number(price.output_nusd),
                "note": price.note,
            }
            for price in book.tokens.values()
        ],
        "gpus": [
            {
                "gpu": price.gpu,
                "usd_per_hour": usd_number(price.nusd_per_h),
                "stated_usd": float(price.stated),
                "stated_per": price.per,
                "also_stated_usd_per_hour": _usd(price.also_stated_nusd_per_h),
                "source_says": price.source_says,
                "note": price.note,
                "place": price.place,
            }
            for price in book.gpus.values()
        ],
    }


def _resource_json(price: ResourcePrice) -> dict[str, Any]:
    return {"billing": str(price.billing), "usd_per_hour": usd_number(price.nusd_per_h)}


def _pair_json(pair: Pair) -> dict[str, Any]:
    return {
        "gpu": pair.gpu,
        "first_usd_per_hour": _usd(pair.one_nusd_per_h),
        "second_usd_per_hour": _usd(pair.other_nusd_per_h),
        "ratio": None if pair.ratio is None else float(pair.ratio),
    }


def _disagreement_json(each: Disagreement, known: dict[str, PriceBook]) -> dict[str, Any]:
    return {
        "provider": each.provider,
        "product": each.product,
        "gpu": each.gpu,
        "prices": [
            {
                "usd_per_hour": usd_number(quoted.nusd_per_h),
                "books": [{"id": name, "as_of": _day(known[name].as_of)} for name in quoted.books],
            }
            for quoted in each.prices
        ],
        "oldest": _day(each.oldest),
        "newest": _day(each.newest),
        "ratio": float(each.ratio),
    }


def _scenario_json(scenario: Scenario, at: str) -> dict[str, Any]:
    return {
        "title": scenario.title,
        "as_of": scenario.as_of,
        "book": scenario.book,
        "list_book": at,
        "claims": [_finding_json(finding) for finding in scenario.findings],
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    claim = finding.claim
    return {
        "id": claim.id,
        "table": claim.table,
        "claim": claim.claim,
        "reading": claim.reading,
        "says": claim.says,
        "book": finding.book,
        "unit": str(finding.computed.unit),
        "computed": _range(finding.computed),
        "verdict": str(finding.verdict),
        "at_list": None if finding.today is None else _range(finding.today),
        "remark": claim.remark,
    }


def _range(figure: Figure) -> list[float]:
    return [float(figure.low), float(figure.high)]


def _usd(nusd: int | None) -> float | None:
    return None if nusd is None else usd_number(nusd)


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
