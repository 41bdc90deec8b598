"""Where the difference between bill and ledger lies, by named causes whose amounts add up to it.

Of one pool's hour, in this order: what the pool's factors explain (a multiplier, another price of the GPU); then
container time, known by the GPU, which brings CPU and memory of the same seconds with it; then what CPU and memory were
billed beyond that, since providers bill the larger of request and use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from pricing.money import half_even_nusd
from pricing.prices.resources import PricedPool, Resource, in_parts
from pricing.reconcile.booked import BookedHour
from pricing.reconcile.factors import Factors, told_alike

_NOISE: Final = 1000  # a residual below this part of what is expected is no cause


class Cause(StrEnum):
    """Amounts are bill − ledger."""

    BOOT_UNSEEN = "boot_unseen"
    BOOT_LONGER = "boot_longer"
    TIME_UNSEEN = "time_unseen"
    TIME_NOT_BILLED = "time_not_billed"
    FREE_TIME_BILLED = "free_time_billed"
    MULTIPLIER = "multiplier"
    GPU_PRICE = "gpu_price"
    CPU_ABOVE_REQUEST = "cpu_above_request"
    MEMORY_ABOVE_REQUEST = "memory_above_request"
    ROUTER_DOWN = "router_down"
    POOL_UNSEEN = "pool_unseen"
    TOKEN_PRICE = "token_price"
    NOT_PRICED = "not_priced"
    CHANGED_SINCE = "changed_since"
    REST = "rest"


SAID: Final[Mapping[Cause, str]] = {
    Cause.BOOT_UNSEEN: "boots that the ledger lacks, or has far too short",
    Cause.BOOT_LONGER: "boots that took longer than the ledger has them",
    Cause.TIME_UNSEEN: "containers alive that the router did not see",
    Cause.TIME_NOT_BILLED: "container time in the ledger that was not billed",
    Cause.FREE_TIME_BILLED: "boot or idle time that is free by the price book, in hours that were billed for more",
    Cause.MULTIPLIER: "one factor on every resource: a region or nonpreemptible multiplier that the pool's row lacks",
    Cause.GPU_PRICE: "the GPU is billed at another price than the book's",
    Cause.CPU_ABOVE_REQUEST: "CPU used beyond what the pool's row asks for",
    Cause.MEMORY_ABOVE_REQUEST: "memory used beyond what the pool's row asks for",
    Cause.ROUTER_DOWN: "hours in which the router booked nothing at all: it was down, or all was asleep to it",
    Cause.POOL_UNSEEN: "a pool that was billed, and that the ledger has nothing of",
    Cause.TOKEN_PRICE: "tokens billed otherwise than the book prices them",
    Cause.NOT_PRICED: "billed resources that the price book does not have",
    Cause.CHANGED_SINCE: "hours that were reconciled, whose bill or rows have changed since",
    Cause.REST: "rounding, and what no cause explains",
}


@dataclass(frozen=True, slots=True)
class Around:
    """What one hour's causes depend on besides the hour. `booked_before`: the pool has rows in the hour before."""

    factors: Factors
    priced: PricedPool | None
    active: bool
    pool_seen: bool
    booked_before: bool


def explain(hour: BookedHour | None, billed: Mapping[Resource, int], around: Around) -> Counter[Cause]:
    """Nano-dollars by cause; their sum is bill − ledger."""
    causes: Counter[Cause] = Counter()
    known = hour or BookedHour()
    difference = sum(billed.values()) - known.total_nusd
    if known.was_reconciled:
        causes[Cause.CHANGED_SINCE] = difference
    elif not around.pool_seen:
        causes[Cause.POOL_UNSEEN] = difference
    elif not around.active:
        causes[Cause.ROUTER_DOWN] = difference
    elif around.priced is not None and around.priced.rate.tokens is not None:
        causes[Cause.TOKEN_PRICE] = difference
    else:
        _explain_containers(causes, known, billed, around)
    causes[Cause.REST] += difference - sum(causes.values())
    return Counter({cause: nusd for cause, nusd in causes.items() if nusd})


def _explain_containers(
    causes: Counter[Cause], hour: BookedHour, billed: Mapping[Resource, int], around: Around
) -> None:
    metered, billed = told_alike(hour, billed)
    lead = Resource.CONTAINER if Resource.CONTAINER in metered else Resource.GPU
    causes[Cause.TOKEN_PRICE] = billed.get(Resource.TOKENS, 0) - metered.get(Resource.TOKENS, 0)
    causes[Cause.NOT_PRICED] = billed.get(Resource.OTHER, 0)
    expected = {resource: _expected(causes, resource, metered, around.factors) for resource in _BY_TIME}
    residual = billed.get(lead, 0) - expected[lead]
    if abs(residual) * _NOISE <= expected[lead]:
        residual = 0
    for resource in _BY_TIME:
        extra = residual if resource is lead else _with(residual, resource, lead, expected, around)
        causes[_time(residual, expected[lead], hour, around)] += extra
        more = billed.get(resource, 0) - expected[resource] - extra
        if resource in _ABOVE and more * _NOISE > expected[resource] + extra:
            causes[_ABOVE[resource]] += more


def _expected(causes: Counter[Cause], resource: Resource, metered: Mapping[Resource, int], factors: Factors) -> int:
    """What the ledger's time of a resource is billed at, with the factors that are prices."""
    known = metered.get(resource, 0)
    multiplier = factors.uniform * (factors.of(resource) if factors.nonpreemptible and resource in _ABOVE else 1)
    uniform = _times(known, multiplier)
    causes[Cause.MULTIPLIER] += uniform - known
    if resource is not Resource.GPU:
        return uniform
    priced = _times(uniform, factors.gpu)
    causes[Cause.GPU_PRICE] += priced - uniform
    return priced


def _with(residual: int, resource: Resource, lead: Resource, expected: Mapping[Resource, int], around: Around) -> int:
    """What a resource of the same container seconds costs."""
    if lead is Resource.CONTAINER or not residual:
        return 0
    if expected[lead]:
        return _times(residual, Fraction(expected[resource], expected[lead]))
    if around.priced is None:
        return 0
    rates = in_parts(around.priced.rate.nusd_per_h, around.priced)
    gpu = rates.get(Resource.GPU, 0)
    return _times(residual, Fraction(rates.get(resource, 0), gpu)) if gpu else 0


def _time(residual: int, expected: int, hour: BookedHour, around: Around) -> Cause:
    """Whose container time is missing, by how much more than `expected` the leading resource was billed: what is free
    by the book, where there was any; a boot's, where one was booked or the pool had been asleep the hour before. Less
    than one of the boots that were booked is no boot that nobody saw.
    """
    if residual < 0:
        return Cause.TIME_NOT_BILLED
    if hour.free_us:
        return Cause.FREE_TIME_BILLED
    if residual * max(1, hour.boots) * sum(hour.metered.values()) < expected * hour.boot_nusd:
        return Cause.BOOT_LONGER
    booted = hour.boots or hour.boot_nusd or not around.booked_before
    return Cause.BOOT_UNSEEN if booted else Cause.TIME_UNSEEN


def _times(nusd: int, factor: Fraction) -> int:
    return half_even_nusd(nusd * factor.numerator, factor.denominator)


_BY_TIME: Final = (Resource.CONTAINER, Resource.GPU, Resource.CPU, Resource.MEMORY)
_ABOVE: Final = {Resource.CPU: Cause.CPU_ABOVE_REQUEST, Resource.MEMORY: Cause.MEMORY_ABOVE_REQUEST}
