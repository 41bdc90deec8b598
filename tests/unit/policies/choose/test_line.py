"""A full pool that has room soon is waited for before another one is woken."""

from __future__ import annotations

import pytest

from policies.choose.decide import decide
from policies.choose.decision import Decision, Reason
from policies.choose.facts import Facts, PastAttempt
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
    decision = decide(replace(asked, ahead={CHEAP.pool.name: before} if before else {}))
    assert decision.chosen is not None
    assert decision.chosen.pool.name == DEAR.pool.name
    return decision.line is not None


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


def alone(state: PoolState, *, past: tuple[PastAttempt, ...] = (), **more: object) -> Facts:
    """A request that no other pool could serve."""
    return replace(facts(ASKS, ladder(CHEAP), {CHEAP.pool.name: state}, past=past), **more)


def test_a_line_says_how_long_and_at_what_price() -> None:
    """What the full pool would take and charge, with the wait for room, and how many come first."""
    now = decide(facts(ASKS, ladder(CHEAP), {CHEAP.pool.name: replace(FULL, in_flight=MANY - 1)})).chosen
    decision = decide(alone(FULL, ahead={CHEAP.pool.name: 3}))
    assert now is not None
    assert decision.line is not None
    assert decision.line.expected_charge_nusd == pytest.approx(now.expected_charge_nusd, rel=0.1)
    assert decision.line.wait_s == decision.line.expected_s > 0
    assert (decision.candidates, dict(decision.lines)) == ((), {CHEAP.pool.name: 3})


def test_a_request_with_a_pool_at_once_stands_in_no_line() -> None:
    """Nothing is waited for where nothing needs to be."""
    decision = decide(facts(ASKS, ladder(CHEAP, DEAR), {CHEAP.pool.name: PoolState(ready=1), DEAR.pool.name: FULL}))
    assert (decision.line, dict(decision.lines)) == (None, {})


def while_booting(state: PoolState, ahead: int = 100 * MANY) -> Decision:
    asked = facts(ASKS, ladder(CHEAP, DEAR), {CHEAP.pool.name: state})
    return decide(replace(asked, ahead={CHEAP.pool.name: ahead}))


def test_who_waits_for_a_boot_stands_in_line_meanwhile() -> None:
    """The line is too long to wait for instead; its turn may come first all the same."""
    decision = while_booting(FULL)
    assert decision.chosen is not None
    assert (decision.chosen.pool.name, decision.line) == (DEAR.pool.name, None)
    assert dict(decision.lines) == {CHEAP.pool.name: 100 * MANY}


def test_who_waits_for_a_boot_keeps_nobody_from_memory() -> None:
    """First in a line for memory it would hold back all that is free until the boot is over."""
    held = CHEAP.fit.kv_tokens
    decision = while_booting(PoolState(ready=1, in_flight=1, kv_tokens_in_flight=held))
    assert [one.reason for one in decision.rejected] == [Reason.MEMORY]
    assert decision.line is None
    assert dict(decision.lines) == {}


