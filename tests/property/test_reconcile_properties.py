"""Whatever a ledger and a bill say: causes add up to the difference, and what is written makes them equal, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from pricing.ledger.rows import RECONCILED, LedgerRow
from pricing.prices.rates import ContainerRate
from pricing.prices.resources import PricedPool, Resource, in_parts
from pricing.reconcile.adjust import adjustments
from pricing.reconcile.bill import Bill, PoolHour
from pricing.reconcile.booked import Booked, BookedHour
from pricing.reconcile.compare import Comparison, compare
from pricing.reports.focus_groups import Group, is_billed

HOUR = 3_600 * 10**6
HOURS = 5
POOLS = ("l4", "a10")
AMOUNTS = st.integers(0, 10**13)
RATE = ContainerRate(1_245_200_000, 800_000_000, 189_200_000, 256_000_000, "book")
PRICED = PricedPool(RATE, "modal", "serverless", "L4", 1, 4.0, 32.0)
PLACES = st.tuples(st.sampled_from(POOLS), st.integers(0, HOURS - 1).map(lambda hour: hour * HOUR))
BILLS = st.dictionaries(PLACES, st.dictionaries(st.sampled_from(Resource), AMOUNTS, max_size=4), max_size=8)


def group(
    pool: str, at_us: int, account: str, amount: int, boots: int = 0, adjusted: str = "", metered: int = 0
) -> Group:
    text = ("book", "p1", "modelled", "[]", "m", "L4")
    return Group(at_us, pool, account, adjusted, *text, amount, metered, 0, 0, 0, 0, 1, boots)


GROUPS = st.lists(
    st.builds(
        lambda place, account, amount, boots: group(*place, account, amount, boots),
        PLACES,
        st.sampled_from(["acme", "__idle__", "__boot__", "__adjustment__"]),
        AMOUNTS,
        st.integers(0, 2),
    ),
    max_size=12,
)


def booked(groups: list[Group], priced: PricedPool | None) -> Booked:
    hours: dict[PoolHour, BookedHour] = {}
    for each in groups:
        hours.setdefault((each.pool, each.at_us), BookedHour()).add(each, priced)
    return Booked(hours, frozenset(each.at_us for each in groups))


def bill_of(amounts: Mapping[PoolHour, Mapping[Resource, int]]) -> Bill:
    return Bill("a bill", amounts, {}, 0, HOURS * HOUR)


def compared(groups: list[Group], bill: Bill, priced: PricedPool | None) -> tuple[Booked, Comparison]:
    known = booked(groups, priced)
    return known, compare(known, bill, lambda pool, book: priced, (0, HOURS * HOUR), Fraction(9, 10))


def as_group(row: LedgerRow) -> Group:
    return group(row.pool, row.at_us, row.account, row.amount_nusd, 0, row.outcome, row.metered_nusd)


@given(groups=GROUPS, amounts=BILLS, changed=BILLS, priced=st.sampled_from([PRICED, None]))
def test_causes_add_up_and_what_is_written_makes_equal(
    groups: list[Group],
    amounts: dict[PoolHour, dict[Resource, int]],
    changed: dict[PoolHour, dict[Resource, int]],
    priced: PricedPool | None,
) -> None:
    """After one bill and after another one for the same hours; each pool's hour is then billed, and nothing is due."""
    changed = {place: changed.get(place, resources) for place, resources in amounts.items()}
    ids: Counter[str] = Counter()
    for bill in (bill_of(amounts), bill_of(changed)):
        known, found = compared(groups, bill, priced)
        for hour in found.hours:
            assert sum(hour.causes.values()) == hour.bill_nusd - hour.ledger_nusd
        rows = adjustments(found, known)
        ids.update(row.row_id for row in rows)
        groups = [*groups, *map(as_group, rows)]
        known, equal = compared(groups, bill, priced)
        assert equal.ledger_nusd == equal.bill_nusd == found.bill_nusd
        assert adjustments(equal, known) == []
        for hour in equal.hours:
            mine = [each for each in groups if (each.pool, each.at_us) == (hour.pool, hour.at_us)]
            assert is_billed(mine) or not any(each.amount_nusd for each in mine)
    assert set(ids.values()) <= {1}


@given(groups=GROUPS, amounts=BILLS)
def test_nothing_is_compared_that_the_bill_does_not_name(
    groups: list[Group], amounts: dict[PoolHour, dict[Resource, int]]
) -> None:
    """Hours compared, pools not in the bill and hours beyond it are together the ledger."""
    known, found = compared(groups, bill_of(amounts), PRICED)
    left_out = sum(found.not_in_bill.values()) + found.not_covered_nusd
    assert found.ledger_nusd + left_out == sum(each.amount_nusd for each in groups)
    assert {row.pool for row in adjustments(found, known)} <= {pool for pool, _ in amounts}


@given(amount=st.integers(-(10**15), 10**15), gpu=AMOUNTS, cpu=AMOUNTS, memory=AMOUNTS)
def test_parts_of_an_amount_add_up_to_it(amount: int, gpu: int, cpu: int, memory: int) -> None:
    """Whatever the rate is made of; what costs nothing has no part, and each is off by less than a nano-dollar."""
    rate = ContainerRate(gpu + cpu + memory, gpu, cpu, memory, "book")
    parts = in_parts(amount, PricedPool(rate, "modal", "serverless", "L4", 1, 4.0, 32.0))
    assert sum(parts.values()) == amount
    for resource, share in ((Resource.GPU, gpu), (Resource.CPU, cpu), (Resource.MEMORY, memory)):
        if share:
            assert abs(parts[resource] - Fraction(amount * share, rate.nusd_per_h)) < 1
        else:
            assert resource not in parts


def test_the_outcome_names_the_resource() -> None:
    """So that sums by hour tell one reconciliation's rows from another's, and from the meter's adjustments."""
    known, found = compared([group("l4", 0, "acme", 5)], bill_of({("l4", 0): {Resource.GPU: 7}}), PRICED)
    assert {row.outcome for row in adjustments(found, known)} == {
        f"{RECONCILED}gpu",
        f"{RECONCILED}cpu",
        f"{RECONCILED}memory",
    }
