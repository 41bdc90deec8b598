"""A full pool that has room soon is waited for before another one is woken."""

from __future__ import annotations

import pytest

from policies.choose.decide import decide
from policies.choose.decision import FOR_ROOM
from policies.choose.facts import PastAttempt
from policies.choose.line import sooner_than_boot
from policies.policy import Objective
from pools.failures.classes import FailureClass
from pools.live.state import OVERLOADED, BreakerState, PoolState
from pricing.budgets.store import Room
from support.choosing import NO_LIMIT, facts, ladder, needs, rung
from support.values import replace

CHEAP, DEAR = rung("qwen3-vl-8b-fp8-l4"), rung("qwen3-vl-8b-bf16-l40s")
MANY = CHEAP.pool.max_concurrency
FULL = PoolState(ready=1, in_flight=MANY)
ASKS = needs("chat", output=100)


def waits(
    state: PoolState = FULL,
    before: int = 0,
    *,
    objective: Objective = Objective.CHEAPEST,
    past: tuple[PastAttempt, ...] = (),
    output: int = 100,
    order: str = "cheap first",
    own_room: Room = NO_LIMIT,
) -> bool:
    """Whether a request waits for the cheap pool, in this state, while the dear one is asleep."""
    rungs = (CHEAP, DEAR) if order == "cheap first" else (DEAR, CHEAP)
    asked = facts(
        replace(ASKS, expected_output_tokens=output),
        ladder(*rungs, objective=objective),
        {CHEAP.pool.name: state},
        past=past,
        pool_rooms={CHEAP.pool.name: own_room},
    )
    decision = decide(asked)
    assert decision.chosen is not None
    assert decision.chosen.pool.name == DEAR.pool.name
    full = [one for one in decision.rejected if one.reason in FOR_ROOM]
    assert len(full) == 1
    return sooner_than_boot(asked, decision.chosen, full, {CHEAP.pool.name: before})


@pytest.mark.parametrize("objective", Objective)
def test_a_line_that_is_shorter_than_a_boot_is_taken(objective: Objective) -> None:
    """A few seconds until somebody leaves, against a boot of a minute: cheaper, faster and listed first."""
    assert waits(objective=objective)


def test_a_long_line_is_not() -> None:
    """Each round of those who wait takes a service: with many before it a request has its boot."""
    assert waits(before=MANY)
    assert not waits(before=100 * MANY)


def test_answers_that_take_longer_than_a_boot_are_not_waited_for() -> None:
    """All that run may have begun just now."""
    assert not waits(output=20_000)


def test_a_pause_counts_as_the_line_does() -> None:
    """A pool that asked for a short one is waited for, and not one that asked for longer than the boot takes."""
    paused = PoolState(ready=1, breaker=BreakerState.OPEN, breaker_reason=OVERLOADED, breaker_retry_s=2.0)
    assert waits(paused)
    assert not waits(replace(paused, breaker_retry_s=600.0))


def test_what_the_objective_puts_later_is_not_waited_for() -> None:
    """The file's order is what `listed` is for, whoever is full."""
    assert not waits(objective=Objective.LISTED, order="dear first")
    assert waits(objective=Objective.CHEAPEST, order="dear first")


def test_a_pool_that_failed_is_not_waited_for() -> None:
    """Another pool comes before a second try, also one that boots; a refusal for want of room was no try."""
    assert not waits(past=(PastAttempt(CHEAP.pool.name, FailureClass.UNAVAILABLE),))
    assert waits(past=(PastAttempt(CHEAP.pool.name, FailureClass.OVERLOADED),))


def test_a_pool_whose_own_budget_is_spent_is_not_waited_for() -> None:
    """It would refuse when it has room."""
    assert not waits(own_room=Room(left_nusd=1, cap="pool", lower_tier=False))


def test_a_pool_without_a_container_has_no_line_that_moves() -> None:
    """It is asleep as well."""
    assert not waits(PoolState(in_flight=MANY))
