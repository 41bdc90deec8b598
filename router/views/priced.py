"""Pools under any price book, also under one that is no longer in force: what exports and reconciliations ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from policies.compile.pools import rate_of
from policies.files.fileset import SHIPPED_DEFAULT, outside_paths
from policies.policy import Policy
from pools.spec import PoolSpec
from pricing.errors import UnknownPrice
from pricing.prices.book import PriceBook, load_books, shipped_books
from pricing.prices.resources import PricedPool, Pricing
from pricing.reports.focus_pools import Given

_SUFFIX: Final = ".yaml"


def known_books(paths: Sequence[Path]) -> Mapping[str, PriceBook]:
    """The shipped books and those that policy files name, by id. Raises FileProblem."""
    outside = [path for path in outside_paths(paths or [SHIPPED_DEFAULT]) if path.is_dir() or path.suffix == _SUFFIX]
    return {**(load_books(outside) if outside else {}), **shipped_books()}


def pricing_of(policy: Policy, books: Mapping[str, PriceBook]) -> Pricing:
    """Look pools up as they are configured now. A row that names no book is taken under the one in force."""

    @cache
    def priced(pool: str, book_id: str) -> PricedPool | None:
        spec = policy.pools.get(pool)
        book = books.get(book_id or policy.rates[pool].book) if spec is not None else None
        return None if spec is None or book is None else _priced(spec, book)

    return priced


def given(policy: Policy, books: Mapping[str, PriceBook]) -> Given:
    """A policy at hand, for an export that asks what pools were when its rows were written."""
    return Given(policy.version, pricing_of(policy, books), books)


def _priced(spec: PoolSpec, book: PriceBook) -> PricedPool | None:
    """None where the book has no price for what the pool is made of by now."""
    try:
        rate = rate_of(spec, book)
    except UnknownPrice:
        return None
    return PricedPool(
        rate=rate,
        provider=book.provider,
        product=book.product,
        gpu=spec.gpu.id,
        gpu_count=spec.gpu_count,
        cpu_cores=spec.cpu_cores,
        memory_gib=spec.memory_gib,
        region=spec.region,
        region_thousandths=book.region_thousandths,
    )
