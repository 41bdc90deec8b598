"""The FOCUS export of one ledger, from a file and from PostgreSQL, rule by rule."""

from __future__ import annotations

import asyncio
import io
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from policies.compile.load import load_policy
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.policy_history import remember
from pricing.ledger.read import recent_rows
from pricing.ledger.rows import RECONCILED, WITHOUT_STORE, House, LedgerRow, RowKind
from pricing.ledger.upgrade import ensure_current
from pricing.money import NUSD_PER_USD, parse_usd
from pricing.prices.rates import ContainerRate
from pricing.prices.resources import PricedPool
from pricing.prices.token_price import TokenPrice
from pricing.reports.focus import FocusAsked, write_focus
from pricing.reports.focus_columns import COLUMNS, MANDATORY
from pricing.reports.focus_pools import Given
from pricing.reports.spans import instant_text
from router.cli.main import app
from router.views.priced import given, known_books
from support.endpoint import before_simulated, one_pool
from support.example_ledger import A10, BEGIN, HOUR, IN_FORCE, L4, T4, write_example_ledger
from support.focus_rules import TABLE, Row, broken_rules, read_export
from support.money import house_row, row
from support.shared_ledger import fill, fill_file
from support.values import replace

BILLED_HOUR = BEGIN + HOUR
DAY = 24 * HOUR
NOVEMBER = (BEGIN - 34 * HOUR, BEGIN + 27 * DAY + 14 * HOUR)
TOKENS = ContainerRate(0, 0, 0, 0, "modal-2026-10", tokens=TokenPrice("big", 500_000_000, 1_500_000_000, 500_000_000))


def more_rows() -> list[LedgerRow]:
    """What the example lacks: pools by the token and unknown ones, cuts, failures, free attempts and boots, rows of no
    book; under a policy whose pools the ledger does not have.
    """
    api = row(
        "t:1", 1_234_567, at_us=BEGIN, pool="api", gpu="api", model="big", prompt_tokens=1_900, completion_tokens=77
    )
    gone = row("u:1", 999_999_999, at_us=BEGIN + 1, pool="gone", price_books="old")
    cut = row("v:1", 7, at_us=BEGIN, pool=L4, tags=("web", WITHOUT_STORE), price_books="")
    beyond = replace(cut, row_id="v:1:overrun", kind=RowKind.OVERRUN, account=House.OVERRUN, amount_nusd=11)
    free = row("w:1", 0, House.FAILED, at_us=BEGIN, pool=A10, outcome="unavailable", completion_tokens=0)
    unknown = row("x:1", 5, at_us=BEGIN, pool="api", prompt_tokens=None, completion_tokens=None)
    unpaid = replace(house_row("a10@5:boot", RowKind.BOOT, 0, BEGIN, A10), duration_us=9_000_000, boots=1)
    learnt = house_row("a10@9:adjustment", RowKind.ADJUSTMENT, -3, BEGIN, A10)
    late = replace(row("y:1", 0, at_us=BEGIN, pool=L4), row_id="y:1:late", kind=RowKind.LATE, metered_nusd=10**9)
    made = [api, gone, cut, beyond, free, unknown, unpaid, learnt, late]
    return [replace(each, policy_version="p2") for each in made]


