"""docs/reports.md names every grouping, view, set and column of a report, and no set that is not there."""

from __future__ import annotations

import re
from typing import Final

from pricing.reports.columns import ColumnSet, columns_of
from pricing.reports.dimensions import DIMENSIONS
from pricing.reports.figures import Latency
from pricing.reports.lines import Line
from pricing.reports.report import Report
from pricing.reports.share import HouseView
from router.cli.report import Format
from support.repository import ROOT

PAGE: Final = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
COLUMNS: Final = PAGE.partition("## Columns")[2].partition("```console")[0]


def test_every_name_that_can_be_asked_for_is_explained() -> None:
    """Groupings, views and forms stand in code spans."""
    names = [*DIMENSIONS, *HouseView, *Format]
    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_the_table_of_columns_has_every_set() -> None:
    """In the order in which `--show` lists them."""
    assert re.findall(r"^\| `(\w+)` \|", COLUMNS, re.MULTILINE) == list(ColumnSet)


def test_every_column_is_explained_in_its_set() -> None:
    """With each word of the title that tables give it."""
    report = Report(("pool",), 0, 1, None, (), (), Line(()), HouseView.EVEN, latencies={(): Latency()})
    for shown in ColumnSet:
        said = re.findall(r"[\w/%.]+", COLUMNS.partition(f"| `{shown}` |")[2].partition("\n| `")[0])
        words = {word for column in columns_of(report, shown) for word in re.findall(r"[\w/%.]+", column.title)}
        assert words - set(said) == set(), shown
