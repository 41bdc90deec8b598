"""What stops retry storms: moves beyond a request's first draw on a share of live traffic."""

from __future__ import annotations

from typing import Final

NEVER_BELOW: Final = 3


class RetryBudget:
    """Counts live requests and those of them that are on a drawn move. The first move to another pool is free.

    A move is refused while drawn moves are at `share` of live requests, but never below three, so that a quiet endpoint
    still retries.
    """

    def __init__(self) -> None:
        self.live = 0
        self.drawn = 0

    def allows(self, share: float) -> bool:
        return self.drawn < max(NEVER_BELOW, share * self.live)