def to_bill(known: list[LedgerRow], pool: str, billed: dict[str, int]) -> list[LedgerRow]:
    """Adjustments that bring one pool's hour to a bill by resource, all the difference on the first."""
    mine = sum(each.amount_nusd for each in known if each.pool == pool and each.at_us // HOUR == BILLED_HOUR // HOUR)
    difference = sum(billed.values()) - mine
    found = []
    for number, (resource, nusd) in enumerate(billed.items()):
        made = house_row(
            f"reconcile:{pool}:{resource}", RowKind.ADJUSTMENT, difference * (not number), BILLED_HOUR, pool
        )
        found.append(replace(made, outcome=RECONCILED + resource, metered_nusd=nusd, price_books="", gpu="", model=""))
    return found


BILL = {
    L4: {"gpu": 2_100_000_001, "cpu": 300_000_000, "memory": 400_000_000, "other": 7},
    T4: {"container": 50_000_000},
}


@pytest.fixture(params=["file", "database"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerPlace:
    """The example's ledger with the rows above, of which two pools' hours were reconciled."""
    path = tmp_path / "ledger.sqlite"
    await asyncio.to_thread(write_example_ledger, path)
    rows = [*recent_rows(path, 10_000), *more_rows()]
    rows += [each for pool, billed in BILL.items() for each in to_bill(rows, pool, billed)]
    if request.param == "file":
        fill_file(path, rows)
        return path
    url = PostgresUrl(request.getfixturevalue("postgres_url"))
    ensure_current(url)
    await fill(url, rows)
    await asyncio.to_thread(remember, url, IN_FORCE)
    return url


@pytest.fixture(scope="module")
def policy() -> Given:
    """The shipped policy's pools, and one that is billed by the token, as the pools of those rows."""
    shipped = given(load_policy([], environ={}, now_us=BEGIN, assume_deployed=True), known_books([]))
    api = PricedPool(TOKENS, "tokens-inc", "chat", "api", 0, 0.0, 0.0)
    return replace(
        shipped, version="p2", pricing=lambda pool, book: api if pool == "api" else shipped.pricing(pool, book)
    )


def exported(place: LedgerPlace, policy: Given, window: tuple[int, int] = NOVEMBER, **more: object) -> list[Row]:
    file = io.StringIO(newline="")
    done = write_focus(place, replace(FocusAsked(*window), **more), policy, file)
    rows = read_export(file.getvalue())
    assert done.rows == len(rows)
    return rows


def total(rows: list[Row], column: str) -> int:
    return int(sum(Decimal(each[column] or 0) for each in rows) * NUSD_PER_USD)


def test_columns_are_those_of_focus_and_ours_come_last() -> None:
    """All 21 mandatory ones, then the conditional, then 1.3's, then `x_`; the table of rules has each, and no other."""
    assert [each.name for each in TABLE] == list(COLUMNS)
    assert {each.name for each in TABLE if each.mandatory} == set(MANDATORY)
    assert len(MANDATORY) == 21
    assert [each.since for each in TABLE] == sorted(each.since for each in TABLE)
    assert {each.name.startswith("x_") for each in TABLE if each.since == "x"} == {True}


def test_no_rule_is_broken(place: LedgerPlace, policy: Given) -> None:
    """Types, nulls, allowed values and formats of every column, and the rules between columns, on every row."""
    rows = exported(place, policy)
    assert broken_rules(rows) == []
    assert {each["x_Resource"] for each in rows} == {"gpu", "cpu", "memory", "tokens", "container", "other"}
    phases = {"busy", "idle", "boot", "failed", "overrun", "adjustment", "reconciled"}
    assert {each["x_Phase"] for each in rows} == phases


def test_predicted_cost_is_the_ledger(place: LedgerPlace, policy: Given) -> None:
    """To the nano-dollar, in all and by pool, account and price book, however a window is cut at hours."""
    path_rows = recent_rows(place, 10_000)
    rows = exported(place, policy)
    assert total(rows, "x_PredictedCost") == sum(each.amount_nusd for each in path_rows)
    sums: Counter[tuple[str | None, ...]] = Counter()
    for each in rows:
        sums[each["ResourceId"], each["SubAccountId"], each["x_PriceBooks"]] += parse_usd(each["x_PredictedCost"] or "")
    expected: Counter[tuple[str | None, ...]] = Counter()
    for known in path_rows:
        if known.kind is not RowKind.LATE:
            expected[known.pool, known.account, known.price_books or None] += known.amount_nusd
    assert +sums == +expected
    cut = BEGIN + HOUR
    both = exported(place, policy, (NOVEMBER[0], cut)) + exported(place, policy, (cut, NOVEMBER[1]))
    assert sorted(map(str, both)) == sorted(map(str, rows))


def test_estimates_carry_no_billed_cost_and_reconciled_hours_the_bill(place: LedgerPlace, policy: Given) -> None:
    """BilledCost comes to the provider's bill of the month; `billed_only` has those rows alone, and no null in it."""
    rows = exported(place, policy)
    billed = exported(place, policy, billed_only=True)
    assert billed == [each for each in rows if each["BilledCost"] is not None]
    assert total(rows, "BilledCost") == sum(nusd for bill in BILL.values() for nusd in bill.values())
    assert {(each["ResourceId"], each["ChargePeriodStart"]) for each in billed} == {
        (L4, "2026-11-02T11:00:00Z"),
        (T4, "2026-11-02T11:00:00Z"),
    }


def test_an_hour_that_changed_after_its_bill_is_an_estimate_again(tmp_path: Path, policy: Given) -> None:
    """A row that came later is in no bill yet, and no sum of BilledCost may go beyond the bill."""
    path = tmp_path / "later.sqlite"
    known = [house_row("l4:idle", RowKind.IDLE, 1_000, BILLED_HOUR, L4)]
    fill_file(path, [*known, *to_bill(known, L4, {"gpu": 1_500})])
    assert total(exported(path, policy), "BilledCost") == 1_500
    fill_file(path, [house_row("l4:boot", RowKind.BOOT, 1, BILLED_HOUR, L4)])
    rows = exported(path, policy)
    assert {each["x_Estimated"] for each in rows} == {"true"}
    assert (total(rows, "BilledCost"), total(rows, "x_PredictedCost")) == (0, 1_501)


def test_tokens_are_counted_once(place: LedgerPlace, policy: Given) -> None:
    """A charge has several rows, of which one carries its tokens."""
    rows = exported(place, policy)
    columns = {
        "x_InputTokens": "prompt_tokens",
        "x_CachedInputTokens": "cached_prompt_tokens",
        "x_OutputTokens": "completion_tokens",
    }
    for column, field in columns.items():
        known = [each for each in recent_rows(place, 10_000) if each.kind is not RowKind.LATE]
        assert sum(int(each[column] or 0) for each in rows) == sum(getattr(each, field) or 0 for each in known)


def test_unit_prices_are_the_book_s(place: LedgerPlace, policy: Given) -> None:
    """A GPU-hour, a core-hour and a GiB-hour cost what the price book of the row says; a SKU has one price."""
    prices: dict[str, set[str | None]] = defaultdict(set)
    for each in exported(place, policy):
        if each["PricingUnit"] in ("GPU-Hours", "Core-Hours", "GiB-Hours"):
            prices[each["SkuPriceId"] or ""].add(each["ListUnitPrice"])
    assert prices == {
        "modal-2026-10:modal:gpu:l4": {"0.8"},
        "modal-2026-10:modal:gpu:a10": {"1.1"},
        "modal-2026-10:modal:gpu:t4": {"0.59"},
        "modal-2026-10:modal:cpu": {"0.0473"},
        "modal-2026-10:modal:memory": {"0.008"},
        "no-book:modal:gpu:l4": {"0.8"},
        "no-book:modal:cpu": {"0.0473"},
        "no-book:modal:memory": {"0.008"},
    }


def test_the_verb_writes_a_file(tmp_path: Path) -> None:
    """With the account's id as it was given; a window without a whole hour is refused with a sentence."""
    ledger, out = tmp_path / "ledger.sqlite", tmp_path / "focus.csv"
    write_example_ledger(ledger)
    words = ["focus", "--ledger", str(ledger), "--since", "2026-11-01", "--until", "2026-12-01"]
    ran = CliRunner().invoke(app, [*words, "--out", str(out), "--account", "ws-1"])
    assert (ran.exit_code, ran.output) == (0, f"51 rows written to {out}\n")
    rows = read_export(out.read_text(encoding="utf-8"))
    assert {each["BillingAccountId"] for each in rows} == {"ws-1"}
    assert total(rows, "x_PredictedCost") == 9_210_000_000
    printed = CliRunner().invoke(app, words)
    assert len(read_export(printed.output)) == 51
    refused = CliRunner().invoke(
        app, ["focus", "--ledger", str(ledger), "--since", "2026-11-01T10:00Z", "--until", "2026-11-01T10:30Z"]
    )
    assert refused.exit_code == 2
    assert "whole hours of UTC" in refused.output


async def test_an_admin_gets_the_same_over_http(tmp_path: Path) -> None:
    """As a stream of CSV that keeps every rule; what is wrong with the question is said before its first byte."""
    async with before_simulated(tmp_path, one_pool(), awake=("small",)) as endpoint:
        assert (await endpoint.chat("acme", max_tokens=3)).status == 200
        await endpoint.requests(1)
        paid = recent_rows(endpoint.ledger, 1)[0]
        since, until = instant_text(paid.at_us), instant_text(paid.at_us + HOUR)
        reply = await endpoint.ask("GET", f"/v1/focus?since={since}&until={until}&account=ws-1", "ops")
        assert reply.status == 200
        rows = read_export(reply.body.decode())
        assert broken_rules(rows) == []
        assert total([each for each in rows if each["SubAccountId"] == "acme"], "x_PredictedCost") == paid.amount_nusd
        for query, said in (
            ("since=soon", b"is not a time"),
            ("since=1970-01-01&until=1970-01-01T00:30Z", b"whole hours"),
        ):
            refused = await endpoint.ask("GET", f"/v1/focus?{query}", "ops")
            assert (refused.status, said in refused.body) == (400, True), refused.body
