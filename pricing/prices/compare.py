"""Where price books disagree: about one GPU of one provider's product, and two books side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from pricing.money import NUSD_PER_USD, half_even_nusd
from pricing.prices.book import PriceBook

_NUSD_PER_CENT = NUSD_PER_USD // 100


@dataclass(frozen=True, slots=True)
class Quoted:
    """One price of a GPU, nano-dollars per hour to the cent, and the books that state it."""

    nusd_per_h: int
    books: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Several prices for one GPU of one product, lowest first.

    `oldest` and `newest` are the first and last `as_of` among the books that price it, None when all are undated.
    """

    provider: str
    product: str
    gpu: str
    prices: tuple[Quoted, ...]
    oldest: date | None
    newest: date | None

    @property
    def ratio(self) -> Fraction:
        """The highest over the lowest."""
        return Fraction(self.prices[-1].nusd_per_h, self.prices[0].nusd_per_h)


@dataclass(frozen=True, slots=True)
class Pair:
    """One GPU in two books, nano-dollars per hour; None where a book does not price it."""

    gpu: str
    one_nusd_per_h: int | None
    other_nusd_per_h: int | None

    @property
    def ratio(self) -> Fraction | None:
        """The other price over the one, None where either is missing."""
        if self.one_nusd_per_h is None or self.other_nusd_per_h is None:
            return None
        return Fraction(self.other_nusd_per_h, self.one_nusd_per_h)


def disagreements(books: Iterable[PriceBook]) -> tuple[Disagreement, ...]:
    """Every GPU that books of one product price differently. Prices that are the same to the cent agree: a per-second
    price is a rounded hourly one."""
    by_gpu: dict[tuple[str, str, str], list[PriceBook]] = {}
    for book in books:
        for gpu in book.gpus:
            by_gpu.setdefault((book.provider, book.product, gpu), []).append(book)
    found = [_quoted(*key, priced_by) for key, priced_by in by_gpu.items()]
    return tuple(sorted((each for each in found if len(each.prices) > 1), key=lambda each: (-each.ratio, each.gpu)))


def _quoted(provider: str, product: str, gpu: str, books: list[PriceBook]) -> Disagreement:
    by_price: dict[int, list[str]] = {}
    for book in books:
        cents = half_even_nusd(book.gpus[gpu].nusd_per_h, _NUSD_PER_CENT)
        by_price.setdefault(cents * _NUSD_PER_CENT, []).append(book.id)
    dates = [book.as_of for book in books if book.as_of is not None]
    return Disagreement(
        provider=provider,
        product=product,
        gpu=gpu,
        prices=tuple(Quoted(price, tuple(ids)) for price, ids in sorted(by_price.items())),
        oldest=min(dates, default=None),
        newest=max(dates, default=None),
    )


def side_by_side(one: PriceBook, other: PriceBook) -> tuple[Pair, ...]:
    """Every GPU of either book, in the order of the first, then of the second."""
    gpus = dict.fromkeys([*one.gpus, *other.gpus])
    return tuple(Pair(gpu, _rate(one, gpu), _rate(other, gpu)) for gpu in gpus)


def _rate(book: PriceBook, gpu: str) -> int | None:
    price = book.gpus.get(gpu)
    return None if price is None else price.nusd_per_h
