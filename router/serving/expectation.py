"""How many tokens an answer is likely to have, and what a class's answers come to that run at one moment.

One replica's: what it has seen answered, asked with the prediction of the policy in force.
"""

from __future__ import annotations

import msgspec

from policies.predict.expect import Expected, Prediction, expect
from policies.predict.history import OutputHistory
from policies.predict.question import Question


class Outlook(msgspec.Struct, frozen=True, gc=False):
    """What was asked, and what was expected of each answer."""

    question: Question
    expected: Expected


class OutputExpectation:
    """Asked before each request, taught by each complete answer. Bounded memory; learnt again after a restart."""

    def __init__(self) -> None:
        self._history = OutputHistory()

    def outlook(self, prediction: Prediction, question: Question, output_bound: int) -> Outlook:
        """What to expect of each answer, from 1 token to the bound."""
        return Outlook(question, expect(prediction, self._history, question, output_bound))

    def running(self, tenant: str, request_class: str) -> int | None:
        """What an answer comes to that is found running, on average; None while too few were seen to tell."""
        return self._history.running(tenant, request_class)

    def observe(self, question: Question, output_tokens: int) -> None:
        """Learn from a complete answer, with the question as it was asked."""
        self._history.add(question, output_tokens)
