"""The last answers of somebody, by length: any quantile in constant time, the oldest forgotten."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from math import ceil
from typing import Final

LONGEST: Final = 2**32 - 1
"""Tokens; an upstream that claims more is not believed."""

ENOUGH: Final = 8
"""Answers from which on a weighted mean tells anything."""


class LastLengths:
    """At most `keep` lengths, in the order of their coming and sorted, and their sums; 8 bytes a length.

    An addition moves at most `keep` numbers, which for some hundred takes less than a microsecond.
    """

    __slots__ = ("_keep", "_oldest", "_ring", "_sorted", "_squares", "_sum")

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._ring = array("I")
        self._sorted = array("I")
        self._oldest = 0
        self._sum = 0
        self._squares = 0

    def __len__(self) -> int:
        return len(self._ring)

    def add(self, tokens: int) -> None:
        tokens = min(tokens, LONGEST)
        if len(self._ring) < self._keep:
            self._ring.append(tokens)
        else:
            gone, self._ring[self._oldest] = self._ring[self._oldest], tokens
            self._oldest = (self._oldest + 1) % self._keep
            del self._sorted[bisect_left(self._sorted, gone)]
            self._sum -= gone
            self._squares -= gone * gone
        insort(self._sorted, tokens)
        self._sum += tokens
        self._squares += tokens * tokens

    def quantile(self, share: float) -> int:
        """The smallest length that more than `share` (from 0 to below 1) of them do not pass. Raises IndexError while
        there is none.
        """
        return self._sorted[int(share * len(self._sorted))]

    def weighted_mean(self) -> int | None:
        """The mean weighted by length, rounded up: what an answer comes to that is found running. None for too few."""
        if len(self._ring) < ENOUGH:
            return None
        return ceil(self._squares / self._sum) if self._sum else 1
