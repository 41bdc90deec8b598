"""Tables and charts of spend, made of what the API answered."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pricing.ledger.rows import House
from router.dashboard.spend import BY, caps_of, spend_chart, tables_of

NAMES = st.sampled_from(["a", "b", "c"])
AMOUNTS = st.integers(min_value=0, max_value=10**12)
LINES = st.lists(st.fixed_dictionaries({**dict.fromkeys(BY, NAMES), "charged_nusd": AMOUNTS, "house_nusd": AMOUNTS}))
SEPARATE = st.lists(
    st.fixed_dictionaries(
        {
            "pool": NAMES,
            "account": st.sampled_from([House.BOOT, House.IDLE, House.ADJUSTMENT]),
            "amount_nusd": st.integers(min_value=-(10**12), max_value=10**12),
        }
    )
)


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    lines = [{**line, "busy_nusd": line["charged_nusd"] + line["house_nusd"]} for line in draw(LINES)]
    separate = draw(SEPARATE)
    sums = sum(line["busy_nusd"] for line in lines) + sum(line["amount_nusd"] for line in separate)
    return {"lines": lines, "separate": separate, "ledger_nusd": sums}


@given(st.tuples(reports(), reports(), reports()))
def test_every_table_of_an_admin_adds_up_to_the_ledger(three: tuple[dict[str, Any], ...]) -> None:
    """By tenant, class and pool alike, in every window: nothing is left out or counted twice."""
    for table in tables_of(three, [], everything=True):
        assert list(table.total.amounts) == [report["ledger_nusd"] for report in three]


@given(st.tuples(reports(), reports(), reports()))
def test_a_tenant_s_tables_are_what_it_was_charged(three: tuple[dict[str, Any], ...]) -> None:
    """No house, no containers: each table adds up to the charges."""
    for table in tables_of(three, [], everything=False):
        assert list(table.total.amounts) == [sum(line["charged_nusd"] for line in report["lines"]) for report in three]
        assert not any(row.of_house for row in table.rows)


def test_what_a_bill_corrected_is_not_called_boot_or_idle() -> None:
    """It has a line of its own by tenant and class, beside a tenant of the same name, and is in its pool's amount."""
    line = {"tenant": "Adjustments", "class": "a", "pool": "a", "charged_nusd": 50, "house_nusd": 0, "busy_nusd": 50}
    amounts = ((House.BOOT, 3), (House.IDLE, 4), (House.ADJUSTMENT, -9))
    separate = [{"pool": "a", "account": account, "amount_nusd": nusd} for account, nusd in amounts]
    tables = tables_of([{"lines": [line], "separate": separate, "ledger_nusd": 48}] * 3, [], everything=True)
    assert [[(row.name, row.of_house, row.month_nusd) for row in table.rows] for table in tables] == [
        [("Adjustments", False, 50), ("Boot and idle", True, 7), ("Adjustments", True, -9)],
        [("a", False, 50), ("Boot and idle", True, 7), ("Adjustments", True, -9)],
        [("a", False, 48)],
    ]


def test_a_long_table_ends_in_one_line_for_the_rest() -> None:
    """The dearest by name, the others together, and the same total."""
    lines = [
        {
            "tenant": f"t{number:04}",
            "class": "a",
            "pool": "a",
            "charged_nusd": number,
            "house_nusd": 0,
            "busy_nusd": number,
        }
        for number in range(1, 1001)
    ]
    idle = {"pool": "a", "account": House.IDLE, "amount_nusd": 7}
    report = {"lines": lines, "separate": [idle], "ledger_nusd": 500_507}
    table = tables_of([report] * 3, [], everything=True)[0]
    assert [row.name for row in table.rows][-2:] == ["976 others", "Boot and idle"]
    assert table.rows[0].name == "t1000"
    assert sum(row.month_nusd for row in table.rows) == table.total.month_nusd == 500_507


def cap(name: str, spent: float, amount: float | str, **more: Any) -> dict[str, Any]:
    left = amount if amount == "unlimited" else float(amount) - spent
    return {
        "cap": name, "scope": "tenant:a", "window": "24h", "amount_usd": amount, "spent_usd": spent, "held_usd": 0.0,
        "left_usd": left, "warned": False, "lowering_tier": False, "resets_at": None, **more,
    }  # fmt: skip


def test_the_fullest_cap_comes_first_and_stands_at_its_tenant() -> None:
    """Used up, lowering, warned or within; an unlimited one last."""
    caps = caps_of(
        {
            "data": [
                cap("free", 3, "unlimited"),
                cap("half", 5, 10, warned=True),
                cap("full", 2, 2, warned=True, lowering_tier=True),
                cap("zero", 0, 0),
                cap("low", 9, 10, warned=True, lowering_tier=True),
            ]
        }
    )
    assert [(one.name, one.status) for one in caps] == [
        ("full", "exhausted"),
        ("zero", "exhausted"),
        ("low", "lowering"),
        ("half", "warned"),
        ("free", "within"),
    ]
    report = {"lines": [{**dict.fromkeys(BY, "a"), "charged_nusd": 1, "house_nusd": 0, "busy_nusd": 1}], "separate": []}
    by_tenant = tables_of([report] * 3, caps, everything=True)[0]
    assert by_tenant.rows[0].cap == caps[0]


def bucket(start_s: int, **usd: float) -> dict[str, Any]:
    """One hour of `/v1/costs`."""
    results = [{"line_item": f"gpu.{item}", "amount": {"value": value}} for item, value in usd.items()]
    return {"start_time": start_s, "results": results}


def test_a_chart_has_a_value_for_every_hour_of_every_series() -> None:
    """Hours without an item are 0; series come in the order in which they are stacked."""
    page = {"data": [bucket(0), bucket(3600, idle=0.5, busy=0.25), bucket(7200, busy=0.125)]}
    chart = spend_chart(page, everything=True)
    assert chart.hours == (0, 3600, 7200)
    assert chart.names == ("Answers", "Idle")
    assert chart.colours == (1, 4)
    assert chart.values == ((0.0, 0.25, 0.125), (0.0, 0.5, 0.0))
    assert chart.totals == (0.0, 0.75, 0.125)


def test_a_tenant_s_chart_is_what_it_was_charged() -> None:
    """As its tables are: what the house carries for its requests is not in it."""
    page = {"data": [bucket(0, failed=0.5), bucket(3600, failed=0.25, busy=0.125)]}
    chart = spend_chart(page, everything=False)
    assert (chart.names, chart.values) == (("Answers",), ((0.0, 0.125),))
