"""Answers of the ledger as history takes them: asked as they were, as far as the ledger knows."""

from __future__ import annotations

from policies.predict.question import Question
from pricing.ledger.answers import PastAnswer


def question_of(answer: PastAnswer) -> Question:
    """What was asked; the prompt is as long as the engine said."""
    return Question(
        answer.tenant,
        answer.request_class,
        answer.prompt_tokens,
        answer.max_tokens,
        frozenset(answer.features),
        answer.stream,
    )
