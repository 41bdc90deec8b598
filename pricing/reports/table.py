"""A report as tables in a terminal.

A table that is wider than the terminal first writes its headings in several lines, then leaves out figures in the order
that its section names, and says so beneath it. No amount, instant or unit is ever broken; where names alone are wider
than the terminal, they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import fill

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from pricing.reports.columns import ColumnSet, plain_sets
from pricing.reports.report import Report
from pricing.reports.sections import NO_BREAK, Section, closing_text, nothing_text, sections, window_text

_GAP = 2  # cells between two columns


def as_table(report: Report, sets: Sequence[ColumnSet] | None = None) -> RenderableType:
    """A table for each set, the container time that stands apart, and what everything comes to."""
    return _Drawn(report, plain_sets(report) if sets is None else tuple(sets))


@dataclass(frozen=True, slots=True)
class _Drawn:
    report: Report
    sets: tuple[ColumnSet, ...]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        if self.report.empty:
            yield paragraph(nothing_text(self.report), width)
            return
        yield paragraph(f"From {window_text(self.report)}", width)
        for section in sections(self.report, self.sets):
            yield Text()
            yield from drawn(section, width)
        yield Text()
        for sentence in closing_text(self.report):
            yield paragraph(sentence, width)


def drawn(section: Section, width: int) -> Iterator[RenderableType]:
    """A table with its title, and what it had no room for; or the sentence in its place."""
    if section.nothing:
        yield paragraph(f"{section.title}: {section.nothing}", width)
        return
    yield Text(f"{section.title}\n", style="bold")
    shown, left_out = fitted(section, width)
    yield _table(shown, _natural if _width(shown, _natural) <= width else _narrow)
    if left_out:
        yield paragraph(f"Left out at this width: {', '.join(left_out)}. A wider terminal shows all.", width)


def fitted(section: Section, width: int) -> tuple[Section, tuple[str, ...]]:
    """A table that is at most so many cells wide, if it can be, and the columns that it leaves out for that."""
    kept, left_out = section, tuple[str, ...]()
    for names in section.spare:
        if _width(kept, _narrow) <= width:
            break
        left_out += tuple(name for name in section.columns if name in names)
        kept = section.without(left_out)
    return kept, left_out


def _width(section: Section, of: Callable[[Sequence[str]], int]) -> int:
    columns = section.by_column()
    return sum(map(of, columns)) + _GAP * (len(columns) - 1)


def _natural(column: Sequence[str]) -> int:
    """Cells of a column, its heading first."""
    return max(map(cell_len, column))


def _narrow(column: Sequence[str]) -> int:
    """The same with each word of the heading on a line of its own."""
    heading, *cells = column
    return max(map(cell_len, (*heading.split(), *cells)))


def _table(section: Section, of: Callable[[Sequence[str]], int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    for index, column in enumerate(section.by_column()):
        if index < section.keys:
            table.add_column(Text(column[0]), vertical="bottom", overflow="fold")
        else:
            table.add_column(Text(column[0]), vertical="bottom", justify="right", width=of(column))
    for row in section.rows:
        table.add_row(*map(Text, row))  # whatever a name holds, it is text
    if section.total:
        table.add_section()
        table.add_row(*map(Text, section.total), style="bold")
    return table


def paragraph(text: str, width: int) -> Text:
    """A paragraph that is broken at plain spaces alone: what a no-break space joins stays on one line."""
    return Text(fill(text, width, break_long_words=False, break_on_hyphens=False).replace(NO_BREAK, " "))
