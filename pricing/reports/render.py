"""A report as CSV for spreadsheets and as JSON for programs. Computes nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from typing import Any, Final

from pricing.ledger.rows import House
from pricing.money import NUSD_PER_USD, to_usd, usd_number
from pricing.reports.baseline import Needed, NotKnown
from pricing.reports.columns import Column, ColumnSet, Kind, Value, all_columns, latency_of
from pricing.reports.figures import Failure, PoolUse
from pricing.reports.lines import HouseLine, Line
from pricing.reports.report import Report
from pricing.reports.spans import instant_text

CURRENCY: Final = "USD"  # of every price book that loads (`pricing.prices.schema`), so that amounts can be summed
_PHASE: Final = {House.BOOT: "boot", House.IDLE: "idle", House.ADJUSTMENT: "adjustment"}


def as_csv(report: Report, sets: Collection[ColumnSet] | None = None) -> str:
    """One line per group and house account; dollars are exact, and the column total_usd, which is always there, adds up
    to the ledger. With `sets`, the columns of these alone.

    `account` is empty for lines of requests.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = all_columns(report, sets)
    writer.writerow([*report.by, "account", *(_csv_name(each) for each in columns), "container_s", "price_books"])
    for line in report.lines:
        latency = latency_of(report, line)
        cells = [_csv_text(each, each.value(line, latency)) for each in columns]
        writer.writerow([*line.key, "", *cells, "", " ".join((report.books or {}).get(line.key, ()))])
    for house in report.separate:
        cells = [_csv_text(each, _house_value(each, house)) for each in columns]
        writer.writerow([*house.key, house.account, *cells, f"{house.duration_us / 1e6:.6f}", ""])
    return out.getvalue()


def as_json(report: Report) -> dict[str, Any]:
    """Everything that was looked up; amounts as exact nano-dollars and, for reading, as dollars."""
    columns = all_columns(report)
    document: dict[str, Any] = {
        "object": "report",
        "by": list(report.by),
        "since": instant_text(report.since_us, report.zone),
        "until": instant_text(report.until_us, report.zone),
        "timezone": str(report.zone),
        "tenant": report.tenant,
        "house": report.house.value,
        "currency": CURRENCY,
        "empty": report.empty,
        "lines": [_line(report, report.by, line, columns) for line in report.lines],
        "separate": [_house(report.by, line) for line in report.separate],
        "total": _line(report, (), report.total, columns),
        "ledger_nusd": report.ledger_nusd,
        "ledger_usd": usd_number(report.ledger_nusd),
        "baseline": report.baseline,
        "baseline_needed": [_needed(each) for each in report.needed],
        "baseline_not_known": [_not_known(each) for each in report.not_known],
    }
    if report.pools is not None:
        document["pools"] = [_pool(each) for each in report.pools]
    if report.failures is not None:
        document["failures"] = [_failure(report.by, each) for each in report.failures]
    return document


def _line(report: Report, by: Sequence[str], line: Line, columns: Sequence[Column]) -> dict[str, Any]:
    latency = latency_of(report, line)
    found: dict[str, Any] = dict(zip(by, line.key, strict=True))
    for column in columns:
        found |= _json_value(column, column.value(line, latency))
    if report.books is not None:
        found["price_books"] = list(report.books.get(line.key, ()))
    return found


def _json_value(column: Column, value: Value) -> dict[str, Value]:
    match column.kind:
        case Kind.AMOUNT:
            return {f"{column.name}_nusd": value, f"{column.name}_usd": _usd(value)}
        case Kind.EACH:
            return {f"{column.name}_usd": _usd(value)}
        case _:
            return {column.name: value}


def _usd(nusd: Value) -> float | None:
    return None if nusd is None else nusd / NUSD_PER_USD


def _csv_name(column: Column) -> str:
    return f"{column.name}_usd" if column.kind in (Kind.AMOUNT, Kind.EACH) else column.name


def _house_value(column: Column, house: HouseLine) -> Value:
    """What a column says of container time that stands apart; None where it is about requests."""
    if column.name == "observed_share":
        return house.observed_share
    its_own = column.kind is Kind.AMOUNT and column.name in (_PHASE[House(house.account)], "total")
    return house.amount_nusd if its_own else None


def _csv_text(column: Column, value: Value) -> str:
    if value is None:
        return ""
    match column.kind:
        case Kind.AMOUNT:
            return f"{to_usd(int(value)):.9f}"
        case Kind.EACH:
            return f"{value / NUSD_PER_USD:.9f}"
        case Kind.COUNT:
            return str(value)
        case _:
            return f"{value:.6f}"


def _house(by: Sequence[str], line: HouseLine) -> dict[str, Any]:
    return {
        "account": line.account,
        **dict(zip(by, line.key, strict=True)),
        "amount_nusd": line.amount_nusd,
        "amount_usd": usd_number(line.amount_nusd),
        "container_s": line.duration_us / 1e6,
        "observed_nusd": line.observed_nusd,
        "observed_usd": usd_number(line.observed_nusd),
        "observed_share": line.observed_share,
    }


def _pool(use: PoolUse) -> dict[str, Any]:
    phases = ("busy", "boot", "idle", "adjustment", "alive")
    amounts = {name: getattr(use, f"{name}_nusd") for name in phases}
    return {
        "pool": use.pool,
        **{f"{name}_nusd": amount for name, amount in amounts.items()},
        **{f"{name}_usd": usd_number(amount) for name, amount in amounts.items()},
        "utilisation": use.utilisation,
        "boots": use.boots,
        "boots_per_hour": use.boots_per_hour,
        "boots_per_day": use.boots_per_day,
        "boot_s": use.boot_s,
        "boot_container_s": use.boot_us / 1e6,
        "idle_container_s": use.idle_us / 1e6,
    }


def _failure(by: Sequence[str], each: Failure) -> dict[str, Any]:
    return {
        **dict(zip(by, each.key, strict=True)),
        "failure": each.failure,
        "attempts": each.attempts,
        "charged_nusd": each.charged_nusd,
        "charged_usd": usd_number(each.charged_nusd),
        "house_nusd": each.house_nusd,
        "house_usd": usd_number(each.house_nusd),
    }


def _needed(each: Needed) -> dict[str, Any]:
    seconds = None if each.container_us is None else each.container_us / 1e6
    return {
        "pool": each.pool,
        "gpu": each.gpu,
        "gpu_count": each.gpu_count,
        "container_s": seconds,
        "gpu_s": None if seconds is None else seconds * each.gpu_count,
        "usd": usd_number(each.nusd),
    }


def _not_known(each: NotKnown) -> dict[str, Any]:
    return {"policy": each.policy, "baseline_nusd": each.nusd, "baseline_usd": usd_number(each.nusd)}
