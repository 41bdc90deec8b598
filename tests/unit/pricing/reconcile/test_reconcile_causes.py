"""Causes of single hours, one claim each; a month of them together is in the contract suite."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from fractions import Fraction

import pytest

from pricing.prices.rates import ContainerRate
from pricing.prices.resources import PricedPool, Resource
from pricing.prices.token_price import TokenPrice
from pricing.reconcile.bill import Bill, PoolHour
from pricing.reconcile.booked import Booked, BookedHour
from pricing.reconcile.causes import SAID, Around, Cause, explain
from pricing.reconcile.compare import compare
from pricing.reconcile.edits import edits
from pricing.reconcile.factors import Factors, find_factors
from pricing.reports.focus_groups import Group

RATE = ContainerRate(1_000, 700, 200, 100, "book")
PRICED = PricedPool(RATE, "modal", "serverless", "L4", 1, 4.0, 32.0)
BY_TOKENS = ContainerRate(0, 0, 0, 0, "book", tokens=TokenPrice("big", 1, 1, 1))
API = PricedPool(BY_TOKENS, "tokens-inc", "chat", "api", 0, 0.0, 0.0)
QUIET = Around(Factors(), PRICED, active=True, pool_seen=True, booked_before=True)
KNOWN = {Resource.GPU: 7_000_000, Resource.CPU: 2_000_000, Resource.MEMORY: 1_000_000}


def around(**changes: object) -> Around:
    quiet = {name: getattr(QUIET, name) for name in Around.__slots__}
    return Around(**{**quiet, **changes})  # type: ignore[arg-type] # names and types are those of the fields


def group(account: str, amount_nusd: int, duration_us: int) -> Group:
    """A sum of one hour of the pool; nothing else is known of it."""
    nothing = {each.name: 0 if each.type == "int" else "" for each in fields(Group)}
    known = {"account": account, "amount_nusd": amount_nusd, "duration_us": duration_us, "rows": 1}
    return Group(**{**nothing, **known})  # type: ignore[arg-type] # names and types are those of the fields


def hour(known: dict[Resource, int], **more: int) -> BookedHour:
    return BookedHour(metered=Counter(known), **more)


def scaled(gpu: Fraction | int, cpu: Fraction | int, memory: Fraction | int) -> dict[Resource, int]:
    factors = dict(zip(KNOWN, (gpu, cpu, memory), strict=True))
    return {resource: int(nusd * factors[resource]) for resource, nusd in KNOWN.items()}


def test_time_brings_cpu_and_memory_with_it() -> None:
    """Half as much again of everything is container time that nobody saw, a boot's where one was booked."""
    billed = scaled(Fraction(3, 2), Fraction(3, 2), Fraction(3, 2))
    assert explain(hour(KNOWN), billed, QUIET) == {Cause.TIME_UNSEEN: 5_000_000}
    assert explain(hour(KNOWN, boots=1), billed, QUIET) == {Cause.BOOT_UNSEEN: 5_000_000}
    assert explain(hour(KNOWN), billed, around(booked_before=False)) == {Cause.BOOT_UNSEEN: 5_000_000}
    assert explain(hour(KNOWN, boots=1, free_us=1), billed, QUIET) == {Cause.FREE_TIME_BILLED: 5_000_000}
    less = scaled(Fraction(1, 2), Fraction(1, 2), Fraction(1, 2))
    assert explain(hour(KNOWN), less, QUIET) == {Cause.TIME_NOT_BILLED: -5_000_000}


@pytest.mark.parametrize(
    ("boots", "percent", "cause"),
    [
        (1, 25, Cause.BOOT_LONGER),
        (1, 99, Cause.BOOT_LONGER),
        (1, 100, Cause.BOOT_UNSEEN),
        (2, 49, Cause.BOOT_LONGER),
        (2, 50, Cause.BOOT_UNSEEN),
        (0, 25, Cause.BOOT_LONGER),
    ],
)
@pytest.mark.parametrize("factors", [Factors(), Factors(uniform=Fraction(5, 4))])
def test_a_boot_that_was_seen_is_not_called_unseen(boots: int, percent: int, cause: Cause, factors: Factors) -> None:
    """More than was booked, and less than one boot of those that were: they took longer. From a whole one on, another
    explains it as well. A boot that began in the hour before counts as one.
    """
    boot_nusd = 4_000_000
    more = 1 + Fraction(boot_nusd * percent, 100 * sum(KNOWN.values()))
    billed = scaled(*[more * factors.uniform] * 3)
    found = explain(hour(KNOWN, boots=boots, boot_nusd=boot_nusd), billed, around(factors=factors))
    assert found[cause] == boot_nusd * percent // 100 * factors.uniform
    assert set(found) <= {cause, Cause.MULTIPLIER}


