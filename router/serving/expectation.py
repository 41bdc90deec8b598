"""How many tokens an answer is likely to have, and what a class's answers come to that run at one moment.

One replica's: what it has seen answered, and what the ledger held when it started; asked with the prediction of the
policy in force.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from policies.predict.expect import Expected, Prediction, expect
from policies.predict.history import OutputHistory
from policies.predict.question import Question

MEANWHILE_AT_MOST: Final = 20_000  # answers that are kept for a history of before them; 5 MiB
AT_ONCE: Final = 200  # answers that are learnt from before requests have their turn: 1 ms


class Outlook(msgspec.Struct, frozen=True, gc=False):
    """What was asked, and what was expected of each answer."""

    question: Question
    expected: Expected


class OutputExpectation:
    """Asked before each request, taught by each complete answer. Bounded memory."""

    def __init__(self) -> None:
        self._history = OutputHistory()
        self._meanwhile: deque[tuple[Question, int]] | None = None  # what was observed since `recall` began

    def outlook(self, prediction: Prediction, question: Question, output_bound: int) -> Outlook:
        """What to expect of each answer, from 1 token to the bound."""
        return Outlook(question, expect(prediction, self._history, question, output_bound))

    def running(self, tenant: str, request_class: str) -> int | None:
        """What an answer comes to that is found running, on average; None while too few were seen to tell."""
        return self._history.running(tenant, request_class)

    def observe(self, question: Question, output_tokens: int) -> None:
        """Learn from a complete answer, with the question as it was asked."""
        self._history.add(question, output_tokens)
        if self._meanwhile is not None:
            self._meanwhile.append((question, output_tokens))

    async def recall(self, teach: Callable[[OutputHistory], Awaitable[None]]) -> bool:
        """Put what was answered before in front of what was observed from now on: `teach` is given an empty history to
        fill, oldest answers first. Until it has, everything goes on as if nothing was known.

        False where it took so long that what was observed meanwhile says more; it is kept then. Raises what `teach`
        raises; nothing is changed then either.
        """
        past = OutputHistory()
        meanwhile = self._meanwhile = deque[tuple[Question, int]](maxlen=MEANWHILE_AT_MOST)
        try:
            await teach(past)
            if len(meanwhile) == MEANWHILE_AT_MOST:
                return False
            while meanwhile:
                for _ in range(min(AT_ONCE, len(meanwhile))):
                    past.add(*meanwhile.popleft())
                await asyncio.sleep(0)
            self._history = past
            return True
        finally:
            self._meanwhile = None
