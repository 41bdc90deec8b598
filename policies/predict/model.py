"""A trained model, ready to be asked: by how much an answer should differ from what history expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import expm1
from pathlib import Path
from typing import Final

from policies.predict.compiled import Score, compile_forest
from policies.predict.features import features_of
from policies.predict.history import Seen
from policies.predict.model_file import REMEDY, ModelFile, read_model
from policies.predict.question import Question
from pricing.errors import FileProblem

LARGEST_LOG: Final = 20.0  # ln(1 + tokens) of 485 million: what a model says beyond is no length


@dataclass(frozen=True, slots=True)
class OutputModel:
    """`version` and `trained_at_us` as in its file. `classes` are those it was trained on, by number."""

    version: str
    trained_at_us: int
    classes: Mapping[str, int]
    median: Score
    p90: Score

    def knows(self, request_class: str) -> bool:
        return request_class in self.classes

    def tokens(self, question: Question, seen: Seen) -> tuple[float, float]:
        """Median and 90th percentile of the answer's tokens, the second not below the first, both 0 or more.

        Raises KeyError for a class it does not know.
        """
        features = features_of(question, seen, self.classes[question.request_class])
        median = seen.expected_logs[0] + self.median(features)
        p90 = seen.expected_logs[1] + self.p90(features)
        median = min(max(median, 0.0), LARGEST_LOG)
        return expm1(median), expm1(min(max(p90, median), LARGEST_LOG))


def compile_model(model: ModelFile) -> OutputModel:
    median, p90 = model.forests
    return OutputModel(
        version=model.version,
        trained_at_us=model.trained_at_us,
        classes={name: number for number, name in enumerate(model.classes)},
        median=compile_forest(median),
        p90=compile_forest(p90),
    )


def load_model(path: Path) -> OutputModel:
    """Read, check and compile a model's file. Raises FileProblem with what is wrong and what to do."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileProblem([f"{path}:1: the model cannot be read: {error.strerror}; {REMEDY}"]) from None
    return _compiled(content, path)


@lru_cache(maxsize=2)
def _compiled(content: bytes, path: Path) -> OutputModel:
    """A policy is loaded anew whenever one of its files changes; the model is compiled when it is the one that did."""
    return compile_model(read_model(content, path))
