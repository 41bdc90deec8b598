"""Which 15-minute buckets a window holds at an instant.

A bucket is named by its number since the epoch. A rolling window of length W holds every bucket that still overlaps the
last W seconds: it counts up to one bucket too much, never too little. Buckets of a future that a stepped-back clock has
not reached yet count as well. A calendar month is that of the caps' time zone, so its length follows the month and
daylight saving.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from pricing.budgets.caps import BUCKET_S, Window
from pricing.clock import US_PER_S

BUCKET_US: Final = BUCKET_S * US_PER_S
_FOREVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Span:
    """Buckets `first` to before `end`, valid for instants from `from_us` to before `until_us`."""

    first: int
    end: int
    from_us: int
    until_us: int

    def holds(self, bucket: int) -> bool:
        return self.first <= bucket < self.end


def bucket_of(wall_us: int) -> int:
    return wall_us // BUCKET_US


def span_at(window: Window, wall_us: int, zone: ZoneInfo) -> Span:
    """The buckets of `window` at an instant, and how long that answer stays true."""
    if window.rolling_s is None:
        from_us, until_us = month_around(wall_us, zone)
        return Span(bucket_of(from_us), bucket_of(until_us), from_us, until_us)
    first = bucket_of(wall_us - window.rolling_s * US_PER_S)
    from_us = first * BUCKET_US + window.rolling_s * US_PER_S
    return Span(first, _FOREVER, from_us, from_us + BUCKET_US)


def leaves_us(window: Window, bucket: int, zone: ZoneInfo) -> int:
    """When a bucket is no longer in the window, microseconds since the epoch."""
    if window.rolling_s is None:
        return month_around(bucket * BUCKET_US, zone)[1]
    return (bucket + 1) * BUCKET_US + window.rolling_s * US_PER_S


def month_around(wall_us: int, zone: ZoneInfo) -> tuple[int, int]:
    """First instant of the calendar month in `zone` that holds `wall_us`, and of the month after it."""
    local = datetime.fromtimestamp(wall_us // US_PER_S, UTC).astimezone(zone)
    begin = datetime(local.year, local.month, 1, tzinfo=zone)
    after = datetime(local.year + local.month // 12, local.month % 12 + 1, 1, tzinfo=zone)
    return _to_us(begin), _to_us(after)


def _to_us(moment: datetime) -> int:
    return int(moment.timestamp()) * US_PER_S
