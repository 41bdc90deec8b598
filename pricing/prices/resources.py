"""What a container's price is made of: GPU, CPU and memory, each with a part in every amount of the ledger.

The ledger counts containers as a whole. Providers bill their parts, and so do exports: an amount is divided in the
proportion of the parts of the container's rate, under the price book that the row names, to the nano-dollar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from pricing.money import apportion
from pricing.prices.rates import ContainerRate


class Resource(StrEnum):
    GPU = "gpu"
    CPU = "cpu"
    MEMORY = "memory"
    TOKENS = "tokens"  # of pools that are billed by the token
    CONTAINER = "container"  # all parts together, where nobody knows them
    OTHER = "other"  # what a bill names besides, as storage


@dataclass(frozen=True, slots=True)
class PricedPool:
    """A pool under one price book. `cpu_cores` are physical cores, memory is GiB, `gpu` the canonical id.

    `region_thousandths` are the book's multipliers of regions.
    """

    rate: ContainerRate
    provider: str
    product: str
    gpu: str
    gpu_count: int
    cpu_cores: float
    memory_gib: float
    region: str | None = None
    region_thousandths: Mapping[str, int] = field(default_factory=dict)

    def unit_nusd_per_h(self, resource: Resource) -> Fraction:
        """What one GPU, core or GiB of this pool costs an hour, region multiplier included; 0 of what it has none of.

        Raises KeyError for what is not sold by the hour.
        """
        whole, units = {
            Resource.GPU: (self.rate.gpu_nusd_per_h, Fraction(self.gpu_count)),
            Resource.CPU: (self.rate.cpu_nusd_per_h, Fraction(str(self.cpu_cores))),
            Resource.MEMORY: (self.rate.memory_nusd_per_h, Fraction(str(self.memory_gib))),
        }[resource]
        return whole / units if units else Fraction(0)


Pricing = Callable[[str, str], PricedPool | None]
"""(pool, price book) -> the pool under that book; None where either is no longer known."""


def in_parts(amount_nusd: int, priced: PricedPool | None) -> dict[Resource, int]:
    """An amount by resource; the parts add up to it. What costs nothing in this book has no part.

    By largest remainder, see `pricing.money.apportion`.
    """
    if priced is None:
        return {Resource.CONTAINER: amount_nusd}
    rate = priced.rate
    if rate.tokens is not None:
        return {Resource.TOKENS: amount_nusd}
    rates = {
        Resource.GPU: rate.gpu_nusd_per_h,
        Resource.CPU: rate.cpu_nusd_per_h,
        Resource.MEMORY: rate.memory_nusd_per_h,
    }
    paid = {resource: part for resource, part in rates.items() if part}
    if not paid:
        return {Resource.CONTAINER: amount_nusd}
    return dict(zip(paid, apportion(amount_nusd, list(paid.values())), strict=True))