def test_boot_and_idle_time_without_a_price_is_free() -> None:
    """Of the sums of an hour, those of requests and those that were paid for are not."""
    known = BookedHour()
    for account, nusd in (("__boot__", 0), ("__idle__", 0), ("__idle__", 5), ("__failed__", 0), ("acme", 0)):
        known.add(group(account, nusd, duration_us=7), PRICED)
    assert (known.free_us, known.total_nusd) == (14, 5)


def test_what_time_does_not_explain_is_use() -> None:
    """CPU and memory beyond the same seconds, each by itself."""
    billed = scaled(Fraction(3, 2), 2, Fraction(5, 2))
    assert explain(hour(KNOWN), billed, QUIET) == {
        Cause.TIME_UNSEEN: 5_000_000,
        Cause.CPU_ABOVE_REQUEST: 1_000_000,
        Cause.MEMORY_ABOVE_REQUEST: 1_000_000,
    }


def test_an_hour_that_was_not_booked_is_divided_by_the_rate() -> None:
    """Others were busy in it, so that the router ran."""
    billed = {**KNOWN, Resource.MEMORY: 1_500_000, Resource.OTHER: 9}
    assert explain(None, billed, QUIET) == {
        Cause.TIME_UNSEEN: 10_000_000,
        Cause.MEMORY_ABOVE_REQUEST: 500_000,
        Cause.NOT_PRICED: 9,
    }


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"active": False}, Cause.ROUTER_DOWN),
        ({"pool_seen": False, "active": False}, Cause.POOL_UNSEEN),
        ({"priced": API}, Cause.TOKEN_PRICE),
    ],
)
def test_what_is_known_of_the_whole_hour(changes: dict[str, object], cause: Cause) -> None:
    """A router that was down, a pool that it does not serve, a pool that has no containers."""
    assert explain(None, KNOWN, around(**changes)) == {cause: 10_000_000}
    assert explain(None, {Resource.CONTAINER: 5}, around(**changes)) == {cause: 5}


def test_an_hour_that_was_reconciled_changed_since() -> None:
    """Whatever its resources say."""
    known = hour(KNOWN, boots=1)
    known.adjusted[Resource.GPU] += 10
    known.written[Resource.GPU] += 1
    assert explain(known, KNOWN, QUIET) == {Cause.CHANGED_SINCE: -10}


def test_factors_come_before_time() -> None:
    """What a multiplier explains is no missing time; the rest of the hour is."""
    billed = scaled(Fraction(5, 2), Fraction(5, 2), Fraction(5, 2))
    found = explain(hour(KNOWN), billed, around(factors=Factors(uniform=Fraction(5, 4))))
    assert found == {Cause.MULTIPLIER: 2_500_000, Cause.TIME_UNSEEN: 12_500_000}
    dear = explain(hour(KNOWN), scaled(2, 1, 1), around(factors=Factors(gpu=Fraction(2))))
    assert dear == {Cause.GPU_PRICE: 7_000_000}
    kept = explain(hour(KNOWN), scaled(1, 3, 3), around(factors=Factors(cpu=Fraction(3), memory=Fraction(3))))
    assert kept == {Cause.MULTIPLIER: 6_000_000}


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ((Fraction(5, 4), Fraction(5, 4), Fraction(5, 4)), Factors(uniform=Fraction(5, 4))),
        ((Fraction(7, 4), Fraction(7, 4), Fraction(7, 2)), Factors(uniform=Fraction(7, 4), memory=Fraction(2))),
        ((Fraction(1), Fraction(3), Fraction(3)), Factors(cpu=Fraction(3), memory=Fraction(3))),
        ((Fraction(6, 5), Fraction(1), Fraction(1)), Factors(gpu=Fraction(6, 5))),
        ((Fraction(1001, 1000), Fraction(1), Fraction(1)), Factors()),
    ],
    ids=["region", "region and memory", "nonpreemptible", "price of the GPU", "noise"],
)
def test_factors_that_hours_share(ratios: tuple[Fraction, Fraction, Fraction], expected: Factors) -> None:
    """Of a pool whose hours have the same ratios; two hours are too few to say."""
    for hours, found in ((4, expected), (2, Factors())):
        places: list[PoolHour] = [("l4", number) for number in range(hours)]
        booked = Booked({place: hour(KNOWN) for place in places}, frozenset())
        bill = Bill("a bill", {place: scaled(*ratios) for place in places}, {}, 0, hours)
        assert find_factors(booked, bill) == {"l4": found}


