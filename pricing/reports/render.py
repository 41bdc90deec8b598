"""A report as a table for people, as CSV for spreadsheets, as JSON for programs. Computes nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pricing.money import format_usd, to_usd, usd_number
from pricing.reports.report import HouseLine, Line, Report
from pricing.reports.spans import instant_text

BASELINE: Final = "all on the premium pool of each request's class; boot and idle are in neither side"
_AMOUNTS: Final = ("charged", "house", "busy", "baseline", "saving")
_MEDIA_TITLES: Final = ("images", "per image", "video s", "per video s")
_MEDIA: Final = ("images", "image_usd", "video_s", "video_s_usd")
_SCHEMAS: Final = ("schema_kept", "schema_broken", "schema_cut")


def as_table(report: Report) -> RenderableType:
    """Lines, then the house's own lines, then the sums."""
    window = f"{instant_text(report.since_us)} to {instant_text(report.until_us)}"
    if report.empty:
        whose = f" for tenant {report.tenant}" if report.tenant else ""
        return Text(f"Nothing was spent and nothing was asked{whose} from {window}.")
    table = _table(f"Spent from {window}")
    for name in report.by:
        table.add_column(name)
    schemas = "pool" in report.by or any(_schemas(report.total))
    media = bool(report.total.images or report.total.clips)
    more = [*(["schemas kept"] if schemas else []), *(_MEDIA_TITLES if media else ())]
    for name in ("requests", "served", "tokens in", "tokens out", *more, *_AMOUNTS):
        table.add_column(name, justify="right")
    for line in report.lines:
        table.add_row(*line.key, *_cells(line, schemas, media))
    if report.by:
        table.add_section()
        table.add_row("total", *[""] * (len(report.by) - 1), *_cells(report.total, schemas, media), style="bold")
    parts: list[RenderableType] = [table]
    if report.separate:
        parts.append(_house_table(report))
    parts.append(Text(f"Ledger: {format_usd(report.ledger_nusd, 6)}. Saving is baseline − busy; baseline: {BASELINE}."))
    return Group(*parts)


