"""A provider's bill by pool, hour and resource, whatever it was read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from pricing.errors import UnknownGpu
from pricing.money import NUSD_PER_USD, US_PER_HOUR, half_even_nusd
from pricing.prices.gpus import canonical_gpu
from pricing.prices.resources import Resource

PoolHour = tuple[str, int]
"""A pool, and the first instant of an hour in microseconds."""

PoolOf = Callable[[str, Mapping[str, str]], str | None]
"""(name of a billed object, its tags) -> the pool that it is; None of what is no pool of ours."""

_WORDS: Final = {
    "": Resource.CONTAINER,
    "total": Resource.CONTAINER,
    "mem": Resource.MEMORY,
    "a100": Resource.GPU,  # of either size
    **{str(resource): resource for resource in Resource},
}


@dataclass(frozen=True, slots=True)
class Bill:
    """Nano-dollars by pool and hour, then resource. `unknown` are objects that are no pool of ours, by name.

    It covers the hours from `since_us` to before `until_us`, which is not after it of an empty one.
    """

    source: str
    amounts: Mapping[PoolHour, Mapping[Resource, int]]
    unknown: Mapping[str, int]
    since_us: int
    until_us: int

    @property
    def pools(self) -> frozenset[str]:
        return frozenset(pool for pool, _ in self.amounts)

    @property
    def total_nusd(self) -> int:
        return sum(sum(amounts.values()) for amounts in self.amounts.values())


class BillBuilder:
    """Adds lines up exactly, and rounds their sums to the nano-dollar, half to even.

    Lines outside the hours from `since_us` to before `until_us` are left out, but count for what the bill covers.
    `environment` is where our pools run, None where any may be theirs: what is billed in another is no pool of ours,
    whatever its name and tags, since one file is often deployed as staging and as production.
    """

    def __init__(
        self, source: str, pool_of: PoolOf, since_us: int, until_us: int, environment: str | None = None
    ) -> None:
        self._source = source
        self._pool_of = pool_of
        self._since_us = since_us
        self._until_us = until_us
        self._environment = environment
        self._sums: dict[PoolHour, dict[Resource, Fraction]] = {}
        self._unknown: dict[str, Fraction] = {}
        self._hours: list[int] = []

    def add(
        self, at_us: int, name: str, tags: Mapping[str, str], resource: Resource, usd: Decimal, environment: str = ""
    ) -> None:
        """`environment` is empty where the bill does not say it."""
        self._hours = [min([at_us, *self._hours]), max([at_us, *self._hours])]
        if not self._since_us <= at_us < self._until_us:
            return
        elsewhere = self._environment is not None and environment not in ("", self._environment)
        pool = None if elsewhere else self._pool_of(name, tags)
        if pool is None:
            name = f"{name} in environment {environment}" if elsewhere else name
            self._unknown[name] = self._unknown.get(name, Fraction(0)) + Fraction(usd)
            return
        sums = self._sums.setdefault((pool, at_us), {})
        sums[resource] = sums.get(resource, Fraction(0)) + Fraction(usd)

    def bill(self) -> Bill:
        first_us, last_us = self._hours or (0, -US_PER_HOUR)
        return Bill(
            source=self._source,
            amounts={
                place: {resource: _nusd(usd) for resource, usd in sums.items()} for place, sums in self._sums.items()
            },
            unknown={name: _nusd(usd) for name, usd in self._unknown.items()},
            since_us=max(first_us, self._since_us),
            until_us=min(last_us + US_PER_HOUR, self._until_us),
        )


def resource_of(word: str) -> Resource:
    """What a bill calls a resource: `CPU`, `Memory`, a GPU by its name, or nothing, which is all together."""
    plain = word.strip().lower()
    known = _WORDS.get(plain)
    if known is not None:
        return known
    try:
        canonical_gpu(plain.removeprefix("gpu").strip(" :_-").replace("_", "-"))
    except UnknownGpu:
        return Resource.OTHER
    return Resource.GPU


def _nusd(usd: Fraction) -> int:
    return half_even_nusd(usd.numerator * NUSD_PER_USD, usd.denominator)
