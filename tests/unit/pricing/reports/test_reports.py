"""Roll-ups of the ledger."""

import csv
import io
import json
import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pricing.errors import StoreUnavailable
from pricing.reports.columns import ColumnSet, usd_text
from pricing.reports.dimensions import DIMENSIONS
from pricing.reports.page import as_html
from pricing.reports.render import as_csv, as_json
from pricing.reports.report import Report, report
from pricing.reports.table import as_table
from support.ledgers import DAY_1, DAY_2, LEDGER_NUSD

HOUR = 3_600 * 1_000_000


def whole(ledger: Path, *by: str, tenant: str | None = None) -> Report:
    return report(ledger, by, DAY_1 - HOUR, DAY_2 + HOUR, tenant)


def test_by_tenant_and_pool(small_ledger: Path) -> None:
    """Each group has its requests, tokens, what its tenants paid and what the house paid for it."""
    lines = {line.key: line for line in whole(small_ledger, "tenant", "pool").lines}
    l4 = lines["acme", "l4"]
    assert (l4.requests, l4.served, l4.prompt_tokens, l4.completion_tokens) == (3, 2, 300, 60)
    assert (l4.charged_nusd, l4.house_nusd, l4.busy_nusd) == (3_900, 400, 4_300)
    assert (lines["acme", "a10"].requests, lines["acme", "a10"].charged_nusd) == (1, 4_000)
    assert (lines["globex", "l4"].charged_nusd, lines["globex", "l4"].house_nusd) == (500, 0)
    assert (lines["acme", "-"].requests, lines["acme", "-"].served, lines["acme", "-"].busy_nusd) == (1, 0, 0)


def test_boot_idle_and_adjustments_stand_apart(small_ledger: Path) -> None:
    """Container time that no request caused has lines of its own, with the groupings that apply to it."""
    separate = {(line.account, *line.key): line.amount_nusd for line in whole(small_ledger, "tenant", "pool").separate}
    assert separate == {
        ("__boot__", "-", "l4"): 70,
        ("__idle__", "-", "l4"): 30,
        ("__idle__", "-", "a10"): 11,
        ("__adjustment__", "-", "l4"): -1,
    }


def test_the_saving_compares_busy_cost_with_the_premium_pools(small_ledger: Path) -> None:
    """Four requests were served, with baselines of 5000, 5000, 6000 and 5000; the one that was cut has 5000 too."""
    total = whole(small_ledger).total
    assert total.baseline_nusd == 26_000
    assert total.saving_nusd == 26_000 - total.busy_nusd
    broken = {line.key[0]: line for line in whole(small_ledger, "outcome").lines}["broken"]
    assert broken.saving_nusd == 5_000 - broken.busy_nusd


def test_answers_to_schemas_count_at_the_pool_that_gave_them(small_ledger: Path) -> None:
    """One answer of l4 kept to its schema, one broke it and a10 answered in its stead, one was cut: none judges it."""
    lines = {line.key[0]: line for line in whole(small_ledger, "pool").lines}
    assert [(line.schema_kept, line.schema_broken, line.schema_cut) for line in (lines["l4"], lines["a10"])] == [
        (1, 1, 1),
        (1, 0, 0),
    ]
    assert (lines["l4"].schema_compliance, lines["a10"].schema_compliance) == (0.5, 1.0)
    assert lines["-"].schema_compliance is None
    shown = cells(drawn(whole(small_ledger, "pool")), "Answers to JSON schemas")
    assert shown["l4"] == ["1", "1", "1", "50.0%"]
    assert shown["total"] == ["2", "1", "1", "66.6%"]


@pytest.mark.parametrize("by", ["pool", "day", "tenant"])
def test_compliance_is_in_every_form(small_ledger: Path, by: str) -> None:
    """CSV and JSON have the counts and the share, however one groups."""
    rows = list(csv.DictReader(io.StringIO(as_csv(whole(small_ledger, by)))))
    assert sum(int(line["schema_kept"] or 0) for line in rows) == 2
    document = as_json(whole(small_ledger, by))
    assert (document["total"]["schema_broken"], document["total"]["schema_cut"]) == (1, 1)
    assert document["total"]["schema_compliance"] == pytest.approx(2 / 3)


def test_the_column_shows_where_it_says_something(small_ledger: Path) -> None:
    """When a schema was asked for; a window without any has none, unless one asks."""
    assert "schemas kept" in drawn(whole(small_ledger, "tenant"))
    day_2 = report(small_ledger, ["tenant"], DAY_2, DAY_2 + 1, None)
    assert "JSON schemas" not in drawn(day_2)
    assert "Answers to JSON schemas: none was asked for." in drawn(day_2, ColumnSet.SCHEMAS)


@given(st.lists(st.sampled_from(sorted(DIMENSIONS)), unique=True, max_size=4))
def test_every_grouping_adds_up_to_the_ledger(small_ledger: Path, by: list[str]) -> None:
    """However one groups, lines and house lines are all of the money, and all of the requests."""
    found = whole(small_ledger, *by)
    assert found.ledger_nusd == LEDGER_NUSD
    assert found.total.requests == 6
    assert sum(line.busy_nusd for line in found.lines) + sum(x.amount_nusd for x in found.separate) == LEDGER_NUSD


