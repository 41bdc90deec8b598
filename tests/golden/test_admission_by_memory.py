"""Pools that failed most of their requests with CUDA out of memory, simulated as measured, alone and behind the router.

`benchmarks/oom_admission.py` runs all of LLM-Pilot's; here are the worst and the dearest, on their virtual clock.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

import router.serving.attempts
from policies.choose.decide import decide
from policies.choose.decision import Decision
from policies.choose.facts import Facts

SECONDS = 40.0
A10, H100 = ("llama-7b", "A10", 1), ("gpt-neox-20b", "H100", 1)
CASES = [(A10, 64), (H100, 128)]


@pytest.fixture
def pilot(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark's own module."""
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    return importlib.import_module("oom_admission")


def measured(pilot: Any, pool: tuple[str, str, int], users: int) -> Any:
    return next(case for case in pilot.cases() if case[:2] == (pool, users))


@pytest.mark.parametrize(("pool", "users"), CASES)
def test_left_alone_it_fails_as_measured(pilot: Any, pool: tuple[str, str, int], users: int) -> None:
    """From 46% to 89% of the requests, within 20 points of the measurement."""
    case = measured(pilot, pool, users)
    alone = pilot.alone(case.pool, users, 120, 1)
    assert 0.46 <= round(case.failed_share, 2) <= 0.89
    assert alone.failed_share == pytest.approx(case.failed_share, abs=0.2)


@pytest.mark.parametrize(("pool", "users"), CASES)
def test_behind_the_router_less_than_a_hundredth_fails(pilot: Any, pool: tuple[str, str, int], users: int) -> None:
    """As the only pool of its class: requests wait for seconds, in order. At least four fifths as many are answered as
    were measured, long ones too, where alone it was the short ones that came through.
    """
    case = measured(pilot, pool, users)
    queueing = pilot.behind([case.pool], users, SECONDS, 1)
    assert queueing.failed_share < 0.01
    assert queueing.answered / SECONDS > 0.8 * case.answered / pilot.MEASURED_S
    waits = sorted(queueing.waits_s)
    assert waits[-1] < 5 * waits[len(waits) // 2]  # nobody starves behind the others


@pytest.mark.parametrize(("pool", "users"), CASES)
def test_with_a_larger_pool_on_the_ladder_hardly_anybody_waits(
    pilot: Any, pool: tuple[str, str, int], users: int
) -> None:
    """What has no room spills over."""
    case = measured(pilot, pool, users)
    spilling = pilot.behind([case.pool, pilot.LARGER[case.pool.model]], users, SECONDS, 1)
    assert spilling.failed_share < 0.01
    assert spilling.spilled > 0
    waits = sorted(spilling.waits_s)
    assert waits[int(0.95 * len(waits))] < 1


def test_a_catalogue_that_believes_in_too_much_memory_is_corrected(pilot: Any) -> None:
    """The pool is said to hold three times what it does: some batches are lost, their requests are served elsewhere."""
    case = measured(pilot, A10, 64)
    wrong = {"kv_tokens": 3 * pilot.FITTED[case.pool].holds_tokens}
    outcome = pilot.behind([case.pool, pilot.LARGER[case.pool.model]], 64, SECONDS, 1, wrong)
    assert 1 <= outcome.out_of_memory <= 8
    assert outcome.failed_share < 0.01


def test_waiting_costs_few_decisions(pilot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves wakes the first in line alone: three hundred who wait do not all decide again each time."""
    decisions = 0

    def counted(facts: Facts) -> Decision:
        nonlocal decisions
        decisions += 1
        return decide(facts)

    monkeypatch.setattr(router.serving.attempts, "decide", counted)
    outcome = pilot.behind([pilot.Pool(*A10)], 300, SECONDS, 1)
    assert outcome.failed_share < 0.01
    waiting_s = sum(outcome.waits_s)
    assert decisions < 4 * outcome.answered + waiting_s / 4  # a look every five seconds of waiting, and some to spare
