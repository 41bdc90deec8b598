"""Points in time as people write them: `24h` ago, `7d` ago, a day, an instant."""

from __future__ import annotations

import re
from datetime import UTC, datetime
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


def parse_instant(text: str, now_us: int) -> int:
    """Microseconds since the epoch. A day or an instant without a zone is UTC. Raises ValueError, naming the forms."""
    if text == "now":
        return now_us
    ago = _SPAN.fullmatch(text)
    if ago is not None:
        return now_us - _span_us(ago)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a time; {FORMS}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp()) * US_PER_S


def _span_us(span: re.Match[str]) -> int:
    return int(span[1]) * _SECONDS[span[2]] * US_PER_S


def instant_text(at_us: int) -> str:
    """An instant as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at_us // US_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
