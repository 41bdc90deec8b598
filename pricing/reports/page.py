"""A report as one HTML page: no script, nothing fetched, readable on a phone, on paper, in the dark and aloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Final

from pricing.reports.columns import ColumnSet, share_text, usd_text
from pricing.reports.lines import saving_word
from pricing.reports.pictures import pictures
from pricing.reports.report import Report
from pricing.reports.sections import Section, closing_text, left_out_nusd, nothing_text, sections, window_text

_STYLE: Final = Path(__file__).with_name("page.css")


def as_html(report: Report, sets: Sequence[ColumnSet]) -> str:
    """The whole page. Whatever a name holds, it is text."""
    title = f"Cost report, {window_text(report)}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(_body(report, sets))}</main>\n</body>\n</html>\n"
    )


def _body(report: Report, sets: Sequence[ColumnSet]) -> Iterator[str]:
    whose = f"Tenant {escape(report.tenant)}. " if report.tenant else ""
    when = f"{escape(window_text(report))} ({escape(str(report.zone))})"
    yield f"<header><h1>Cost report</h1><p>{whose}{when}</p></header>\n"
    if report.empty:
        yield f"<p>{escape(nothing_text(report))}</p>\n"
        return
    yield f"<dl class='tiles'>{''.join(_tile(*each) for each in _tiles(report))}</dl>\n"
    for picture in pictures(report):
        yield f"{picture}\n"
    for number, section in enumerate(sections(report, sets)):
        yield _table(section, f"t{number}")
    closing = "".join(f"<p>{escape(sentence)}</p>" for sentence in closing_text(report))
    yield f"<footer>{closing}</footer>\n"


def _tiles(report: Report) -> Iterator[tuple[str, str]]:
    total = report.total
    yield "Spent", usd_text(report, report.ledger_nusd)
    yield "Requests served", f"{total.served:,} of {total.requests:,}"
    yield "Tokens out", f"{total.completion_tokens:,}"
    if total.saving_share is not None:
        yield f"{saving_word(total.saving_share)} on busy time", share_text(abs(total.saving_share))
        yield _left_out(report)
    alive = sum(use.alive_nusd for use in report.pools or ())
    if alive > 0:
        yield "Busy of alive", share_text(sum(use.busy_nusd for use in report.pools or ()) / alive)


def _left_out(report: Report) -> tuple[str, str]:
    nusd = left_out_nusd(report)
    return (
        ("In neither side of it", "boot and idle")
        if nusd is None
        else ("Boot and idle, in neither", usd_text(report, nusd))
    )


def _tile(name: str, value: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def _table(section: Section, name: str) -> str:
    """Wide tables scroll inside their own box, which the keyboard reaches."""
    if section.nothing:
        return f"<p class='nothing'><b>{escape(section.title)}</b>: {escape(section.nothing)}</p>\n"
    head = "".join(
        f"<th scope='col'{_side(section, at)}>{escape(each)}</th>" for at, each in enumerate(section.columns)
    )
    rows = "".join(f"<tr>{_cells(section, row)}</tr>" for row in section.rows)
    foot = f"<tfoot><tr>{_cells(section, section.total)}</tr></tfoot>" if section.total else ""
    return (
        f"<section><h2 id='{name}'>{escape(section.title)}</h2>"
        f"<div class='scroll' role='region' aria-labelledby='{name}' tabindex='0'><table aria-labelledby='{name}'>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>{foot}</table></div>{_hints(section)}</section>\n"
    )


def _cells(section: Section, row: Sequence[str]) -> str:
    """The keys name their row; the row of sums has one name, and no text beside it."""
    return "".join(
        f"<th scope='row'>{escape(text)}</th>"
        if at < section.keys and text
        else f"<td{_side(section, at)}>{escape(text)}</td>"
        for at, text in enumerate(row)
    )


def _side(section: Section, at: int) -> str:
    return "" if at < section.keys else " class='figure'"


def _hints(section: Section) -> str:
    said = "; ".join(f"<b>{escape(name)}</b> {escape(hint)}" for name, hint in section.hints)
    return f"<p class='hints'>{said}.</p>" if said else ""