def test_nothing_billed_is_no_factor() -> None:
    """Hours that a free plan covers, in full or all but a trace, are time that was not billed: nobody divides by it."""
    for billed in (scaled(0, 0, 0), scaled(0, 1, 1), scaled(*[Fraction(1, 5_000)] * 3)):
        places: list[PoolHour] = [("l4", number) for number in range(4)]
        booked = Booked({place: hour(KNOWN) for place in places}, frozenset())
        assert find_factors(booked, Bill("a bill", dict.fromkeys(places, billed), {}, 0, 4)) == {"l4": Factors()}
    assert explain(hour(KNOWN), scaled(0, 0, 0), QUIET) == {Cause.TIME_NOT_BILLED: -10_000_000}


def test_a_pool_that_the_policy_no_longer_has_is_compared_as_a_whole() -> None:
    """Nobody can divide its rows any more: their sum is held against that of the bill's parts, storage stands apart."""
    retired = hour({Resource.CONTAINER: 10_000_000})
    places: list[PoolHour] = [("l4", number) for number in range(4)]
    billed = {**scaled(*[Fraction(5, 4)] * 3), Resource.OTHER: 9}
    bill = Bill("a bill", dict.fromkeys(places, billed), {}, 0, 4)
    found = find_factors(Booked(dict.fromkeys(places, retired), frozenset()), bill)
    assert found == {"l4": Factors(uniform=Fraction(5, 4))}
    causes = explain(retired, billed, around(priced=None, factors=found["l4"]))
    assert causes == {Cause.MULTIPLIER: 2_500_000, Cause.NOT_PRICED: 9}
    storage = {Resource.OTHER: 9}
    only_storage = Bill("a bill", dict.fromkeys(places, storage), {}, 0, 4)
    assert find_factors(Booked(dict.fromkeys(places, retired), frozenset()), only_storage) == {"l4": Factors()}


def test_every_cause_is_explained() -> None:
    """In a sentence, for tables."""
    assert set(SAID) == set(Cause)


def test_rows_are_edited_by_what_is_billed() -> None:
    """Memory and cores become what is billed, beside a comment for what no key of a row says."""
    places: list[PoolHour] = [("l4", number) for number in range(4)]
    booked = Booked({place: hour(KNOWN) for place in places}, frozenset())

    def lines(*ratios: Fraction | int, priced: PricedPool | None = PRICED) -> list[str]:
        bill = Bill("a bill", {place: scaled(*ratios) for place in places}, {}, 0, 4)
        found = compare(booked, bill, lambda pool, book: priced, (0, 4), Fraction(9, 10))
        return edits(found, {"l4": priced}).splitlines()[2:]

    assert lines(1, Fraction(3, 2), Fraction(13, 10)) == [
        "    cpu_cores: 6 # was 4, and is billed at 1.5 of that",
        "    memory_gib: 41.6 # was 32, and is billed at 1.3 of that",
    ]
    assert lines(1, 1, Fraction(13, 10), priced=None) == ["    # memory is billed at 1.3 of what its row asked for"]
    assert lines(Fraction(6, 5), 1, 1) == [
        "    # its GPU is billed at 1.2 of the book's price: add a book with the new one"
    ]
    assert lines(1, 3, 3) == ["    # CPU and memory are billed at 3, as of a container that may not be preempted"]
