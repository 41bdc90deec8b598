"""The feeds of several replicas as one: each tells the others what ended there, as long as somebody watches anywhere.

Nothing of it lies on a request's way. While nobody watches, a replica asks every two seconds whether somebody does;
while somebody does, twice a second, with what ended since. Of one replica others hear of 50 requests a second at most,
the newest; what is not told, or was told while Redis was away, is in the ledger.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from pricing.errors import StoreUnavailable
from pricing.redis.feed import SharedFeed
from pricing.redis.replies import RedisReplyError
from router.telemetry.feed import Feed

TURN_S: Final = 0.5  # real seconds
_TURNS_UNWATCHED: Final = 4


class FeedSharing:
    """Belongs to the event loop."""

    def __init__(self, feed: Feed, shared: SharedFeed) -> None:
        self._feed = feed
        self._shared = shared
        self._turn = 0

    async def turn(self) -> None:
        """Take it every TURN_S. Where Redis cannot be had, listeners hear of this replica alone."""
        self._turn += 1
        watching = self._feed.watched
        if not (watching or self._shared.watched) and self._turn % _TURNS_UNWATCHED:
            return
        with suppress(StoreUnavailable, RedisReplyError):
            heard = await self._shared.turn(self._feed.for_others(), watching=watching)
            self._feed.others_watch(self._shared.watched)
            self._feed.heard(heard)
