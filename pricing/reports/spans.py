"""Points in time as people write them: `24h` ago, `7d` ago, a day, an instant."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Final

from pricing.clock import US_PER_S

_SECONDS: Final = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN: Final = re.compile(r"([0-9]{1,6})([mhdw])")
FORMS: Final = "write 90m, 24h, 7d or 2w (that long ago), a day as 2026-11-01, an instant as 2026-11-01T12:00Z, or now"


def parse_end(text: str, now_us: int) -> int:
    """An instant to come: `4h` or `2d` from now, a day or an instant. Raises ValueError, also for one that is past."""
    span = _SPAN.fullmatch(text)
    at_us = now_us + _span_us(span) if span else parse_instant(text, now_us)
    if at_us <= now_us:
        raise ValueError(f"'{text}' has passed; name a time to come")
    return at_us


def parse_instant(text: str, now_us: int, zone: tzinfo = UTC) -> int:
    """Microseconds since the epoch. A day or an instant that names no zone is in `zone`.

    Raises ValueError, naming the forms; also for what lies before 1970.
    """
    if text == "now":
        return now_us
    ago = _SPAN.fullmatch(text)
    if ago is not None:
        return max(0, now_us - _span_us(ago))
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        at_us = round(moment.timestamp()) * US_PER_S
    except (ValueError, OverflowError):
        raise ValueError(f"'{text}' is not a time; {FORMS}") from None
    if at_us < 0:
        raise ValueError(f"'{text}' lies before 1970; {FORMS}")
    return at_us


def parse_window(since: str, until: str, now_us: int, zone: tzinfo = UTC) -> tuple[int, int]:
    """A window from its two ends. Raises ValueError for ends that are no times, or that leave nothing between them."""
    since_us, until_us = parse_instant(since, now_us, zone), parse_instant(until, now_us, zone)
    if since_us >= until_us:
        raise ValueError(f"the begin {since} is not before the end {until}")
    return since_us, until_us


def _span_us(span: re.Match[str]) -> int:
    return int(span[1]) * _SECONDS[span[2]] * US_PER_S


def instant_text(at_us: int, zone: tzinfo = UTC) -> str:
    """An instant as ISO 8601 to the second, in UTC (`…Z`) or in a zone (`…+01:00`)."""
    moment = datetime.fromtimestamp(at_us // US_PER_S, UTC)
    utc = zone is UTC or str(zone) == "UTC"
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if utc else moment.astimezone(zone).isoformat(timespec="seconds")
