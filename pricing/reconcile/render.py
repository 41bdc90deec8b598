"""A comparison as JSON and CSV. Computes nothing that the comparison has not."""

from __future__ import annotations

import csv
import io
from fractions import Fraction
from typing import Any

from pricing.reconcile.causes import SAID
from pricing.reconcile.compare import ALL_POOLS, Captured, Comparison
from pricing.reports.focus_columns import instant, usd_text


def as_json(found: Comparison) -> dict[str, Any]:
    """Amounts are nano-dollars; a capture rate is ledger ÷ bill, None where nothing was billed."""
    return {
        "since": instant(found.since_us),
        "until": instant(found.until_us),
        "bill": {
            "source": found.bill.source,
            "since": instant(found.bill.since_us),
            "until": instant(found.bill.until_us),
        },
        "ledger_nusd": found.ledger_nusd,
        "bill_nusd": found.bill_nusd,
        "capture_rate": _number(_rate(found)),
        "threshold": float(found.threshold),
        "below": [day.day for day in found.below],
        "days": [_day(day, found) for day in found.days()],
        "causes": [
            {"pool": pool, "cause": str(cause), "nusd": nusd, "says": SAID[cause]}
            for (pool, cause), nusd in sorted(found.causes().items(), key=lambda each: (-abs(each[1]), each[0]))
        ],
        "unknown_apps": dict(sorted(found.bill.unknown.items())),
        "pools_not_in_bill": dict(sorted(found.not_in_bill.items())),
        "not_covered_nusd": found.not_covered_nusd,
        "factors": {
            pool: {name: float(getattr(factors, name)) for name in ("uniform", "gpu", "cpu", "memory")}
            for pool, factors in sorted(found.factors.items())
        },
    }


def as_csv(found: Comparison) -> str:
    """A line per hour, pool and resource, in dollars with all digits; an hour's causes stand in its first line."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["hour", "pool", "resource", "ledger_usd", "bill_usd", "difference_usd", "causes"])
    for hour in found.hours:
        causes = " ".join(f"{cause}={usd_text(nusd)}" for cause, nusd in sorted(hour.causes.items()))
        for number, resource in enumerate(sorted({*hour.ledger, *hour.bill})):
            ledger, bill = hour.ledger[resource], hour.bill[resource]
            amounts = (usd_text(ledger), usd_text(bill), usd_text(bill - ledger))
            writer.writerow([instant(hour.at_us), hour.pool, resource, *amounts, "" if number else causes])
    return file.getvalue()


def _day(day: Captured, found: Comparison) -> dict[str, Any]:
    return {
        "day": day.day,
        "pool": None if day.pool == ALL_POOLS else day.pool,
        "ledger_nusd": day.ledger_nusd,
        "bill_nusd": day.bill_nusd,
        "capture_rate": _number(day.rate),
        "below": day.is_below(found.threshold),
    }


def _rate(found: Comparison) -> Fraction | None:
    return Fraction(found.ledger_nusd, found.bill_nusd) if found.bill_nusd else None


def _number(rate: Fraction | None) -> float | None:
    return None if rate is None else round(float(rate), 6)
