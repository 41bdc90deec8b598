"""Points in time as people write them."""

import pytest

from pricing.reports.spans import instant_text, parse_end, parse_instant

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
