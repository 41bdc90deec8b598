"""Hours, days and months of a time zone, in SQL that reads instants of UTC.

No database has to know a zone: within a window its offset changes a few times, so that a column of microseconds becomes
local time by adding a `CASE` of the offsets. Sums by UTC hour serve every zone that is whole hours from UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pricing.clock import US_PER_S
from pricing.ledger.reader import Reader, Span
from pricing.money import S_PER_HOUR, US_PER_HOUR

UTC_ZONE: Final = ZoneInfo("UTC")
_LAST_S: Final = 253_370_764_800  # 9999-01-01: what lies behind it is no date
_STEP_S: Final = S_PER_HOUR * 24
_QUARTER_US: Final = 900 * US_PER_S
_QUARTER_S: Final = 900  # no zone changes its offset elsewhere than at a quarter of an hour


def parse_zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"'{name}' is not a time zone; write an IANA name as Europe/Berlin, or UTC") from None


def in_time(label: str) -> str:
    """A key by which labels of `LocalTime` sort in the order of time: of the hour that an autumn repeats, the first has
    the larger offset in the one zone and the smaller in another.
    """
    if len(label) <= len("2026-01-31"):
        return label
    return datetime.fromisoformat(label).astimezone(UTC).isoformat()


class LocalTime:
    """How instants of one window read in one zone. Instants are microseconds since the epoch."""

    def __init__(self, zone: ZoneInfo, since_us: int, until_us: int) -> None:
        self.zone = zone
        ends_s = min(since_us // US_PER_S, _LAST_S), min(max(since_us, until_us - 1) // US_PER_S, _LAST_S)
        self._offsets = [(0, 0)] if zone is UTC_ZONE else list(_offsets(zone, *ends_s))

    @property
    def whole_hours(self) -> bool:
        """Whether local hours are hours of UTC, in all of the window."""
        return all(offset_s % S_PER_HOUR == 0 for _, offset_s in self._offsets)

    def sql(self, ledger: Reader, column: str, span: Span) -> str:
        """SQL: the hour, day or month of a column of instants, which `label` reads."""
        local = self._local(column)
        if span != "hour" or self.zone is UTC_ZONE:
            return ledger.utc_text(local, span)
        # The hour that an autumn repeats is two hours, which the offset tells apart.
        return f"CAST({local} / {US_PER_HOUR} AS TEXT) || ' ' || CAST({self._offset_us(column)} AS TEXT)"

    def label(self, value: str, span: Span) -> str:
        """What `sql` gave, as people read it: `2026-01-31T23:00Z` or `…T23:00+01:00`, `2026-01-31`, `2026-01`."""
        if span != "hour" or self.zone is UTC_ZONE:
            return value
        hours, offset_us = map(int, value.split())
        offset = timezone(timedelta(microseconds=offset_us))
        return datetime.fromtimestamp(hours * S_PER_HOUR, UTC).replace(tzinfo=offset).isoformat(timespec="minutes")

    def spans(self, span: Span, since_us: int, until_us: int) -> list[str]:
        """The labels of all hours, days or months that a window touches, in order."""
        first_us = since_us - since_us % _QUARTER_US
        labels = (self._label_at(at_us, span) for at_us in (*range(first_us, until_us, US_PER_HOUR), until_us - 1))
        return list(dict.fromkeys(labels))

    def _label_at(self, at_us: int, span: Span) -> str:
        moment = datetime.fromtimestamp(at_us // US_PER_S, UTC).astimezone(self.zone)
        match span:
            case "hour" if self.zone is UTC_ZONE:
                return moment.strftime("%Y-%m-%dT%H:00Z")
            case "hour":
                offset = timezone(moment.utcoffset() or timedelta())
                return moment.replace(minute=0, second=0, tzinfo=offset).isoformat(timespec="minutes")
            case "day":
                return moment.strftime("%Y-%m-%d")
            case "month":
                return moment.strftime("%Y-%m")

    def _local(self, column: str) -> str:
        return column if self.zone is UTC_ZONE else f"({column} + ({self._offset_us(column)}))"

    def _offset_us(self, column: str) -> str:
        *before, (_, last_s) = self._offsets
        whens = " ".join(
            f"WHEN {column} < {until_s * US_PER_S} THEN {offset_s * US_PER_S}"
            for (until_s, _), (_, offset_s) in zip(self._offsets[1:], before, strict=True)
        )
        return f"CASE {whens} ELSE {last_s * US_PER_S} END" if whens else str(last_s * US_PER_S)


def _offsets(zone: ZoneInfo, first_s: int, last_s: int) -> Iterator[tuple[int, int]]:
    """(from when, seconds ahead of UTC) of a window, in order."""
    at_s, offset_s = first_s, _offset_s(zone, first_s)
    yield at_s, offset_s
    while at_s < last_s:
        after_s = min(at_s + _STEP_S, last_s)
        if (changed_s := _offset_s(zone, after_s)) != offset_s:
            after_s = _change_s(zone, at_s, after_s)
            offset_s = changed_s
            yield after_s, offset_s
        at_s = after_s


def _change_s(zone: ZoneInfo, low_s: int, high_s: int) -> int:
    """The first second in (low, high] at which the offset is that of `high`: offsets change at most once a day."""
    new_s = _offset_s(zone, high_s)
    low, high = low_s // _QUARTER_S, -(-high_s // _QUARTER_S)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_s(zone, middle * _QUARTER_S) == new_s:
            high = middle
        else:
            low = middle
    return high * _QUARTER_S


def _offset_s(zone: ZoneInfo, at_s: int) -> int:
    offset = datetime.fromtimestamp(at_s, UTC).astimezone(zone).utcoffset()
    assert offset is not None  # an aware datetime has one
    return round(offset.total_seconds())
