"""How many tokens an answer is likely to have, per tenant and class."""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Final

PRIOR_TOKENS: Final = 200.0  # mean of the Azure 2023 conversation trace is 211 output tokens, its median 129
STEP: Final = 0.05
LAST: Final = 128  # answers that are remembered: enough to hold rare long ones, soon forgotten when traffic changes
ENOUGH: Final = 8  # answers from which on they tell anything


class OutputExpectation:
    """The median is followed by steps: up a little after a longer answer, down after a shorter one.

    Half of the answers lie on each side when it settles. Constant memory per (tenant, class); per replica, and learnt
    again after a restart within some dozens of requests.
    """

    def __init__(self) -> None:
        self._median: dict[tuple[str, str], float] = {}
        self._last: dict[tuple[str, str], _LastAnswers] = {}

    def expect(self, tenant: str, request_class: str, output_bound: int) -> int:
        """Expected output tokens, from 1 to the bound."""
        median = self._median.get((tenant, request_class), PRIOR_TOKENS)
        return max(1, min(output_bound, round(median)))

    def running(self, tenant: str, request_class: str) -> int | None:
        """What an answer comes to that is found running, on average; None while too few were seen to tell.

        Long answers run longer, so that there are more of them among those that run than among those asked for: the
        mean of lengths weighted by length. Where the median is 18 tokens it can be 120 (LLM-Pilot's requests).
        """
        last = self._last.get((tenant, request_class))
        return None if last is None else last.weighted_mean()

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
    """Lengths of the last answers, with the sums that a weighted mean needs."""

    __slots__ = ("_lengths", "_squares", "_sum")

    def __init__(self) -> None:
        self._lengths: deque[int] = deque()
        self._sum = 0
        self._squares = 0

    def add(self, tokens: int) -> None:
        self._lengths.append(tokens)
        self._sum += tokens
        self._squares += tokens * tokens
        if len(self._lengths) > LAST:
            oldest = self._lengths.popleft()
            self._sum -= oldest
            self._squares -= oldest * oldest

    def weighted_mean(self) -> int | None:
        if len(self._lengths) < ENOUGH:
            return None
        return ceil(self._squares / self._sum) if self._sum else 1
