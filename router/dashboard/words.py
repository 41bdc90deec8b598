"""Numbers and instants as people read them. What is given is what the API answered; nothing here computes money."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from pricing.money import format_usd, parse_usd
from pricing.reports.lines import saving_word

NONE: Final = "–"
_FINE_NUSD: Final = 10_000_000  # below a cent: six decimals
_COARSE_NUSD: Final = 10_000_000_000  # from ten dollars on: two
STATES: Final = {
    "ready": "Ready",
    "booting": "Booting",
    "asleep": "Asleep",
    "drained": "Drained",
    "failing": "Failing",
    "misconfigured": "Misconfigured",
    "not_deployed": "Not deployed",
    "served": "Served",
    "refused": "Refused",
    "broken": "Broken",
    "client_gone": "Client left",
    "closed": "Closed",
    "open": "Open",
    "half_open": "Half open",
}
TONES: Final = {
    "ready": "good",
    "served": "good",
    "booting": "wait",
    "half_open": "wait",
    "failing": "bad",
    "misconfigured": "bad",
    "broken": "bad",
    "open": "bad",
    "refused": "wait",
    "closed": "good",
    "exhausted": "bad",
    "lowering": "wait",
    "warned": "wait",
}


def nusd_of(usd: float) -> int:
    """Nano-dollars of an amount of the API, whose amounts have at most nine decimals."""
    return parse_usd(f"{usd:.9f}")


def decimals(amounts_nusd: Iterable[int]) -> int:
    """Of a column of amounts, so that its numbers stand under each other: as many as its largest one needs."""
    largest = max((abs(amount) for amount in amounts_nusd), default=0)
    return 2 if largest >= _COARSE_NUSD or largest == 0 else 4 if largest >= _FINE_NUSD else 6


def dollars(nusd: int | None, places: int | None = None) -> str:
    """`$0.0130`; by itself with as many decimals as it needs."""
    if nusd is None:
        return NONE
    return format_usd(nusd, decimals([nusd]) if places is None else places)


def usd(amount: float | None, places: int | None = None) -> str:
    return NONE if amount is None else dollars(nusd_of(amount), places)


def price(amount: float) -> str:
    """A rate by the hour, with at least two decimals and no zeros behind them."""
    text = format_usd(nusd_of(amount), 4)
    return text[:-2] if text.endswith("00") else text.rstrip("0")


def count(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"


def share(of_one: float | None) -> str:
    """Per cent: whole ones, and one decimal below ten."""
    if of_one is None:
        return NONE
    percent = 100 * of_one
    if 0 < percent < 0.05:
        return "<0.1%"
    return f"{percent:.0f}%" if abs(percent) >= 10 or percent == 0 else f"{percent:.1f}%"


def seconds(value: float | None) -> str:
    """`38 ms`, `1.24 s`, `3 min 05 s`."""
    if value is None:
        return NONE
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 100:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def moment(at_s: float | None) -> str:
    """Seconds since the epoch as `2026-11-21 14:03:07`, UTC."""
    return NONE if at_s is None else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def time_of(iso: str) -> str:
    """The time of day of an instant in ISO 8601, UTC."""
    return datetime.fromisoformat(iso).astimezone(UTC).strftime("%H:%M:%S")


def day_of(iso: str) -> str:
    return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y-%m-%d")


def word(name: str) -> str:
    """A word of the API for people."""
    return STATES.get(name, name.replace("_", " "))


def tone(name: str) -> str:
    """How a state looks: good, wait, bad or plain. Its word says it as well."""
    return TONES.get(name, "plain")


FILTERS: Final = {
    "dollars": dollars,
    "usd": usd,
    "price": price,
    "count": count,
    "saving_word": saving_word,
    "share": share,
    "seconds": seconds,
    "moment": moment,
    "time_of": time_of,
    "day_of": day_of,
    "word": word,
    "tone": tone,
}