def test_a_pool_that_had_no_room_and_has_it_again_is_taken_before_a_boot() -> None:
    """It was waited for because it had refused; to boot now would make that wait vain. Other failures differ."""
    room = PoolState(ready=1, in_flight=MANY // 2)
    for failure, taken in ((FailureClass.OVERLOADED, CHEAP), (FailureClass.UNAVAILABLE, DEAR)):
        past = [PastAttempt(CHEAP.pool.name, failure)]
        decision = decide(facts(ASKS, ladder(CHEAP, DEAR), {CHEAP.pool.name: room}, past=past))
        assert decision.chosen is not None
        assert decision.chosen.pool.name == taken.pool.name
        assert len(decision.candidates) == 2


def test_who_has_no_money_for_a_full_pool_is_told_so_at_once() -> None:
    """To wait for room would not help: the reason is the budget, with its numbers."""
    decision = decide(alone(FULL, room=Room(left_nusd=1, cap="acme/day", lower_tier=False)))
    assert [(one.reason, one.numbers["cap"]) for one in decision.rejected] == [(Reason.BUDGET, "acme/day")]
    assert decision.line is None


def test_a_prompt_that_no_container_holds_is_not_waited_for() -> None:
    """However many leave, it would not fit."""
    large = replace(ASKS, prompt_tokens=2_000)
    small = replace(CHEAP, fit=replace(CHEAP.fit, kv_tokens=1_000))
    decision = decide(facts(large, ladder(small), {CHEAP.pool.name: PoolState(ready=1, in_flight=1)}))
    assert [one.reason for one in decision.rejected] == [Reason.MEMORY]
    assert decision.line is None


OPEN = PoolState(ready=1, breaker=BreakerState.OPEN, breaker_retry_s=5.0, breaker_reason="resets")


@pytest.mark.parametrize(
    ("state", "in_line", "waited_for"),
    [
        (OPEN, False, False),
        (OPEN, True, True),
        (replace(OPEN, breaker_retry_s=4_000.0), True, False),
        (replace(OPEN, probed=True), False, True),
        (replace(OPEN, misconfigured=True), True, False),
        (replace(OPEN, misconfigured=True, probed=True), False, False),
    ],
)
def test_an_open_breaker_is_waited_for_by_those_in_line(state: PoolState, in_line: bool, waited_for: bool) -> None:
    """Within the deadline, and by all while a request tries the pool; never where our files are wrong about it."""
    decision = decide(alone(state, in_line=(CHEAP.pool.name,) if in_line else ()))
    assert [one.reason for one in decision.rejected] == [Reason.BREAKER]
    assert (decision.line is not None) == waited_for


def test_nobody_stays_in_the_line_of_a_broken_pool_where_another_can_boot() -> None:
    """Also where the breaker would let somebody try before that."""
    asked = facts(ASKS, ladder(CHEAP, DEAR), {CHEAP.pool.name: OPEN})
    decision = decide(replace(asked, in_line=(CHEAP.pool.name,)))
    assert decision.chosen is not None
    assert (decision.chosen.pool.name, decision.line, dict(decision.lines)) == (DEAR.pool.name, None, {})


@pytest.mark.parametrize(("before", "warmed"), [(0, None), (100 * MANY, DEAR.pool.name)])
def test_a_line_longer_than_a_boot_wakes_a_pool_for_those_who_come_later(before: int, warmed: str | None) -> None:
    """The boot is too late for this request, which waits in line in any case."""
    asked = facts(replace(ASKS, deadline_s=10.0), ladder(CHEAP, DEAR), {CHEAP.pool.name: FULL})
    decision = decide(replace(asked, ahead={CHEAP.pool.name: before}))
    assert decision.line is not None
    assert (decision.candidates, decision.warm) == ((), warmed)


def test_a_broken_pool_s_line_keeps_no_other_from_being_woken() -> None:
    """It may never have room; who comes later finds the other one up."""
    asked = facts(replace(ASKS, deadline_s=10.0), ladder(CHEAP, DEAR), {CHEAP.pool.name: OPEN})
    decision = decide(replace(asked, in_line=(CHEAP.pool.name,)))
    assert (list(decision.lines), decision.warm) == ([CHEAP.pool.name], DEAR.pool.name)


def test_a_boot_that_is_waited_for_is_paid_once() -> None:
    """Its cost is in what the chain has spent already."""
    asleep = facts(ASKS, ladder(DEAR))
    chosen = decide(asleep).chosen
    assert chosen is not None
    assert chosen.boot_nusd > chosen.expected_charge_nusd
    asked = replace(asleep, chain_left_nusd=chosen.expected_charge_nusd)
    assert decide(asked).chosen is None
    assert decide(replace(asked, booting=DEAR.pool.name)).chosen is not None


SLOW = PoolState(breaker=BreakerState.OPEN, breaker_retry_s=600.0, breaker_reason="too slow", misconfigured=True)


@pytest.mark.parametrize("state", [PoolState(booting=1, boot_left_s=40.0), SLOW])
def test_a_boot_that_is_waited_for_is_waited_for_to_the_end(state: PoolState) -> None:
    """It may come all the same, however late it is; another pool that would be in time is taken instead."""
    hurried = replace(ASKS, deadline_s=10.0)
    asked = replace(facts(hurried, ladder(CHEAP, DEAR), {DEAR.pool.name: state}), booting=DEAR.pool.name)
    decision = decide(asked)
    assert [one.pool.name for one in decision.candidates] == [DEAR.pool.name]
    assert [one.pool for one in decision.rejected] == [CHEAP.pool.name]
    instead = decide(replace(asked, states={**asked.states, CHEAP.pool.name: PoolState(ready=1)})).chosen
    assert instead is not None
    assert instead.pool.name == CHEAP.pool.name
    up = replace(asked, states={**asked.states, DEAR.pool.name: replace(state, ready=1, booting=0)})
    assert (decide(up).chosen is None) == (state is SLOW)
