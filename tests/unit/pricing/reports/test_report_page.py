"""The page of a report: names are text, plots and tables say the same, nothing runs and nothing is fetched."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from pricing.ledger.rows import House, RowKind
from pricing.reports.columns import ColumnSet, every_set, parts_of
from pricing.reports.page import as_html
from pricing.reports.pictures import BARS_AT_MOST, pictures
from pricing.reports.plots import Bar, bars, columns
from pricing.reports.report import Report, report
from support.example_ledger import BEGIN
from support.money import house_row, request, row
from support.shared_ledger import fill_file

SINCE, UNTIL = BEGIN - 34 * 3_600 * 10**6, BEGIN + 28 * 24 * 3_600 * 10**6
VOID: Final = {"meta", "rect", "br"}
EVIL = '<img src=x onerror="alert(1)">&'


def whole(ledger: Path, *by: str, house: str = "separate") -> Report:
    return report(ledger, by, SINCE, UNTIL, house=house, parts=parts_of(every_set(by)))


class Checked(HTMLParser):
    """Elements that are opened and closed in order, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("by", [("tenant",), ("day", "pool"), (), ("tag", "outcome"), ("hour",)])
@pytest.mark.parametrize("house", ["separate", "weighted", "even"])
def test_every_report_is_a_whole_page(ledger: Path, by: tuple[str, ...], house: str) -> None:
    """Elements nest, the ledger's sum is on it, and it neither runs nor fetches anything."""
    page = as_html(whole(ledger, *by, house=house), every_set(by))
    checked = Checked(page)
    assert checked.open == []
    assert "$9.2100" in checked.texts
    assert not {"script", "link", "img", "iframe", "object"} & set(checked.tags)
    assert not re.search(r"url\(|@import|https?://|\son\w+=", page)


def test_names_are_text(tmp_path: Path) -> None:
    """A tenant or tag that looks like HTML is shown as it is written, wherever it stands."""
    path = tmp_path / "ledger.sqlite"
    made = row("a:1", 10**9, EVIL, at_us=BEGIN, tags=(EVIL,), pool=EVIL)
    fill_file(path, [made], [request("a", EVIL, at_us=BEGIN, tags=(EVIL,), pool=EVIL)])
    for by in (("tenant", "pool"), ("day", "tag"), ("tenant", "day")):
        page = as_html(whole(path, *by), every_set(by))
        assert "<img" not in page
        assert any(EVIL in text for text in Checked(page).texts)


def test_every_table_is_named_and_has_heads(ledger: Path) -> None:
    """A screen reader hears what a table is of; a box that scrolls is reached by the keyboard."""
    page = as_html(whole(ledger, "tenant", "pool"), every_set(()))
    ids = re.findall(r"<h2 id='(\w+)'", page)
    assert len(ids) == len(set(ids)) >= 8
    assert re.findall(r"<table aria-labelledby='(\w+)'", page) == ids
    assert re.findall(r"role='region' aria-labelledby='(\w+)' tabindex='0'", page) == ids
    assert page.count('role="img" aria-label=') == page.count("<figure>") == 3


def test_bars_are_as_long_as_their_amounts() -> None:
    """The longest fills the width, the others their share of it; what is below 0 has no length."""
    drawn = bars("t", ["a", "b"], [Bar("x", (300, 100), "$4"), Bar("y", (100, -50), "$1")])
    assert re.findall(r'x="([\d.]+)%" y="0%" width="([\d.]+)%"', drawn) == [("0", "75"), ("75", "25"), ("0", "25")]
    assert bars("t", ["a"], [Bar("x", (0,), "$0")]) == ""


def test_columns_stand_on_each_other() -> None:
    """The series of a moment are stacked from the floor, and the highest moment reaches the top."""
    drawn = columns("t", ["a", "b"], [Bar("Mon", (30, 10), "4"), Bar("Tue", (20, 0), "2")], str)
    assert re.findall(r'y="([\d.]+)%" width="[\d.]+%" height="([\d.]+)%"', drawn) == [
        ("25", "75"),
        ("0", "25"),
        ("50", "50"),
    ]


def test_many_groups_become_one_bar_at_the_end(tmp_path: Path) -> None:
    """The dearest have bars of their own, the rest is counted; nothing is left out of the table."""
    path = tmp_path / "ledger.sqlite"
    fill_file(path, [row(f"r{n}:1", (n + 1) * 10**9, f"tenant-{n:02}", at_us=BEGIN) for n in range(20)])
    found = whole(path, "tenant")
    [plot, *_] = pictures(found)
    assert plot.count('class="bar"') == BARS_AT_MOST + 1
    assert "8 more" in plot
    assert "$36.0" in plot
    assert "tenant-00" in as_html(found, (ColumnSet.MONEY,))


def test_days_without_spend_have_their_place(tmp_path: Path) -> None:
    """Between the first and the last day that had any, an empty one is an empty column; house accounts are series."""
    path = tmp_path / "ledger.sqlite"
    later = BEGIN + 3 * 24 * 3_600 * 10**6
    idle = house_row("h", RowKind.IDLE, 10**9, later)
    fill_file(path, [row("a:1", 10**9, at_us=BEGIN), idle])
    [plot, *_] = pictures(report(path, ["day", "pool"], SINCE, UNTIL, zone=ZoneInfo("Asia/Kolkata")))
    assert re.findall(r"<title>(\S+):", plot) == ["2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05"]
    assert (plot.count('<rect class="c0" x'), plot.count('<rect class="c1" x')) == (1, 1)
    assert House.IDLE in plot


def test_one_day_alone_is_bars(tmp_path: Path) -> None:
    """A plot over time needs two moments."""
    path = tmp_path / "ledger.sqlite"
    fill_file(path, [row("a:1", 10**9, at_us=BEGIN), row("b:1", 10**9, "globex", at_us=BEGIN)])
    [plot, *_] = pictures(report(path, ["day", "tenant"], SINCE, UNTIL))
    assert re.findall(r'class="name">([^<]+)<', plot) == ["2026-11-02, acme", "2026-11-02, globex"]


def test_what_was_lost_is_not_called_saved(tmp_path: Path) -> None:
    """The tile of a report whose busy time cost more than the baseline."""
    path = tmp_path / "ledger.sqlite"
    fill_file(path, [row("a:1", 10_000, at_us=BEGIN)], [request("a", at_us=BEGIN, baseline_nusd=5_000)])
    assert "<dt>Lost on busy time</dt><dd>100.0%</dd>" in as_html(whole(path), [ColumnSet.MONEY])


def test_what_did_not_happen_is_a_line(ledger: Path) -> None:
    """No table of zeros; the sentence is there, and nothing to scroll to."""
    page = as_html(whole(ledger, "tenant"), every_set(()))
    assert "<p class='nothing'><b>Pictures and clips</b>: none came.</p>" in page
    assert "per image" not in page


def test_an_empty_window_says_so(ledger: Path) -> None:
    """No tables and no plots of nothing."""
    page = as_html(report(ledger, ["tenant"], 0, 10**6), every_set(()))
    assert "Nothing was spent and nothing was asked" in page
    assert "<table" not in page
    assert "<svg" not in page
