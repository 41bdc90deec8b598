"""Which buckets a window holds."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.budgets.caps import parse_window
from pricing.budgets.windows import BUCKET_US, bucket_of, leaves_us, month_around, span_at

US = 1_000_000
BERLIN = ZoneInfo("Europe/Berlin")
instants = st.integers(0, 4_000_000_000 * US)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * US


@given(instants, instants, st.sampled_from(["15m", "24h", "7d", "31d"]))
def test_a_rolling_window_never_forgets_too_early(now_us: int, back_us: int, text: str) -> None:
    """What was spent within the window counts; what is older by more than one bucket does not."""
    window = parse_window(text)
    assert window.rolling_s is not None
    span = span_at(window, now_us, BERLIN)
    spent_us = now_us - back_us % (2 * window.rolling_s * US)
    age_us = now_us - spent_us
    if age_us <= window.rolling_s * US:
        assert span.holds(bucket_of(spent_us))
    if age_us >= window.rolling_s * US + BUCKET_US:
        assert not span.holds(bucket_of(spent_us))


@given(instants, st.sampled_from(["15m", "24h", "30d", "1mo"]))
def test_a_span_is_true_for_as_long_as_it_says(now_us: int, text: str) -> None:
    """The first and the last instant of a span's validity give the same buckets; the next instant others."""
    window = parse_window(text)
    span = span_at(window, now_us, BERLIN)
    assert span.from_us <= now_us < span.until_us
    assert span_at(window, span.from_us, BERLIN) == span == span_at(window, span.until_us - 1, BERLIN)
    assert span_at(window, span.until_us, BERLIN) != span


@given(instants, st.sampled_from(["15m", "24h", "30d", "1mo"]))
def test_a_bucket_leaves_when_it_is_said_to(now_us: int, text: str) -> None:
    """One microsecond before that instant the window still holds it, at that instant it does not."""
    window, bucket = parse_window(text), bucket_of(now_us)
    gone_us = leaves_us(window, bucket, BERLIN)
    assert span_at(window, gone_us - 1, BERLIN).holds(bucket)
    assert not span_at(window, gone_us, BERLIN).holds(bucket)


@pytest.mark.parametrize(
    ("now", "begin", "end", "hours"),
    [
        ("2026-03-15T12:00+01:00", "2026-03-01T00:00+01:00", "2026-04-01T00:00+02:00", 743),
        ("2026-10-25T02:30+01:00", "2026-10-01T00:00+02:00", "2026-11-01T00:00+01:00", 745),
        ("2026-02-28T23:59:59+01:00", "2026-02-01T00:00+01:00", "2026-03-01T00:00+01:00", 672),
        ("2026-12-31T23:59:59+01:00", "2026-12-01T00:00+01:00", "2027-01-01T00:00+01:00", 744),
    ],
)
def test_a_calendar_month_follows_its_zone(now: str, begin: str, end: str, hours: int) -> None:
    """Months begin at local midnight, also where daylight saving makes one an hour shorter or longer."""
    assert month_around(at(now), BERLIN) == (at(begin), at(end))
    assert at(end) - at(begin) == hours * 3_600 * US


def test_the_zone_decides_the_month() -> None:
    """Half past midnight in Berlin on the first is still the month before in UTC."""
    moment = at("2026-11-01T00:30+01:00")
    assert month_around(moment, BERLIN)[0] == at("2026-11-01T00:00+01:00")
    assert month_around(moment, ZoneInfo("UTC"))[0] == int(datetime(2026, 10, 1, tzinfo=UTC).timestamp()) * US
