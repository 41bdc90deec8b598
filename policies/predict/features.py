"""The numbers that a model is asked with: one order for training, for the model file and for serving."""

from __future__ import annotations

from typing import Final

from policies.predict.history import UNKNOWN, Seen
from policies.predict.question import Question
from pools.spec import Feature

FEATURES: Final = (
    "class",
    "prompt_tokens",
    "max_tokens",
    "schema",
    "tools",
    "vision",
    "stream",
    "answers",
    "median",
    "p90",
    "recent_median",
    "alike",
    "alike_median",
    "alike_p90",
)
"""The hour of the day is not among them: a day of training knows each hour once, and the measured models got worse."""


def features_of(question: Question, seen: Seen, class_number: int) -> tuple[float, ...]:
    """One number per name in `FEATURES`; `class_number` is the model's own. What is not known is `UNKNOWN`."""
    return (
        class_number,
        question.prompt_tokens,
        UNKNOWN if question.max_tokens is None else question.max_tokens,
        question.asks_schema,
        question.asks_tools,
        Feature.VISION in question.features,
        question.stream,
        seen.answers,
        seen.median,
        seen.p90,
        seen.recent_median,
        seen.alike,
        seen.alike_median,
        seen.alike_p90,
    )
