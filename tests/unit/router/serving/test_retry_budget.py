"""The retry budget: a share of live traffic, and never less than three."""

from __future__ import annotations

import pytest

from router.serving.retry_budget import RetryBudget


@pytest.mark.parametrize(
    ("live", "drawn", "share", "allowed"),
    [
        (0, 0, 0.2, True),
        (1, 2, 0.0, True),
        (1, 3, 0.0, False),
        (10, 3, 0.2, False),
        (20, 3, 0.2, True),
        (100, 19, 0.2, True),
        (100, 20, 0.2, False),
        (2, 2, 1.0, True),
    ],
)
def test_moves_are_refused_once_the_share_is_drawn(live: int, drawn: int, share: float, allowed: bool) -> None:
    """A quiet endpoint may still retry three at a time; a busy one a share of what it serves."""
    budget = RetryBudget(lambda: live)
    budget.drawn = drawn
    assert budget.allows(share) is allowed
