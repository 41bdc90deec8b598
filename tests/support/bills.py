"""A month of two simulated pools: what their containers did, what the router booked of it, and the provider's bill.

The truth is container seconds by hour. The ledger is written from what the router saw of them, the bill from the truth
at the book's rates; each distortion is done to one side, and its amount kept by cause.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Final

from policies.compile.load import load_policy
from pricing.ledger.rows import LedgerRow, RowKind
from pricing.money import cost_nusd
from pricing.prices.resources import Pricing, Resource
from pricing.reconcile.causes import Cause
from router.views.priced import known_books, pricing_of
from support.example_ledger import A10, L4
from support.money import house_row, row
from support.values import replace

BEGIN: Final = 1_793_491_200 * 10**6  # 2026-11-01
HOUR: Final = 3_600 * 10**6
HOURS: Final = 30 * 24
END: Final = BEGIN + HOURS * HOUR
BOOK: Final = "modal-2026-10"
_NAMES: Final = {Resource.CPU: "CPU", Resource.MEMORY: "Memory"}


def shipped_pricing() -> Pricing:
    return pricing_of(load_policy([], environ={}, now_us=BEGIN, assume_deployed=True), known_books([]))


@dataclass
class Distorted:
    """What goes wrong. `multiplier` is on all of A10's hours; hours are numbers within the month."""

    boots_short: bool = False
    multiplier: Fraction = Fraction(1)
    memory_above: bool = False
    unseen_hours: frozenset[int] = frozenset()  # the router runs, and sees a container too few
    down_hours: frozenset[int] = frozenset()  # it does not run


@dataclass
class Month:
    """`bill` is dollars by (hour, pool, resource), exact; `truth` nano-dollars by cause, exact."""

    rows: list[LedgerRow] = field(default_factory=list)
    bill: dict[tuple[int, str, Resource], Fraction] = field(default_factory=dict)
    truth: dict[tuple[str, Cause], Fraction] = field(default_factory=lambda: defaultdict(Fraction))

    @property
    def bill_nusd(self) -> int:
        return round(sum(self.bill.values()) * 10**9)


def simulated_month(seed: int, distorted: Distorted, hours: int = HOURS) -> Month:
    """A10 is alive every hour, L4 now and then; or its first `hours`."""
    month, dice, pricing = Month(), random.Random(seed), shipped_pricing()
    for number in range(hours):
        for pool in (A10, L4):
            if pool == A10 or dice.random() < 0.4:
                _hour(month, number, pool, dice, distorted, pricing)
    return month


def _hour(month: Month, number: int, pool: str, dice: random.Random, distorted: Distorted, pricing: Pricing) -> None:
    boot_s = 60 if pool == L4 else 0
    busy_s, idle_s = dice.randrange(300, 2_000), dice.randrange(60, 900)
    seen_boot_s = boot_s - 45 if distorted.boots_short and boot_s else boot_s
    unseen_s = 1_200 if number in distorted.unseen_hours else 0
    down = number in distorted.down_hours
    if not down:
        month.rows += _rows(pool, number, seen_boot_s, busy_s, idle_s, pricing)
    seen_s = 0 if down else seen_boot_s + busy_s + idle_s
    priced = pricing(pool, BOOK)
    assert priced is not None
    rate = priced.rate
    parts = {
        Resource.GPU: rate.gpu_nusd_per_h,
        Resource.CPU: rate.cpu_nusd_per_h,
        Resource.MEMORY: rate.memory_nusd_per_h,
    }
    factor = distorted.multiplier if pool == A10 else Fraction(1)
    for resource, nusd_per_h in parts.items():
        alive_s = boot_s + busy_s + idle_s + unseen_s
        more = Fraction(3, 10) if distorted.memory_above and resource is Resource.MEMORY and number % 3 == 0 else 0
        per_s = Fraction(nusd_per_h, 3_600)
        billed = per_s * factor * alive_s * (1 + more)
        month.bill[BEGIN + number * HOUR, pool, resource] = billed / 10**9
        if down:
            month.truth[pool, Cause.ROUTER_DOWN] += billed
            continue
        month.truth[pool, Cause.MULTIPLIER] += per_s * (factor - 1) * seen_s
        month.truth[pool, Cause.BOOT_UNSEEN if boot_s else Cause.TIME_UNSEEN] += per_s * factor * (alive_s - seen_s)
        month.truth[pool, Cause.MEMORY_ABOVE_REQUEST] += per_s * factor * alive_s * more


def _rows(pool: str, number: int, boot_s: int, busy_s: int, idle_s: int, pricing: Pricing) -> Iterator[LedgerRow]:
    priced = pricing(pool, BOOK)
    assert priced is not None
    at_us, rate = BEGIN + number * HOUR + 60 * 10**6, priced.rate.nusd_per_h
    name = f"{pool}-{number}"
    for tenant, seconds in (("acme", busy_s // 3), ("globex", busy_s - busy_s // 3)):
        yield row(
            f"{name}-{tenant}:1", cost_nusd(rate, seconds * 10**6), tenant, at_us=at_us, pool=pool, gpu=priced.gpu
        )
    for kind, seconds in ((RowKind.BOOT, boot_s), (RowKind.IDLE, idle_s)):
        if seconds:
            made = house_row(f"{name}:{kind}", kind, cost_nusd(rate, seconds * 10**6), at_us, pool)
            boots = int(kind is RowKind.BOOT)
            yield replace(made, tenant=None, gpu=priced.gpu, duration_us=seconds * 10**6, boots=boots)


def write_modal_csv(path: Path, month: Month, *more: str) -> None:
    """The bill as `modal billing report --resolution h --show-resources --tag-names pool --csv` writes it."""
    lines = ["Object ID,Description,Environment,Interval Start,Resource,Cost,Tags"]
    for (at_us, pool, resource), usd in month.bill.items():
        start = datetime.fromtimestamp(at_us // 10**6, UTC).replace(tzinfo=None).isoformat()
        name = _NAMES.get(resource, "A10G" if pool == A10 else "L4")
        tags = '"{""pool"": ""' + pool + '""}"'
        lines.append(f"ap-{pool},sluice-{pool},main,{start},{name},{decimal_text(usd)},{tags}")
    path.write_text("\n".join([*lines, *more]) + "\n", encoding="utf-8")


def decimal_text(usd: Fraction) -> str:
    """Fifteen decimals, as a meter of micro-cents would have them."""
    scaled = round(usd * 10**15)
    return f"{scaled // 10**15}.{scaled % 10**15:015d}"