def as_csv(report: Report) -> str:
    """One line per group and house account; dollars are exact, and the column total_usd adds up to the ledger.

    `account` is empty for lines of requests.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    counts = ("requests", "served", "prompt_tokens", "completion_tokens")
    amounts_usd = [f"{name}_usd" for name in _AMOUNTS]
    columns = [*counts, *amounts_usd, "total_usd", "container_s", *_SCHEMAS, "schema_compliance", *_MEDIA]
    writer.writerow([*report.by, "account", *columns])
    for line in report.lines:
        amounts = [_exact(amount) for amount in (*_amounts(line), line.busy_nusd)]
        compliance = "" if line.schema_compliance is None else f"{line.schema_compliance:.6f}"
        writer.writerow([*line.key, "", *_counts(line), *amounts, "", *_schemas(line), compliance, *_media_csv(line)])
    for house in report.separate:
        amounts = ["", _exact(house.amount_nusd), "", "", "", _exact(house.amount_nusd)]
        seconds = f"{house.duration_us / 1e6:.6f}"
        writer.writerow([*house.key, house.account, "", "", "", "", *amounts, seconds, *[""] * 8])
    return out.getvalue()


def as_json(report: Report) -> dict[str, Any]:
    """Everything; amounts as exact nano-dollars and, for reading, as dollars."""
    return {
        "by": list(report.by),
        "since": instant_text(report.since_us),
        "until": instant_text(report.until_us),
        "tenant": report.tenant,
        "lines": [_line_json(report.by, line) for line in report.lines],
        "separate": [_house_json(report.by, line) for line in report.separate],
        "total": _line_json((), report.total),
        "ledger_nusd": report.ledger_nusd,
        "ledger_usd": usd_number(report.ledger_nusd),
        "baseline": BASELINE,
    }


def _house_table(report: Report) -> Table:
    table = _table("Container time that no request caused")
    table.add_column("account")
    for name in report.by:
        table.add_column(name)
    table.add_column("seconds", justify="right")
    table.add_column("amount", justify="right")
    for line in report.separate:
        table.add_row(line.account, *line.key, f"{line.duration_us / 1e6:,.1f}", format_usd(line.amount_nusd, 6))
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def _cells(line: Line, schemas: bool, media: bool) -> list[str]:
    amounts = ["-" if amount is None else format_usd(amount, 6) for amount in _amounts(line)]
    if line.saving_nusd is not None:
        amounts[-1] += f" ({100 * line.saving_nusd / line.baseline_nusd:.0f}%)"
    kept = [*([_kept(line)] if schemas else []), *(_media_cells(line) if media else [])]
    return [*(f"{count:,}" for count in _counts(line)), *kept, *amounts]


def _media_cells(line: Line) -> list[str]:
    """Pictures, seconds of video, and what one of either cost; "-" where a group made several kinds of things."""
    each = ["-" if nusd is None else format_usd(round(nusd), 6) for nusd in (line.image_nusd, line.video_s_nusd)]
    return [f"{line.images:,}", each[0], f"{line.video_us / 1e6:,.1f}", each[1]]


def _kept(line: Line) -> str:
    """The share of judged answers that kept to their schema, of how many; answers that were cut stand beside it."""
    cut = f" +{line.schema_cut:,} cut" if line.schema_cut else ""
    judged = line.schema_kept + line.schema_broken
    if not judged:
        return cut.strip() or "-"
    return f"{1000 * line.schema_kept // judged / 10:g}% of {judged:,}{cut}"  # rounded down: 100% is every one


def _media_csv(line: Line) -> list[str]:
    each = ["" if nusd is None else f"{nusd / 1e9:.9f}" for nusd in (line.image_nusd, line.video_s_nusd)]
    return [str(line.images), each[0], f"{line.video_us / 1e6:.6f}", each[1]]


def _schemas(line: Line) -> tuple[int, int, int]:
    return line.schema_kept, line.schema_broken, line.schema_cut


def _counts(line: Line) -> tuple[int, int, int, int]:
    return line.requests, line.served, line.prompt_tokens, line.completion_tokens


def _amounts(line: Line) -> tuple[int | None, ...]:
    return line.charged_nusd, line.house_nusd, line.busy_nusd, line.baseline_nusd, line.saving_nusd


def _exact(nusd: int | None) -> str:
    return "" if nusd is None else f"{to_usd(nusd):.9f}"


def _line_json(by: Sequence[str], line: Line) -> dict[str, Any]:
    amounts = dict(zip(_AMOUNTS, _amounts(line), strict=True))
    return {
        **dict(zip(by, line.key, strict=True)),
        "requests": line.requests,
        "served": line.served,
        "prompt_tokens": line.prompt_tokens,
        "completion_tokens": line.completion_tokens,
        **dict(zip(_SCHEMAS, _schemas(line), strict=True)),
        "schema_compliance": line.schema_compliance,
        "images": line.images,
        "image_usd": None if line.image_nusd is None else line.image_nusd / 1e9,
        "clips": line.clips,
        "video_s": line.video_us / 1e6,
        "video_s_usd": None if line.video_s_nusd is None else line.video_s_nusd / 1e9,
        **{f"{name}_nusd": amount for name, amount in amounts.items()},
        **{f"{name}_usd": None if amount is None else usd_number(amount) for name, amount in amounts.items()},
    }


def _house_json(by: Sequence[str], line: HouseLine) -> dict[str, Any]:
    return {
        "account": line.account,
        **dict(zip(by, line.key, strict=True)),
        "amount_nusd": line.amount_nusd,
        "amount_usd": usd_number(line.amount_nusd),
        "container_s": line.duration_us / 1e6,
    }
