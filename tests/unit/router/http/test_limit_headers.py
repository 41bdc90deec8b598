"""Headers about limits: OpenAI's durations, and nothing where nothing limits."""

from __future__ import annotations

import pytest

from pricing.budgets.store import RateStanding, Standing
from router.http.limit_headers import limit_headers, reset_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (1.0, "1s"),
        (7.2, "8s"),
        (59.5, "1m0s"),
        (60.0, "1m0s"),
        (65.0, "1m5s"),
        (360.0, "6m0s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    """Milliseconds below a second, then whole seconds, then minutes; never too short."""
    assert reset_text(seconds) == text


def test_only_what_limits_is_told() -> None:
    """A tenant without limits and caps sees none of these headers."""
    assert limit_headers(Standing(), None) == []
    told = limit_headers(Standing(None, RateStanding(60, 59, 65.0), RateStanding(10_000, 0, 3.0)), 1_500_000_000)
    assert told == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1m5s"),
        (b"x-ratelimit-limit-tokens", b"10000"),
        (b"x-ratelimit-remaining-tokens", b"0"),
        (b"x-ratelimit-reset-tokens", b"3s"),
        (b"x-sluice-budget-remaining-usd", b"1.500000000"),
    ]
