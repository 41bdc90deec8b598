"""How long steps of a store take, counted in powers of two: cheap enough for the path of every request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pricing.clock import US_PER_S

LEAST: Final = 5  # the first bound that is told: 2^5 µs
POWERS: Final = 24  # the last one is 2^23 µs, about 8 s


class StepTimes:
    """A histogram. `counts[k]` are the steps that took less than 2^k µs and at least half of that."""

    __slots__ = ("counts", "total_us")

    def __init__(self) -> None:
        self.counts = [0] * (POWERS + 1)
        self.total_us = 0

    def add(self, taken_us: int) -> None:
        self.counts[min(taken_us.bit_length(), POWERS)] += 1
        self.total_us += taken_us

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """(seconds, steps that took less), ascending; the last bound is infinite."""
        seen = 0
        for power, count in enumerate(self.counts[:-1]):
            seen += count
            if power >= LEAST:
                yield (1 << power) / US_PER_S, seen
        yield float("inf"), seen + self.counts[-1]
