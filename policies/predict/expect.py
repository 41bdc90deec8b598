"""How long an answer is expected to be, and on what ground."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import expm1
from typing import Final

import msgspec

from policies.predict.history import OutputHistory
from policies.predict.model import OutputModel
from policies.predict.prior import prior_logs
from policies.predict.question import Question


class OutputTokens(StrEnum):
    """What a policy lets expectations draw on."""

    OFF = "off"  # the prior alone
    HISTORY = "history"  # what answers came to, from the prior on
    MODEL = "model"  # a trained model, for the classes that it knows


class Ground(StrEnum):
    """What an expectation was drawn from."""

    PRIOR = "prior"
    HISTORY = "history"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Prediction:
    """A policy's section `predict`; a model is there where it says so."""

    output_tokens: OutputTokens = OutputTokens.HISTORY
    model: OutputModel | None = None


FROM_HISTORY: Final = Prediction()
"""What holds where no file says otherwise."""


class Expected(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one answer, each from 1 to the output bound: `median`, and `p90`, which is not below it."""

    median: int
    p90: int
    ground: Ground


def expect(prediction: Prediction, history: OutputHistory, question: Question, output_bound: int) -> Expected:
    """What to expect of one answer that may have `output_bound` tokens at most (1 or more)."""
    if prediction.output_tokens is OutputTokens.OFF:
        median, p90 = prior_logs(question.prompt_tokens)
        return _expected(expm1(median), expm1(p90), Ground.PRIOR, output_bound)
    seen = history.seen(question)
    model = prediction.model
    if model is not None and model.knows(question.request_class):
        median, p90 = model.tokens(question, seen)
        return _expected(median, p90, Ground.MODEL, output_bound)
    median, p90 = seen.expected_logs
    ground = Ground.HISTORY if seen.answers else Ground.PRIOR
    return _expected(expm1(median), max(expm1(p90), expm1(median)), ground, output_bound)


def _expected(median: float, p90: float, ground: Ground, output_bound: int) -> Expected:
    return Expected(
        max(1, min(output_bound, round(median))),
        max(1, min(output_bound, round(p90))),
        ground,
    )