def test_windows_cut_between_days(small_ledger: Path) -> None:
    """Two windows that meet share nothing and miss nothing."""
    first = report(small_ledger, ["day"], DAY_1 - HOUR, DAY_2, None)
    second = report(small_ledger, ["day"], DAY_2, DAY_2 + 1, None)
    assert [line.key for line in (*first.lines, *second.lines)] == [("2026-01-01",), ("2026-01-02",)]
    assert first.ledger_nusd + second.ledger_nusd == LEDGER_NUSD
    assert second.ledger_nusd == 900 + 100 + 11 - 1


def test_a_tenants_own_report_shows_nothing_of_others(small_ledger: Path) -> None:
    """With a tenant, neither other tenants nor the house's container time are in it."""
    found = whole(small_ledger, "tenant", tenant="globex")
    assert [line.key for line in found.lines] == [("globex",)]
    assert (found.separate, found.ledger_nusd, found.total.requests) == ((), 500, 1)


def test_an_unknown_grouping_names_the_valid_ones(small_ledger: Path) -> None:
    """The message suggests the nearest, and lists all."""
    with pytest.raises(ValueError, match=r"did you mean 'tenant'.*there are: tenant, key, class"):
        whole(small_ledger, "tenat")
    with pytest.raises(ValueError, match="twice"):
        whole(small_ledger, "pool", "pool")


def test_a_missing_ledger_says_how_to_name_one(tmp_path: Path) -> None:
    """No file, no report, and what to do."""
    with pytest.raises(StoreUnavailable, match="--ledger or SLUICE_LEDGER"):
        whole(tmp_path / "no.sqlite")


def test_a_ledger_of_another_version_is_not_guessed_at(small_ledger: Path, tmp_path: Path) -> None:
    """Tables that this program does not know are refused by name of their version."""
    other = tmp_path / "other.sqlite"
    other.write_bytes(small_ledger.read_bytes())
    with sqlite3.connect(other) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="version 9999"):
        whole(other)


def test_csv_has_exact_dollars_for_every_line(small_ledger: Path) -> None:
    """Summing the column of a spreadsheet gives the ledger, without a rounding."""
    rows = list(csv.DictReader(io.StringIO(as_csv(whole(small_ledger, "tenant", "day")))))
    assert sum(Decimal(line["total_usd"]) for line in rows) == Decimal(LEDGER_NUSD) / 10**9
    assert {line["account"] for line in rows} == {"", "__boot__", "__idle__", "__adjustment__"}


def test_json_has_everything(small_ledger: Path) -> None:
    """The JSON form can be read back, names its groupings, and carries exact nano-dollars."""
    document = json.loads(json.dumps(as_json(whole(small_ledger, "pool"))))
    assert document["ledger_nusd"] == LEDGER_NUSD
    assert {line["pool"] for line in document["lines"]} == {"l4", "a10", "-"}
    assert sum(line["busy_nusd"] for line in document["lines"]) == document["total"]["busy_nusd"]


def test_the_table_ends_with_the_ledgers_sum(small_ledger: Path) -> None:
    """People see the lines, the house's lines, and what all of it comes to."""
    text = drawn(whole(small_ledger, "tenant", "pool"))
    assert "globex" in text
    assert "__boot__" in text
    assert "Ledger: $0.000009; boot and idle ($0.000000) stand apart." in text


def test_no_saving_is_shown_without_what_it_leaves_out(small_ledger: Path) -> None:
    """Table and page name it the saving on busy time, with what boot and idle cost; a tenant's own names no amount."""
    found = whole(small_ledger, "tenant")
    apart = sum(line.amount_nusd for line in found.separate)
    assert found.containers_nusd == apart > 0
    left_out = f"boot and idle ({usd_text(found, apart)})"
    assert f"{left_out} are in neither side." in drawn(found)
    assert f"<dt>Boot and idle, in neither</dt><dd>{usd_text(found, apart)}</dd>" in as_html(found, [ColumnSet.MONEY])
    assert "; boot and idle are in neither side." in drawn(whole(small_ledger, "tenant", tenant="globex"))


def test_an_empty_window_says_so(small_ledger: Path) -> None:
    """Nothing happened is an answer, not an empty table."""
    nothing = report(small_ledger, ["tenant"], 0, 1, "acme")
    assert nothing.empty
    assert "Nothing was spent and nothing was asked for tenant acme" in drawn(nothing)


def drawn(found: Report, *sets: ColumnSet) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(as_table(found, sets or None))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cells(text: str, title: str) -> dict[str, list[str]]:
    """The rows of one table by their first cell."""
    table = text.partition(f"{title}\n\n")[2].partition("\n\n")[0]
    return {words[0]: words[1:] for line in table.splitlines() if (words := line.split())}
