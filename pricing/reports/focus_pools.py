"""What a pool was made of when a row was written, and what it cost: what FOCUS divides and prices the row by.

noted      by the policy version that the row names, as the ledger keeps its pools (`pricing.ledger.policy_pools`)
given      by the files at hand, where they are that very version
otherwise  nobody knows: a pool of that name may have had another GPU, another region, other cores by then
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pricing.errors import UnknownPrice
from pricing.ledger.policy_pools import NotedPool, pools_of
from pricing.ledger.reader import Reader
from pricing.prices.book import PriceBook
from pricing.prices.rates import ContainerRate, container_rate, token_rate
from pricing.prices.resources import PricedPool, Pricing
from pricing.reports.focus_groups import Group

UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Given:
    """A policy at hand: its version, its pools under any book, and every book that is known, by id."""

    version: str
    pricing: Pricing
    books: Mapping[str, PriceBook]


@dataclass(frozen=True, slots=True)
class Sold:
    """Who sold what a row is of, and `pool` as it was, None where nobody knows."""

    provider: str
    product: str
    pool: PricedPool | None

    @property
    def service(self) -> str:
        return f"{self.provider} {self.product}" if self.product else UNKNOWN


class PoolsThen:
    """Looks pools up as they were, each policy version once."""

    def __init__(self, ledger: Reader, given: Given) -> None:
        self._ledger = ledger
        self._given = given
        self._noted: dict[str, Mapping[str, NotedPool] | None] = {}
        self.not_known: set[str] = set()  # versions of which a pool was asked for that nobody knows

    def sold(self, group: Group) -> Sold:
        """By the row's policy version and price book. Where the pool is not known, its book still says who sold it."""
        pool = self._pool(group)
        if pool is not None:
            return Sold(pool.provider, pool.product, pool)
        book = self._given.books.get(group.price_books)
        return Sold(UNKNOWN, "", None) if book is None else Sold(book.provider, book.product, None)

    def _pool(self, group: Group) -> PricedPool | None:
        version = group.policy_version
        noted = self._pools_of(version)
        if noted is not None:
            found = noted.get(group.pool)
            return None if found is None else self._under(found, group.price_books)
        # A reconciled hour of a pool that the ledger has no row of names no version, and has a cost but no price.
        if version == self._given.version or not (version or group.is_usage):
            return self._given.pricing(group.pool, group.price_books)
        if version:
            self.not_known.add(version)
        return None

    def _pools_of(self, version: str) -> Mapping[str, NotedPool] | None:
        if version not in self._noted:
            found = pools_of(self._ledger, version)
            self._noted[version] = None if found is None else {each.pool: each for each in found}
        return self._noted[version]

    def _under(self, noted: NotedPool, book_id: str) -> PricedPool | None:
        """Under the book of the row: the next one's, where one took effect before the policy was read again."""
        if book_id in ("", noted.book):
            return _priced(noted, _rate(noted), noted.provider, noted.product)
        book = self._given.books.get(book_id)
        if book is None:
            return None
        try:
            return _priced(noted, _rate_in(noted, book), book.provider, book.product)
        except UnknownPrice:
            return None


def _priced(noted: NotedPool, rate: ContainerRate, provider: str, product: str) -> PricedPool:
    return PricedPool(
        rate=rate,
        provider=provider,
        product=product,
        gpu=noted.gpu,
        gpu_count=noted.gpu_count,
        cpu_cores=noted.cpu_cores,
        memory_gib=noted.memory_gib,
        region=noted.region,
    )


def _rate(noted: NotedPool) -> ContainerRate:
    parts = noted.gpu_nusd_per_h, noted.cpu_nusd_per_h, noted.memory_nusd_per_h
    return ContainerRate(sum(parts), *parts, noted.book, tokens=noted.tokens)


def _rate_in(noted: NotedPool, book: PriceBook) -> ContainerRate:
    """Raises UnknownPrice."""
    if noted.tokens is not None:
        return token_rate(book, noted.tokens.model)
    return container_rate(book, noted.gpu, noted.gpu_count, noted.cpu_cores, noted.memory_gib, noted.region)
