"""A report as tables in a terminal. Computes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pricing.reports.columns import ColumnSet, plain_sets
from pricing.reports.report import Report
from pricing.reports.sections import Section, closing_text, nothing_text, sections, window_text


def as_table(report: Report, sets: Sequence[ColumnSet] | None = None) -> RenderableType:
    """A table for each set, the container time that stands apart, and what everything comes to."""
    if report.empty:
        return Text(nothing_text(report))
    shown = plain_sets(report) if sets is None else sets
    parts: list[RenderableType] = [Text(f"From {window_text(report)}\n")]
    for section in sections(report, shown):
        parts += [Text(section.title, style="bold"), _table(section)]
    return Group(*parts, Text(closing_text(report)))


def _table(section: Section) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, cells in enumerate(zip(section.columns, *section.rows, section.total or section.columns, strict=True)):
        widest = max(map(cell_len, cells))  # no amount or instant is broken: a narrow terminal breaks the lines
        table.add_column(cells[0], justify="left" if index < section.keys else "right", min_width=widest)
    for row in section.rows:
        table.add_row(*row)
    if section.total:
        table.add_section()
        table.add_row(*section.total, style="bold")
    return table
