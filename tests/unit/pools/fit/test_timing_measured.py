"""The service-time model against published measurements; `benchmarks/timing_model.py` prints the same comparison."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def cases(repository: Path) -> Sequence[Any]:
    """Every measured case beside the model's figure, from the benchmark's own code."""
    spec = spec_from_file_location("timing_model", repository / "benchmarks" / "timing_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return list(module.compare())


@pytest.mark.parametrize(
    ("what", "count", "at_most"),
    [
        ("InferenceMAX, dense: whole answer", 184, 0.10),
        ("InferenceMAX, experts: whole answer", 44, 0.15),
        ("LLM-Pilot: whole answer", 19, 0.20),
        ("Splitwise: first token", 42, 0.25),
        ("InferenceMAX, dense: first token", 184, 0.35),
    ],
)
def test_the_median_error_stays_within_its_bound(cases: Sequence[Any], what: str, count: int, at_most: float) -> None:
    """For each source, the median of |model / measured - 1| is below a bound close to today's figure."""
    errors = [abs(case.error) for case in cases if case.what == what]
    assert len(errors) == count
    assert statistics.median(errors) <= at_most


def test_pools_are_ranked_as_they_were_measured(cases: Sequence[Any]) -> None:
    """Of two measured cases that differ by half or more, the model calls the right one slower 19 times in 20."""
    answers = [case for case in cases if case.what.endswith("whole answer")]
    pairs = [
        (one, other)
        for index, one in enumerate(answers)
        for other in answers[index + 1 :]
        if max(one.measured_s, other.measured_s) > 1.5 * min(one.measured_s, other.measured_s)
    ]
    right = [(one.measured_s > other.measured_s) == (one.modelled_s > other.modelled_s) for one, other in pairs]
    assert statistics.mean(right) >= 0.95
