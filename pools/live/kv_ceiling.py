"""How many KV tokens a container was found to hold, where its engine fails instead of letting requests wait.

Out of memory with X predicted tokens in flight says that X were too many, whatever the catalogue computed: its
arithmetic does not know fragmentation, padding or what else runs on the GPU, and the predictions are none of the
engine's. So the pool is taken to hold a little less than X from then on. The ceiling stands for the shape cooldown, and
twice as long after each further time, since it was confirmed; then it rises by small steps, because what was short may
be there again and each step that is one too many costs a batch. Pure; instants are microseconds of a monotonic clock.
"""

from __future__ import annotations

from typing import Final

from pricing.clock import US_PER_S

KEPT_SHARE: Final = 0.9  # of the tokens that were too many
RISE: Final = 1.1  # each time that the ceiling has stood its time
LONGEST_S: Final = 43_200.0
STEPS: Final = 100  # of `RISE`: by then any catalogue's figure is far below


class KvCeiling:
    """Of one container of one pool. Forgotten when the files are read again."""

    def __init__(self) -> None:
        self._tokens: int | None = None
        self._since_us = 0
        self._stands_s = 0.0

    def tokens(self, now_us: int) -> int | None:
        """KV tokens to count on; None while the pool never ran out of memory."""
        if self._tokens is None:
            return None
        stood = int((now_us - self._since_us) / (self._stands_s * US_PER_S))
        return round(self._tokens * RISE ** min(stood, STEPS))

    def out_of_memory(self, tokens: int, dispatched_us: int, now_us: int, cooldown_s: float) -> None:
        """A container ran out of memory with so many predicted tokens in flight.

        All requests of a batch report it; those that were dispatched before the ceiling was last lowered say nothing
        about the new one.
        """
        if self._tokens is not None and dispatched_us <= self._since_us:
            return
        standing = self.tokens(now_us)
        lowered = max(1, round(tokens * KEPT_SHARE))
        self._stands_s = cooldown_s if self._tokens is None else min(2 * self._stands_s, LONGEST_S)
        self._tokens = lowered if standing is None else min(standing, lowered)
        self._since_us = now_us

    def forget(self) -> None:
        """The files were read again: what they say of the pool counts."""
        self._tokens = None
