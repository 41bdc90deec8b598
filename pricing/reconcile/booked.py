"""What the ledger has of each pool's hours, by resource, beside what reconciliations before have made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pricing.ledger.place import LedgerPlace
from pricing.ledger.read import reading
from pricing.ledger.rollups import REQUESTS_BY_HOUR
from pricing.ledger.rows import House
from pricing.prices.resources import PricedPool, Pricing, Resource, in_parts
from pricing.reconcile.bill import PoolHour
from pricing.reports.focus_groups import Group, read_groups


@dataclass(slots=True)
class BookedHour:
    """One pool's hour. Nano-dollars by resource.

    `metered` is what the router booked, `adjusted` what reconciliations added, `billed` what those knew of the bill;
    `written` counts their rows. `boot_nusd` and `boots` are of boots, `free_us` is boot and idle time that its price
    book does not bill. `label` is the dearest sum of what was booked.
    """

    metered: Counter[Resource] = field(default_factory=Counter)
    adjusted: Counter[Resource] = field(default_factory=Counter)
    billed: Counter[Resource] = field(default_factory=Counter)
    written: Counter[Resource] = field(default_factory=Counter)
    boot_nusd: int = 0
    boots: int = 0
    free_us: int = 0
    label: Group | None = None

    def ledger(self, resource: Resource) -> int:
        """What the ledger has, reconciliations included."""
        return self.metered[resource] + self.adjusted[resource]

    @property
    def total_nusd(self) -> int:
        return sum(self.metered.values()) + sum(self.adjusted.values())

    @property
    def was_reconciled(self) -> bool:
        return bool(self.written)

    def add(self, group: Group, priced: PricedPool | None) -> None:
        resource = group.reconciled
        if resource is not None:
            self.adjusted[resource] += group.amount_nusd
            self.billed[resource] += group.metered_nusd
            self.written[resource] += group.rows
            return
        self.metered.update(in_parts(group.amount_nusd, priced))
        if group.account == House.BOOT:
            self.boot_nusd += group.amount_nusd
            self.boots += group.boots
        if group.account in (House.BOOT, House.IDLE) and not group.amount_nusd:
            self.free_us += group.duration_us
        if self.label is None or group.amount_nusd > self.label.amount_nusd:
            self.label = group


@dataclass(frozen=True, slots=True)
class Booked:
    """A window of the ledger. `active` are the hours in which any pool has a row, or any request ended."""

    hours: Mapping[PoolHour, BookedHour]
    active: frozenset[int]

    @property
    def pools(self) -> frozenset[str]:
        """Those that the router booked anything of."""
        return frozenset(pool for (pool, _), hour in self.hours.items() if hour.label is not None)

    def labels(self) -> dict[str, Group]:
        """The newest sum of each pool, for what a row of it says besides its amount."""
        found: dict[str, Group] = {}
        for (pool, _), hour in sorted(self.hours.items(), key=lambda each: each[0][1]):
            if hour.label is not None:
                found[pool] = hour.label
        return found


def read_booked(place: LedgerPlace, since_us: int, until_us: int, pricing: Pricing) -> Booked:
    """Whole hours from `since_us` to before `until_us`. Raises StoreUnavailable."""
    hours: dict[PoolHour, BookedHour] = {}
    with reading(place) as ledger:
        for group in read_groups(ledger, since_us, until_us):
            hour = hours.setdefault((group.pool, group.at_us), BookedHour())
            hour.add(group, pricing(group.pool, group.price_books))
        query = f"SELECT DISTINCT at_us FROM ({REQUESTS_BY_HOUR.between(since_us, until_us)}) AS hours"
        asked = {at_us for (at_us,) in ledger.execute(query)}
    booked = {at_us for (_, at_us), hour in hours.items() if hour.label is not None}
    return Booked(hours, frozenset(asked | booked))
