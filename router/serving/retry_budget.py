"""What stops retry storms: moves beyond a request's first draw on a share of live traffic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

NEVER_BELOW: Final = 3


class RetryBudget:
    """Counts the requests that are on a drawn move. The first move to another pool is free.

    `live` tells how many requests are under way, those whose answers are being streamed among them. A move is refused
    while drawn moves are at `share` of these, but never below three, so that a quiet endpoint still retries.
    """

    def __init__(self, live: Callable[[], int]) -> None:
        self._live = live
        self.drawn = 0

    def allows(self, share: float) -> bool:
        return self.drawn < max(NEVER_BELOW, share * self._live())
