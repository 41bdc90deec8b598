"""A report in a terminal: it fits, says what it leaves out, breaks no figure, and has no tables of nothing."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from pricing.ledger.rows import RowKind
from pricing.reports.columns import Column, ColumnSet, columns_of, parts_of, spare_columns, text_of
from pricing.reports.figures import Latency
from pricing.reports.report import Report, report
from pricing.reports.sections import Section
from pricing.reports.share import HouseView
from pricing.reports.table import as_table, fitted
from support.example_ledger import BEGIN
from support.money import house_row, request, row
from support.shared_ledger import fill_file
from support.values import replace

SINCE, UNTIL = BEGIN - 34 * 3_600 * 10**6, BEGIN + 28 * 24 * 3_600 * 10**6
TEXT = st.text("abc ×-", min_size=1, max_size=14).map(str.strip).filter(bool)


def whole(ledger: Path, *by: str, house: str = "separate", tenant: str | None = None) -> Report:
    return report(ledger, by, SINCE, UNTIL, tenant, house=house, parts=parts_of(ColumnSet))


def drawn(found: Report, width: int, *sets: ColumnSet) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(as_table(found, sets or None), crop=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("house", HouseView)
@pytest.mark.parametrize("by", [("tenant",), ("tenant", "pool"), ("day", "class"), ()])
def test_no_line_is_wider_than_the_terminal(ledger: Path, by: tuple[str, ...], house: str, width: int) -> None:
    """Every set in every view; nor is an amount, an instant or a unit on two lines."""
    found = whole(ledger, *by, house=house)
    text = drawn(found, width, *ColumnSet)
    assert max(map(len, text.splitlines())) <= width
    money = [text_of(found, each, each.value(line, Latency())) for line in found.lines for each in shown_money(found)]
    assert [amount for amount in (money[0], money[-1]) if amount not in text] == []
    assert re.search(r"5\.0 h of\s+qwen3-vl-8b-bf16-l40s\s+\(1 × L40S,\s+\$12\.0000\)", text)


def shown_money(found: Report) -> list[Column]:
    spared = {title for titles in spare_columns(ColumnSet.MONEY) for title in titles}
    return [column for column in columns_of(found, ColumnSet.MONEY) if column.title not in spared]


def test_eighty_columns_hold_who_asked_where_and_what_it_cost(ledger: Path) -> None:
    """Only tokens are left out of the plain table, which says so; at 120 columns nothing is."""
    narrow, wide = drawn(whole(ledger, "tenant", "pool"), 80), drawn(whole(ledger, "tenant", "pool"), 120)
    assert re.search(r"tenant +pool +requests +served +charged +house +busy\n", narrow)
    assert "Left out at this width: tokens in, tokens out." in narrow
    assert re.search(r"served +tokens in +tokens out +charged +house +busy\n", wide)
    assert "Left out" not in wide


def test_parts_leave_before_their_sum(ledger: Path) -> None:
    """In a view that shares boots and idle time, busy and total stay where there is no room for their parts."""
    text = drawn(whole(ledger, "tenant", "pool", house="weighted"), 80)
    assert re.search(r"tenant +pool +requests +served +busy +total\n", text)
    assert "charged, house, boot, idle, adjustm." in " ".join(text.split())


def test_the_saving_has_a_table_of_its_own_and_a_sentence_in_every_report(ledger: Path) -> None:
    """Without asking: what was saved in all, of what, and what the baseline would have needed."""
    plain = drawn(whole(ledger, "tenant"), 100)
    assert "Against the baseline" not in plain
    assert "Saved on busy time: $5.9000, 49.1% of the baseline's $12.0000; boot and idle ($3.1100)" in plain
    asked = drawn(whole(ledger, "tenant"), 100, ColumnSet.SAVING)
    assert re.search(r"shop +\$6\.0000 +\$3\.1000 +\$2\.9000 +48\.3%", asked)


def test_container_time_is_one_row_for_each_pool(ledger: Path) -> None:
    """With what was observed of it; groupings that no container has are no columns, and without any all are one row."""
    assert re.search(
        r"\nqwen3-vl-8b-fp8-l4 +9,400\.0 +\$0\.4100 +\$2\.0500 +\$0\.0000 +\$2\.4600 +100\.0%\n",
        drawn(whole(ledger, "tenant", "pool"), 100),
    )
    assert re.search(
        r"\nall +11,380\.0 +\$0\.5100 +\$2\.6000 +\$0\.0000 +\$3\.1100 +79\.0%\n", drawn(whole(ledger, "tenant"), 100)
    )


def test_days_of_container_time_are_in_order(tmp_path: Path) -> None:
    """By time where it is grouped by it, else the dearest first."""
    path = tmp_path / "ledger.sqlite"
    day_us = 24 * 3_600 * 10**6
    rows = [house_row(f"h{n}", RowKind.IDLE, n * 10**9, BEGIN + (3 - n) * day_us, f"p{n}") for n in (1, 2, 3)]
    fill_file(path, [replace(each, tenant=None) for each in rows])
    assert re.findall(r"\n(2026-11-\d\d) ", drawn(whole(path, "day"), 100)) == [
        "2026-11-02",
        "2026-11-03",
        "2026-11-04",
    ]
    assert re.findall(r"\n(p\d) ", drawn(whole(path, "pool"), 100)) == ["p3", "p2", "p1"]


def test_what_did_not_happen_is_a_line(tmp_path: Path) -> None:
    """One request that was refused: no table of zeros, whatever is asked for."""
    path = tmp_path / "ledger.sqlite"
    refused = request("r", at_us=BEGIN, pool=None, outcome="refused", attempts=0, prompt_tokens=None)
    fill_file(path, (), [replace(refused, completion_tokens=None, baseline_nusd=None)])
    assert drawn(whole(path, "tenant"), 100, *ColumnSet).splitlines()[10:-3] == [
        "Against the baseline: no request of this window has a baseline.",
        "",
        "Cost of one: no request was served.",
        "",
        "Seconds and speed: no request was served, so that nothing was timed.",
        "",
        "Fallbacks and failed attempts: no attempt was made.",
        "",
        "Pools: no pool was up.",
        "",
        "Answers to JSON schemas: none was asked for.",
        "",
        "Pictures and clips: none came.",
        "",
        "What the cost rests on: no request cost anything.",
        "",
        "Price books in force: nothing was priced.",
        "",
    ]


def test_nothing_failed_is_a_line(tmp_path: Path) -> None:
    """It says of how many attempts."""
    path = tmp_path / "ledger.sqlite"
    fill_file(path, [row("r:1", 10**9, at_us=BEGIN)], [request("r", at_us=BEGIN)])
    text = drawn(whole(path, "tenant"), 100, ColumnSet.FAILURES)
    assert "Fallbacks and failed attempts: none; every attempt answered (1)." in text


def test_container_time_alone_is_a_report(tmp_path: Path) -> None:
    """A pool that idled all day, and nobody who asked."""
    path = tmp_path / "ledger.sqlite"
    fill_file(path, [replace(house_row("h", RowKind.IDLE, 10**9, BEGIN), tenant=None)])
    text = drawn(whole(path, "tenant"), 100)
    assert "Spent: no request came." in text
    assert re.search(r"\nall +2\.0 +\$0\.0000 +\$1\.0000 ", text)


def test_one_tenants_report_says_why_it_has_no_pools(ledger: Path) -> None:
    """Instead of printing nothing where they were asked for."""
    assert "Pools: tenants share containers" in drawn(whole(ledger, tenant="shop"), 100, ColumnSet.UTILISATION)


def test_names_are_text_and_the_only_thing_that_breaks(tmp_path: Path) -> None:
    """Brackets are no markup; a name that is longer than the terminal goes on below, and no amount does."""
    path = tmp_path / "ledger.sqlite"
    fill_file(path, [row("a:1", 10**9, "[bold]" + "x" * 90, at_us=BEGIN), row("b:1", 10**9, "[red]b[/]", at_us=BEGIN)])
    text = drawn(whole(path, "tenant"), 60)
    assert max(map(len, text.splitlines())) <= 60
    assert re.search(r"\n\[red\]b\[/\] .* \$1\.0000\n", text)
    assert "[bold]x" in text
    assert text.count("x") >= 90


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    figures=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=9, unique_by=lambda each: each[0]),
    spared=st.integers(0, 9),
    width=st.integers(10, 120),
)
def test_columns_leave_in_order_and_only_for_want_of_room(
    figures: list[tuple[str, str]], spared: int, width: int
) -> None:
    """What a table keeps and what it says it left out are all columns, and the last that left would not have fitted."""
    names = tuple(name for name, _ in figures)
    spare = tuple((name,) for name in names[:spared])
    section = Section("t", 0, names, (tuple(cell for _, cell in figures),), spare=spare)
    shown, left_out = fitted(section, width)
    assert left_out == names[: len(left_out)]
    assert (*left_out, *shown.columns) == names
    if left_out:
        before, _ = fitted(replace_spare(section, len(left_out) - 1), width)
        assert narrowest(before) > width
    if len(left_out) < len(spare):
        assert narrowest(shown) <= width


def replace_spare(section: Section, count: int) -> Section:
    return Section(section.title, 0, section.columns, section.rows, spare=section.spare[:count])


def narrowest(section: Section) -> int:
    """With headings of one word a line, and two cells between columns."""
    widths = [max(map(len, (*name.split(), cell))) for name, cell in zip(section.columns, section.rows[0], strict=True)]
    return sum(widths) + 2 * (len(widths) - 1)


def test_price_books_are_a_table_only_where_they_differ(tmp_path: Path) -> None:
    """One book for all is one line; a change of prices shows in whose lines it fell."""
    path = tmp_path / "ledger.sqlite"
    rows = [row(f"r{n}:1", 10**9, tenant, at_us=BEGIN, price_books=f"book-{n}") for n, tenant in enumerate("ab")]
    fill_file(path, rows[:1])
    assert "Price books in force: book-0, for all of it." in drawn(whole(path, "tenant"), 80, ColumnSet.BOOKS)
    fill_file(path, rows[1:])
    text = drawn(whole(path, "tenant"), 80, ColumnSet.BOOKS)
    assert re.findall(r"\n(\w)\s+(book-\d)", text) == [("a", "book-0"), ("b", "book-1")]
