"""What a stated workload costs: figures from documents, or of your own, recomputed from price books.

A figure *holds* when the computed one, rounded half to even to the decimals that the source writes, equals it; where
either is a range, when one range lies within the other. Costs come from `container_rate` and `cost_nusd`, as every
other amount of the product does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from functools import cache
from pathlib import Path

from pricing.errors import FileProblem, PricingError, UnknownPrice
from pricing.files.document import read_yaml
from pricing.files.validate import validate
from pricing.money import NUSD_PER_USD, S_PER_HOUR, cost_nusd, half_even_nusd, parse_usd, to_usd
from pricing.prices.book import PriceBook, find_book
from pricing.prices.rates import container_rate
from pricing.prices.scenario_schema import (
    ClaimShape,
    ComputeShape,
    CostShape,
    CreditShape,
    LoadShape,
    PairShape,
    Range,
    ScenarioShape,
)

DOCUMENTS_FOLDER = Path(__file__).parents[1] / "documents"
US_PER_S = 1_000_000


class Unit(StrEnum):
    USD = "usd"
    PERCENT = "percent"
    RATIO = "ratio"
    HOURS = "hours"
    SECONDS = "seconds"


class Verdict(StrEnum):
    HOLDS = "holds"
    OFF = "off"
    NOT_STATED = "not stated"  # the source is silent, and the figure matters


@dataclass(frozen=True, slots=True)
class Figure:
    """A computed number, or its range, in one unit."""

    unit: Unit
    low: Decimal
    high: Decimal

    def rounded(self, decimals: int) -> Range:
        return _rounded(self.low, decimals), _rounded(self.high, decimals)


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim beside what the books say. `today` is the same at a second book, None where that cannot price it."""

    claim: ClaimShape
    book: str
    computed: Figure
    verdict: Verdict
    today: Figure | None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A file of claims with its findings, in the file's order."""

    title: str
    as_of: str
    book: str
    findings: tuple[Finding, ...]


def load_scenario(path: Path, books: Mapping[str, PriceBook], today: str | None = None) -> Scenario:
    """Read a file of claims and compute each, at its own book and at the book `today`.

    Raises FileProblem for what is wrong with the file, a book or GPU price that is not there included, and UnknownPrice
    when there is no book `today`.
    """
    today_book = None if today is None else find_book(books, today)
    document = read_yaml(path)
    shape = validate(document, ScenarioShape)
    findings: list[Finding] = []
    problems: list[str] = []
    for index, claim in enumerate(shape.claims):
        try:
            findings.append(_find(claim, find_book(books, claim.book or shape.book), today_book))
        except PricingError as error:
            problems.append(document.problem(("claims", index), str(error)))
    ids = [claim.id for claim in shape.claims]
    problems += [
        document.problem(("claims", index, "id"), f"claim id '{name}' is used twice; rename one")
        for index, name in enumerate(ids)
        if name in ids[:index]
    ]
    if problems:
        raise FileProblem(problems)
    return Scenario(shape.title, str(shape.as_of or "undated"), shape.book, tuple(findings))


@cache
def document_files() -> tuple[Path, ...]:
    """The files of the source documents that come with the product."""
    return tuple(sorted(DOCUMENTS_FOLDER.glob("*.yaml")))


def _find(claim: ClaimShape, book: PriceBook, today: PriceBook | None) -> Finding:
    figure = compute(claim.compute, book)
    again = _compute_if_priced(claim.compute, today) if today is not None and claim.book is None else None
    return Finding(claim, book.id, figure, judge(claim, figure), again)


def _compute_if_priced(how: ComputeShape, book: PriceBook) -> Figure | None:
    try:
        return compute(how, book)
    except UnknownPrice:
        return None


def judge(claim: ClaimShape, figure: Figure) -> Verdict:
    """Whether a computed figure bears out what a claim states; the rule is in the module's docstring."""
    if claim.stated is None:
        return Verdict.NOT_STATED
    low, high = figure.rounded(claim.decimals)
    stated_low, stated_high = claim.stated
    inside = stated_low <= low and high <= stated_high
    around = low <= stated_low and stated_high <= high
    return Verdict.HOLDS if inside or around else Verdict.OFF


def compute(how: ComputeShape, book: PriceBook) -> Figure:
    """A figure from a book. Raises UnknownPrice, and PricingError where the divisor of a ratio costs nothing."""
    if how.cost is not None:
        cost = cost_range_nusd(how.cost, book)
        return Figure(Unit.USD, to_usd(cost[0]), to_usd(cost[1]))
    if how.saved is not None:
        return _saved(how.saved, book)
    if how.saving is not None:
        low, high = _ratio(how.saving.after, how.saving.before, book)
        return Figure(Unit.PERCENT, 100 * (1 - high), 100 * (1 - low))
    if how.ratio is not None:
        return Figure(Unit.RATIO, *_ratio(how.ratio.before, how.ratio.after, book))
    if how.hours_bought is not None:
        hours = _hours_bought(how.hours_bought, book)
        return Figure(Unit.HOURS, hours, hours)
    if how.seconds_bought is not None:
        seconds = _hours_bought(how.seconds_bought, book) * S_PER_HOUR
        return Figure(Unit.SECONDS, seconds, seconds)
    raise ValueError("the shape refuses a claim without a way to compute it")


def cost_range_nusd(cost: CostShape, book: PriceBook) -> tuple[int, int]:
    """Nano-dollars at the shortest and at the longest times of its loads."""
    low = sum(_load_nusd(load, load.seconds_each()[0], book) for load in cost.loads)
    high = sum(_load_nusd(load, load.seconds_each()[1], book) for load in cost.loads)
    return _times(low, cost), _times(high, cost)


def _load_nusd(load: LoadShape, seconds_each: Decimal, book: PriceBook) -> int:
    rate = container_rate(book, load.gpu, load.gpus, float(load.cpu_cores), float(load.memory_gib))
    billed_us = int(_rounded((seconds_each + load.idle_s) * load.requests * US_PER_S, 0))
    return cost_nusd(rate.nusd_per_h, billed_us)


def _times(nusd: int, cost: CostShape) -> int:
    if cost.round_decimals is not None:
        step = NUSD_PER_USD // 10**cost.round_decimals
        nusd = half_even_nusd(nusd, step) * step
    return nusd * cost.times


def _saved(pair: PairShape, book: PriceBook) -> Figure:
    before, after = cost_range_nusd(pair.before, book), cost_range_nusd(pair.after, book)
    return Figure(Unit.USD, to_usd(before[0] - after[1]), to_usd(before[1] - after[0]))


def _ratio(over: CostShape, under: CostShape, book: PriceBook) -> Range:
    dividend, divisor = cost_range_nusd(over, book), cost_range_nusd(under, book)
    if not divisor[0]:
        raise PricingError("a load that costs less than a nano-dollar cannot be compared; give it more seconds")
    return Decimal(dividend[0]) / divisor[1], Decimal(dividend[1]) / divisor[0]


def _hours_bought(credit: CreditShape, book: PriceBook) -> Decimal:
    rate = container_rate(book, credit.gpu, credit.gpus, 0, 0)
    return Decimal(parse_usd(credit.usd)) / rate.nusd_per_h


def _rounded(value: Decimal, decimals: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN)
