"""Points in time as people write them."""

from zoneinfo import ZoneInfo

import pytest

from pricing.reports.spans import instant_text, parse_end, parse_instant, parse_window

NOW = 1_767_268_800 * 1_000_000  # 2026-01-01 12:00 UTC
US = 1_000_000


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("now", "2026-01-01T12:00:00Z"),
        ("24h", "2025-12-31T12:00:00Z"),
        ("90m", "2026-01-01T10:30:00Z"),
        ("2w", "2025-12-18T12:00:00Z"),
        ("2026-11-01", "2026-11-01T00:00:00Z"),
        ("2026-11-01T12:00Z", "2026-11-01T12:00:00Z"),
        ("2026-11-01T12:00+02:00", "2026-11-01T10:00:00Z"),
    ],
)
def test_instants(text: str, instant: str) -> None:
    """Spans count back from now; days and instants are UTC unless they say otherwise."""
    assert instant_text(parse_instant(text, NOW)) == instant


@pytest.mark.parametrize("text", ["", "yesterday", "24", "2026-13-01", "h", "-1d"])
def test_anything_else_names_the_forms(text: str) -> None:
    """The message shows what may be written."""
    with pytest.raises(ValueError, match="write 90m, 24h, 7d"):
        parse_instant(text, NOW)


def test_ends_lie_ahead() -> None:
    """A span counts forward from now; what has passed is refused."""
    assert parse_end("4h", NOW) == NOW + 4 * 3_600 * US
    assert instant_text(parse_end("2026-11-01", NOW)) == "2026-11-01T00:00:00Z"
    with pytest.raises(ValueError, match="has passed"):
        parse_end("2025-01-01", NOW)


def test_days_are_those_of_a_zone() -> None:
    """Midnight in Berlin is 23:00 UTC in winter; an instant with a zone of its own keeps it."""
    berlin = ZoneInfo("Europe/Berlin")
    assert instant_text(parse_instant("2026-11-01", NOW, berlin)) == "2026-10-31T23:00:00Z"
    assert instant_text(parse_instant("2026-11-01T12:00Z", NOW, berlin), berlin) == "2026-11-01T13:00:00+01:00"


def test_windows_have_a_begin_before_their_end() -> None:
    """Both ends in any form; nothing between them is refused."""
    assert parse_window("24h", "now", NOW) == (NOW - 86_400 * US, NOW)
    with pytest.raises(ValueError, match="the begin 1h is not before the end 2h"):
        parse_window("1h", "2h", NOW)


@pytest.mark.parametrize("text", ["1969-12-31", "0001-01-01", "0001-01-01T00:00+14:00"])
def test_what_lies_before_1970_is_refused(text: str) -> None:
    """No ledger is that old, and the message says so or shows the forms."""
    with pytest.raises(ValueError, match=r"before 1970|is not a time"):
        parse_instant(text, NOW)


def test_spans_longer_than_time_begin_with_it() -> None:
    """A million weeks ago is the beginning, not a number below 0."""
    assert parse_instant("999999w", NOW) == 0
