"""Factors by which a pool is billed again and again, found as the ratio that most of its hours share.

Container time that the router did not see makes hours dearer, each by another ratio. A multiplier (a pinned region, a
container that may not be preempted) is the same in every hour: among the ratios bill ÷ ledger of a pool's hours, the
value around which most lie within 0.2 percent. It counts where at least half of the hours share it, and three of them.
Hours with boots are left out while there are enough others, since boots are what is most often missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NamedTuple

from pricing.prices.resources import Resource
from pricing.reconcile.bill import Bill
from pricing.reconcile.booked import Booked, BookedHour

ONE: Final = Fraction(1)
TOLERANCE: Final = Fraction(1, 500)  # how far apart ratios are that count as one
NOTICED: Final = Fraction(1, 100)  # a factor nearer to 1 is none
MULTIPLE: Final = 2  # use that is so much above what was asked for, of CPU and memory alike, is a multiplier
_AT_LEAST: Final = 3  # hours that share it
_SHARE: Final = 2  # and this part of all hours
_PER: Final = 1000  # factors are thousandths, as multipliers of price books are


@dataclass(frozen=True, slots=True)
class Factors:
    """What most hours are billed at, over what the ledger says; 1 where they agree, or share nothing.

    `uniform` is on everything. `gpu`, `cpu` and `memory` are on those besides it.
    """

    uniform: Fraction = ONE
    gpu: Fraction = ONE
    cpu: Fraction = ONE
    memory: Fraction = ONE

    @property
    def any(self) -> bool:
        return any(factor != ONE for factor in (self.uniform, self.gpu, self.cpu, self.memory))

    @property
    def nonpreemptible(self) -> bool:
        """CPU and memory, and only they, are billed at the same multiple."""
        return self.cpu >= MULTIPLE and abs(self.cpu - self.memory) <= self.cpu * TOLERANCE

    def of(self, resource: Resource) -> Fraction:
        """What a resource is billed at besides `uniform`."""
        return {Resource.GPU: self.gpu, Resource.CPU: self.cpu, Resource.MEMORY: self.memory}.get(resource, ONE)


def find_factors(booked: Booked, bill: Bill) -> dict[str, Factors]:
    """By pool, over the hours that no reconciliation has touched."""
    ratios: dict[str, dict[Resource, list[_Ratio]]] = {}
    for place, billed in bill.amounts.items():
        hour = booked.hours.get(place)
        if hour is not None and not hour.was_reconciled:
            of_pool = ratios.setdefault(place[0], {})
            metered, alike = told_alike(hour, billed)
            for resource, known in metered.items():
                if known > 0 and resource in alike:
                    ratio = _Ratio(Fraction(alike[resource], known), bool(hour.boots or hour.boot_nusd))
                    of_pool.setdefault(resource, []).append(ratio)
    return {pool: _factors({each: _shared(_calm(found)) for each, found in by.items()}) for pool, by in ratios.items()}


class _Ratio(NamedTuple):
    """Bill ÷ ledger of one hour, and whether a boot was booked in it."""

    value: Fraction
    booted: bool


def _calm(ratios: Sequence[_Ratio]) -> list[Fraction]:
    """Those of hours without boots, or all where these are too few."""
    without = [ratio.value for ratio in ratios if not ratio.booted]
    return without if len(without) >= _AT_LEAST else [ratio.value for ratio in ratios]


def told_alike(
    hour: BookedHour, billed: Mapping[Resource, int]
) -> tuple[Mapping[Resource, int], Mapping[Resource, int]]:
    """What the router booked and what was billed, by resource as far as both tell resources apart."""
    if Resource.CONTAINER not in billed and Resource.CONTAINER not in hour.metered:
        return hour.metered, billed
    parts = {resource: nusd for resource, nusd in billed.items() if resource is not Resource.OTHER}
    whole = {Resource.CONTAINER: sum(parts.values())} if parts else {}
    rest = {Resource.OTHER: billed[Resource.OTHER]} if Resource.OTHER in billed else {}
    return {Resource.CONTAINER: sum(hour.metered.values())}, {**whole, **rest}


def _factors(shared: Mapping[Resource, Fraction]) -> Factors:
    lead = shared.get(Resource.CONTAINER, shared.get(Resource.GPU, ONE))
    others = [shared.get(each, lead) for each in (Resource.CPU, Resource.MEMORY)]
    uniform = lead if all(other >= lead * (1 - TOLERANCE) for other in others) else ONE
    return Factors(
        uniform=uniform,
        gpu=_near_one(shared.get(Resource.GPU, uniform) / uniform),
        cpu=_near_one(others[0] / uniform),
        memory=_near_one(others[1] / uniform),
    )


def _shared(ratios: Iterable[Fraction]) -> Fraction:
    """The smallest of the values that most ratios lie around."""
    ordered = sorted(ratios)
    best, start = ordered[:1], 0
    for end in range(len(ordered)):
        while ordered[end] > ordered[start] * (1 + TOLERANCE):
            start += 1
        if end - start + 1 > len(best):
            best = ordered[start : end + 1]
    if len(best) < max(_AT_LEAST, -(-len(ordered) // _SHARE)):
        return ONE
    return _near_one(best[len(best) // 2])


def _near_one(factor: Fraction) -> Fraction:
    """In thousandths; 1 for what nobody would notice, and for what comes to none: that is not billed, at any price."""
    return ONE if abs(factor - 1) < NOTICED else Fraction(round(factor * _PER) or _PER, _PER)
