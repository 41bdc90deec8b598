"""Hours, days and months of time zones."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pricing.ledger.read import reading
from pricing.ledger.reader import Span
from pricing.ledger.rows import LedgerRow, RowKind
from pricing.reports.apart import apart
from pricing.reports.pictures import pictures
from pricing.reports.report import report
from pricing.reports.zones import LocalTime, parse_zone
from support.money import house_row, request, row
from support.shared_ledger import fill_file

YEAR_US = 366 * 86_400 * 10**6
SINCE = 1_767_225_600 * 10**6  # 2026-01-01
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Chatham"]


def in_sql(ledger: Path, local: LocalTime, at_us: int, span: Span) -> str:
    with reading(ledger) as reader:
        [value] = reader.execute(f"SELECT {local.sql(reader, 'at_us', span)} FROM (SELECT {at_us} AS at_us)").fetchone()
    return local.label(value, span)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ZONES), st.integers(0, 366 * 86_400 - 1), st.sampled_from(["hour", "day", "month"]))
@example("Europe/Berlin", 25 * 86_400 * 12 - 3_600, "hour")
@example("Australia/Lord_Howe", 93 * 86_400 + 15 * 3_600, "hour")
def test_sql_knows_what_the_calendar_knows(small_ledger: Path, zone: str, after_s: int, span: Span) -> None:
    """In any zone, half-hour summer time included, an instant falls into the span that the zone's rules say."""
    local = LocalTime(ZoneInfo(zone), SINCE, SINCE + YEAR_US)
    at_us = SINCE + after_s * 10**6
    moment = datetime.fromtimestamp(at_us / 10**6, UTC).astimezone(ZoneInfo(zone))
    said = in_sql(small_ledger, local, at_us, span)
    if span == "month":
        assert said == moment.strftime("%Y-%m")
    elif span == "day":
        assert said == moment.strftime("%Y-%m-%d")
    elif zone == "UTC":
        assert said == moment.strftime("%Y-%m-%dT%H:00Z")
    else:
        assert said[:13] == moment.strftime("%Y-%m-%dT%H")
        assert (said[13:16], datetime.fromisoformat(said).utcoffset()) == (":00", moment.utcoffset())


def test_the_hour_that_autumn_repeats_is_two_hours(small_ledger: Path) -> None:
    """02:30 comes twice in Berlin on 2026-10-25; the offset tells the two apart."""
    first = round(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()) * 10**6
    local = LocalTime(ZoneInfo("Europe/Berlin"), first - 10**6, first + YEAR_US // 100)
    both = [in_sql(small_ledger, local, first + hour * 3_600 * 10**6, "hour") for hour in (0, 1)]
    assert both == ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"]
    assert local.spans("hour", first, first + 3_601 * 10**6) == both


@pytest.mark.parametrize(
    ("zone", "twice"),
    [
        ("Europe/Berlin", "2026-10-25T00:00Z"),
        ("America/New_York", "2026-11-01T05:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T14:00Z"),
    ],
)
def test_hours_stand_in_the_order_of_time_also_where_one_comes_twice(tmp_path: Path, zone: str, twice: str) -> None:
    """Whichever of its two offsets sorts first as text: of requests, of containers and in the picture."""
    begin_us = round(datetime.fromisoformat(twice).timestamp()) * 10**6
    moments = [begin_us + 1_800 * 10**6 * number for number in range(-2, 6)]
    rows = [made for at_us in moments for made in (row(f"{at_us}:1", 1, at_us=at_us), _boot(at_us))]
    fill_file(tmp_path / "ledger.sqlite", rows, [request(str(at_us), at_us=at_us) for at_us in moments])
    found = report(tmp_path / "ledger.sqlite", ["hour"], moments[0], moments[-1] + 1, zone=ZoneInfo(zone))
    hours = [line.key[0] for line in found.lines]
    assert hours == sorted(hours, key=lambda hour: datetime.fromisoformat(hour).timestamp())
    assert len({hour[:16] for hour in hours}) == len(hours) - 1
    assert [each.key[0] for each in apart(found)[1]] == hours
    [columns, *_] = pictures(found)
    assert re.findall(r"<title>(2026-\S+): ", columns) == hours


def _boot(at_us: int) -> LedgerRow:
    return house_row(f"{at_us}:boot", RowKind.BOOT, 1, at_us)


def test_whole_hours_are_told_from_others() -> None:
    """Sums by hour of UTC serve Berlin, and not India."""
    assert LocalTime(ZoneInfo("Europe/Berlin"), SINCE, SINCE + YEAR_US).whole_hours
    assert not LocalTime(ZoneInfo("Asia/Kolkata"), SINCE, SINCE + YEAR_US).whole_hours


def test_every_day_of_a_window_is_listed() -> None:
    """Also those on which nothing happened, and the one on which the clocks change."""
    local = LocalTime(ZoneInfo("Europe/Berlin"), 0, SINCE)
    begin = round(datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()) * 10**6
    assert local.spans("day", begin, begin + 2 * 86_400 * 10**6) == ["2026-03-28", "2026-03-29", "2026-03-30"]


@pytest.mark.parametrize("name", ["Berlin", "", "../etc/passwd", "Europe/"])
def test_unknown_zones_say_what_to_write(name: str) -> None:
    """The message names the form."""
    with pytest.raises(ValueError, match="IANA name as Europe/Berlin"):
        parse_zone(name)
