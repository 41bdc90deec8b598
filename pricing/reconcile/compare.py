"""The ledger beside a bill: what each has by pool and hour, capture rates by day, and what explains the difference.

The capture rate is ledger ÷ bill. Pools that the bill never names are left out: another provider bills them. Hours that
the bill does not reach are not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from pricing.clock import US_PER_S
from pricing.money import US_PER_HOUR
from pricing.prices.resources import Pricing, Resource
from pricing.reconcile.bill import Bill, PoolHour
from pricing.reconcile.booked import Booked, BookedHour
from pricing.reconcile.causes import Around, Cause, explain
from pricing.reconcile.factors import Factors, find_factors

ALL_POOLS: Final = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """One pool's hour: nano-dollars by resource. `causes` add up to bill − ledger."""

    pool: str
    at_us: int
    ledger: Counter[Resource]
    bill: Counter[Resource]
    causes: Counter[Cause]

    @property
    def ledger_nusd(self) -> int:
        return sum(self.ledger.values())

    @property
    def bill_nusd(self) -> int:
        return sum(self.bill.values())

    @property
    def day(self) -> str:
        return datetime.fromtimestamp(self.at_us // US_PER_S, UTC).strftime("%Y-%m-%d")


@dataclass(frozen=True, slots=True)
class Captured:
    """One day of UTC of one pool, or of all (ALL_POOLS). `rate` is ledger ÷ bill, None where nothing was billed."""

    day: str
    pool: str
    ledger_nusd: int
    bill_nusd: int

    @property
    def rate(self) -> Fraction | None:
        return Fraction(self.ledger_nusd, self.bill_nusd) if self.bill_nusd else None

    def is_below(self, threshold: Fraction) -> bool:
        return self.rate is not None and self.rate < threshold


@dataclass(frozen=True, slots=True)
class Comparison:
    """`not_in_bill` are pools of the ledger that the bill never names, `not_covered_nusd` what the ledger has in the
    hours of the window that the bill does not reach.
    """

    bill: Bill
    since_us: int
    until_us: int
    threshold: Fraction
    hours: tuple[Compared, ...]
    not_in_bill: Counter[str]
    not_covered_nusd: int
    factors: dict[str, Factors]

    @property
    def ledger_nusd(self) -> int:
        return sum(hour.ledger_nusd for hour in self.hours)

    @property
    def bill_nusd(self) -> int:
        return sum(hour.bill_nusd for hour in self.hours)

    @property
    def below(self) -> tuple[Captured, ...]:
        """Days, over all pools, whose capture rate is below the threshold."""
        return tuple(day for day in self.days() if day.pool == ALL_POOLS and day.is_below(self.threshold))

    @property
    def is_of_nothing(self) -> bool:
        """The ledger has money, and the bill nothing of it."""
        return not self.hours and any(self.not_in_bill.values())

    def days(self) -> list[Captured]:
        """Each day over all pools, followed by its pools."""
        sums: Counter[tuple[str, str, str]] = Counter()
        for hour in self.hours:
            for pool in (ALL_POOLS, hour.pool):
                sums[hour.day, pool, "ledger"] += hour.ledger_nusd
                sums[hour.day, pool, "bill"] += hour.bill_nusd
        places = sorted({place[:2] for place in sums})
        return [Captured(day, pool, sums[day, pool, "ledger"], sums[day, pool, "bill"]) for day, pool in places]

    def causes(self) -> Counter[tuple[str, Cause]]:
        """Nano-dollars by pool and cause."""
        found: Counter[tuple[str, Cause]] = Counter()
        for hour in self.hours:
            for cause, nusd in hour.causes.items():
                found[hour.pool, cause] += nusd
        return found


def compare(booked: Booked, bill: Bill, pricing: Pricing, window: tuple[int, int], threshold: Fraction) -> Comparison:
    """Hold a bill against what was booked in the same window of whole hours."""
    factors, labels, pools = find_factors(booked, bill), booked.labels(), bill.pools
    places = sorted({*bill.amounts, *_of_bill(booked, bill, pools)}, key=lambda place: (place[1], place[0]))

    def around(pool: str, at_us: int) -> Around:
        return Around(
            factors=factors.get(pool, Factors()),
            priced=pricing(pool, labels[pool].price_books if pool in labels else ""),
            active=at_us in booked.active,
            pool_seen=pool in labels,
            booked_before=at_us == window[0] or (pool, at_us - US_PER_HOUR) in booked.hours,
        )

    not_in_bill: Counter[str] = Counter()
    not_covered = 0
    for (pool, at_us), hour in booked.hours.items():
        if pool not in pools:
            not_in_bill[pool] += hour.total_nusd
        elif not bill.since_us <= at_us < bill.until_us:
            not_covered += hour.total_nusd
    return Comparison(
        bill=bill,
        since_us=window[0],
        until_us=window[1],
        threshold=threshold,
        hours=tuple(
            _compared(place, booked.hours.get(place), bill.amounts.get(place, {}), around(*place)) for place in places
        ),
        not_in_bill=not_in_bill,
        not_covered_nusd=not_covered,
        factors={pool: found for pool, found in factors.items() if found.any},
    )


def _of_bill(booked: Booked, bill: Bill, pools: frozenset[str]) -> Iterator[PoolHour]:
    """Hours that were booked of pools that the bill names, where it reaches them."""
    return ((pool, at_us) for pool, at_us in booked.hours if pool in pools and bill.since_us <= at_us < bill.until_us)


def _compared(place: PoolHour, hour: BookedHour | None, billed: Mapping[Resource, int], around: Around) -> Compared:
    ledger: Counter[Resource] = Counter()
    if hour is not None:
        ledger.update({resource: hour.ledger(resource) for resource in {*hour.metered, *hour.adjusted}})
    return Compared(*place, ledger, Counter(billed), explain(hour, billed, around))
