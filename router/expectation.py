"""How many tokens an answer is likely to have: quantiles of the last answers, per tenant and class."""

from __future__ import annotations

from bisect import insort
from collections import deque
from math import ceil
from typing import Final

PRIOR_TOKENS: Final = 200.0  # mean of the Azure 2023 conversation trace is 211 output tokens, its median 129
LAST: Final = 128  # answers that are remembered: enough for a 95th percentile, soon forgotten when traffic changes
ENOUGH: Final = 8  # answers from which on they say more than the prior
STEP: Final = 0.05
LONG: Final = 0.95  # of answers are no longer than a long one


class OutputExpectation:
    """The median is followed by steps: up a little after a longer answer, down after a shorter one.

    Half of the answers lie on each side when it settles. What a long answer is, is read off the last ones. Constant
    memory per (tenant, class); per replica, and learnt again after a restart within some dozens of requests.
    """

    def __init__(self) -> None:
        self._median: dict[tuple[str, str], float] = {}
        self._last: dict[tuple[str, str], _LastAnswers] = {}

    def expect(self, tenant: str, request_class: str, output_bound: int) -> int:
        """Expected output tokens, from 1 to the bound."""
        median = self._median.get((tenant, request_class), PRIOR_TOKENS)
        return max(1, min(output_bound, round(median)))

    def long(self, tenant: str, request_class: str) -> int | None:
        """What 19 of 20 answers do not exceed; None while there were too few to tell."""
        last = self._last.get((tenant, request_class))
        return None if last is None else last.long()

    def observe(self, tenant: str, request_class: str, output_tokens: int) -> None:
        """Learn from a complete answer."""
        key = (tenant, request_class)
        self._last.setdefault(key, _LastAnswers()).add(output_tokens)
        median = self._median.get(key, PRIOR_TOKENS)
        step = max(1.0, median * STEP)
        if output_tokens > median:
            self._median[key] = min(median + step, float(output_tokens))
        elif output_tokens < median:
            self._median[key] = max(median - step, float(output_tokens))


class _LastAnswers:
    """Lengths of the last answers, in the order they came and in that of size."""

    __slots__ = ("_arrived", "_sorted")

    def __init__(self) -> None:
        self._arrived: deque[int] = deque()
        self._sorted: list[int] = []

    def add(self, tokens: int) -> None:
        self._arrived.append(tokens)
        insort(self._sorted, tokens)
        if len(self._arrived) > LAST:
            self._sorted.remove(self._arrived.popleft())

    def long(self) -> int | None:
        count = len(self._sorted)
        return None if count < ENOUGH else self._sorted[ceil(LONG * count) - 1]
