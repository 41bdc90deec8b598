"""How many requests a pool takes at once, where it was found to take fewer than is believed of it.

A refusal for load says that what ran there just then was all that it takes: a container has gone since containers were
last listed, others load it too, or the files say too much of it. After the pause that it asked for, as many may run
again and no more, so that the next goes when one leaves; else all who wait would be refused once more, together, each
time that a pause ends. A pool that refused while nothing of ours ran gets one request, and the others once that speaks.
Pure; instants are microseconds of a monotonic clock.
"""

from __future__ import annotations

from typing import Final

from pricing.clock import US_PER_S

STANDS_S: Final = 30.0  # after the latest refusal; what others load a pool with may be gone by then


class Crowding:
    """Of one pool."""

    def __init__(self) -> None:
        self._most: int | None = None
        self._ready = 0
        self._until_us = 0

    def most(self, ready: int, now_us: int) -> int | None:
        """Requests that may run, at least 1; None: nothing is known, or it was found with other containers."""
        if self._most is None or now_us >= self._until_us or ready != self._ready:
            return None
        return max(1, self._most)

    def refused(self, running: int, ready: int, now_us: int) -> None:
        """One request too many, beside so many that were in flight. Of several that were, each leaves fewer behind, and
        the last of them knows best.
        """
        standing = self.most(ready, now_us)
        self._most = running if standing is None else min(standing, running)
        self._ready = ready
        self._until_us = now_us + round(STANDS_S * US_PER_S)

    def speaks(self) -> None:
        """An answer began: where nothing of ours ran, whoever filled the pool has left room."""
        if self._most == 0:
            self._most = None
