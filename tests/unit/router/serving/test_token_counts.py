"""What a request gives back of the tokens that it counted, and what its refusal says of the limit."""

from __future__ import annotations

import pytest

from pricing.budgets.store import RateStanding, Standing
from pricing.clock import ManualClock
from pricing.errors import RateLimited
from router.serving.rates import more_tokens, standing_of_refusal
from support.chains import chain


@pytest.mark.parametrize(
    ("outcome", "charged_nusd", "usage", "more"),
    [
        ("served", 5, (100, 20), -80),
        ("served", 5, (100, 180), 80),
        ("served", 0, (100, 20), -80),  # in no time, for nothing, and all the same it took tokens
        ("served", 5, (None, None), 0),
        ("client_gone", 5, (100, 20), -80),
        ("client_gone", 5, (None, None), 0),
        ("client_gone", 5, (100, None), -100),
        ("refused", 0, (None, None), -200),
        ("broken", 0, (100, 20), -200),
        ("broken", 5, (100, 20), -80),
    ],
)
async def test_the_count_becomes_what_usage_says(
    outcome: str, charged_nusd: int, usage: tuple[int | None, int | None], more: int
) -> None:
    """Where nothing was said it stays; what the house pays for took nothing."""
    under_way = chain(ManualClock())
    under_way.counted_tokens = 200
    under_way.charged_nusd = charged_nusd
    under_way.prompt_tokens, under_way.completion_tokens = usage
    assert more_tokens(under_way, outcome) == more


async def test_what_counted_nothing_gives_nothing_back() -> None:
    """A request that was refused before its first hold."""
    assert more_tokens(chain(ManualClock()), "refused") == 0


def test_a_refusal_shows_the_limit_that_refused() -> None:
    """With what is left of it, and when the request would fit; requests in flight have no such header."""
    assert standing_of_refusal(RateLimited("tenant:a", "tokens", 100, 12.0, "", 30)) == Standing(
        tokens=RateStanding(100, 30, 12.0)
    )
    assert standing_of_refusal(RateLimited("tenant:a", "requests", 9, None, "")) == Standing(
        requests=RateStanding(9, 0, 0.0)
    )
    assert standing_of_refusal(RateLimited("tenant:a", "in_flight", 9, None, "")) == Standing()
