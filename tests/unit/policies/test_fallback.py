"""The fallback table: for each failure class who is next, what the breaker does, who pays, whether to go on."""

from __future__ import annotations

import pytest

from policies import fallback
from policies.choose.decide import decide
from policies.choose.decision import Decision, Reason
from policies.choose.facts import PastAttempt
from policies.fallback import FALLBACK, BreakerEffect, default_payers
from policies.policy import Objective, Payer
from policies.requirements import Tier
from pools.failures.classes import FailureClass
from pools.live.state import PoolState
from support.choosing import WARM, facts, ladder, needs, rung
from support.values import replace

T4, L4, A10, L40S, A100 = (
    "qwen3-vl-8b-awq-t4",
    "qwen3-vl-8b-fp8-l4",
    "qwen3-vl-8b-fp8-a10",
    "qwen3-vl-8b-bf16-l40s",
    "qwen3-vl-8b-bf16-a100-80",
)
VISION = needs("vision", Tier.ECONOMY)
GOES_ON = [failure for failure, rule in FALLBACK.items() if rule.goes_on]


def order(decision: Decision) -> list[str]:
    return [candidate.pool.name for candidate in decision.candidates]


def refused(decision: Decision) -> dict[str, Reason]:
    return {one.pool: one.reason for one in decision.rejected}


def test_every_failure_class_has_a_row() -> None:
    """The table covers each class, and the docstring's table says the same words."""
    assert set(FALLBACK) == set(FailureClass)
    for failure, rule in FALLBACK.items():
        row = next(line for line in str(fallback.__doc__).splitlines() if line.startswith(f"| {failure} |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[2].replace(" ", "_") == rule.breaker
        assert cells[3:] == [
            rule.payer,
            "yes" if rule.goes_on else "no",
            rule.same_pool,
        ]


def test_the_house_pays_what_the_tenant_did_not_cause() -> None:
    """Tenants pay for their own mistakes and departures, the house for what pools and platform did."""
    tenant = {name for name, payer in default_payers().items() if payer is Payer.TENANT}
    assert tenant == {"client_gone", "client_error", "context_overflow", "bad_output"}


def test_only_failures_of_the_pool_reach_its_breaker() -> None:
    """A prompt that is too long, a bad answer or a client's error says nothing about the pool's health."""
    silent = {failure for failure, rule in FALLBACK.items() if rule.breaker is BreakerEffect.NONE}
    assert silent == {
        FailureClass.CONTEXT_OVERFLOW,
        FailureClass.COLD,
        FailureClass.BAD_OUTPUT,
        FailureClass.CLIENT_ERROR,
        FailureClass.CLIENT_GONE,
    }


@pytest.mark.parametrize("failure", GOES_ON)
def test_another_pool_comes_first(failure: FailureClass) -> None:
    """After any failure that goes on, a pool that was not tried is next."""
    failed = PastAttempt(T4, failure, free_kv_tokens=1_000, max_model_len=16_384)
    assert order(decide(facts(VISION, past=[failed])))[0] == L4


@pytest.mark.parametrize("failure", [FailureClass.CLIENT_ERROR, FailureClass.CLIENT_GONE])
def test_the_clients_own_failures_end_the_chain(failure: FailureClass) -> None:
    """Nothing is tried after an error that is passed on, or a client that left."""
    decision = decide(facts(VISION, past=[PastAttempt(T4, failure)]))
    assert decision.candidates == ()
    assert set(refused(decision).values()) == {Reason.ALREADY_FAILED}


def test_context_overflow_asks_for_a_longer_context() -> None:
    """Only pools with a larger max_model_len than the one that overflowed remain."""
    failed = PastAttempt(L4, FailureClass.CONTEXT_OVERFLOW, max_model_len=32_768)
    assert order(decide(facts(VISION, past=[failed]))) == [L40S, A100]


def test_out_of_memory_asks_for_more_free_memory() -> None:
    """Pools with no more KV tokens free than the failed one had are refused, and the failed one for good."""
    free = rung(A10).fit.kv_tokens
    failed = PastAttempt(A10, FailureClass.OUT_OF_MEMORY, free_kv_tokens=free)
    decision = decide(facts(VISION, past=[failed]))
    assert order(decision) == [L40S, A100]
    crowded = PoolState(ready=1, in_flight=2, kv_tokens_in_flight=rung(L40S).fit.kv_tokens - free)
    assert order(decide(facts(VISION, states={L40S: crowded}, past=[failed]))) == [A100]


def test_a_timeout_prefers_pools_that_will_be_done_sooner() -> None:
    """After a cold pool timed out a warm one comes first, before a cheaper cold one."""
    decision = decide(facts(VISION, states={A100: WARM, L40S: WARM}, past=[PastAttempt(L4, FailureClass.TIMEOUT)]))
    assert order(decision)[:2] == [A100, L40S]
    slow = decide(facts(VISION, past=[PastAttempt(A10, FailureClass.TIMEOUT)]))
    limit = next(one for one in decide(facts(VISION)).candidates if one.pool.name == A10)
    sooner = [one.wait_s + one.expected_s < limit.wait_s + limit.expected_s for one in slow.candidates]
    assert sooner == sorted(sooner, reverse=True)


def test_bad_output_asks_for_a_higher_tier() -> None:
    """Only pools listed above the one that answered badly are tried."""
    assert order(decide(facts(VISION, past=[PastAttempt(L4, FailureClass.BAD_OUTPUT)]))) == [L40S, A100]


@pytest.mark.parametrize("failure", [FailureClass.UNAVAILABLE, FailureClass.COLD])
def test_a_passing_failure_may_be_tried_once_more_at_the_end(failure: FailureClass) -> None:
    """The pool that failed comes after all others, and not a third time."""
    once = decide(facts(VISION, past=[PastAttempt(T4, failure)]))
    assert order(once)[-1] == T4
    twice = decide(facts(VISION, past=[PastAttempt(T4, failure)] * 2))
    assert refused(twice)[T4] is Reason.ALREADY_FAILED


def test_a_pool_that_had_no_room_is_asked_after_all_others_as_often_as_it_takes() -> None:
    """It has not tried the request; a try that failed in earnest counts as it does elsewhere."""
    refusals = [PastAttempt(T4, FailureClass.OVERLOADED)] * 3
    assert order(decide(facts(VISION, past=refusals)))[-1] == T4
    failed = [*refusals, PastAttempt(T4, FailureClass.UNAVAILABLE)]
    assert order(decide(facts(VISION, past=failed)))[-1] == T4
    again = [*failed, PastAttempt(T4, FailureClass.UNAVAILABLE)]
    assert refused(decide(facts(VISION, past=again)))[T4] is Reason.ALREADY_FAILED


def test_out_of_memory_of_media_pools_puts_larger_gpus_first() -> None:
    """No catalogue says what a picture takes, so smaller GPUs come last but are not refused."""
    names = ("instantid-fp16-t4", "instantid-fp16-a10", "instantid-fp16-l40s")
    images = ladder(*(rung(name) for name in names), objective=Objective.LISTED)
    wanted = replace(needs("instantid", prompt=0, output=0), tier=Tier.ECONOMY)
    failed = PastAttempt("instantid-fp16-a10", FailureClass.OUT_OF_MEMORY)
    assert order(decide(facts(wanted, images, past=[failed]))) == ["instantid-fp16-l40s", "instantid-fp16-t4"]


def test_failures_add_up() -> None:
    """Each attempt of the chain keeps ruling pools out."""
    past = [
        PastAttempt(T4, FailureClass.OUT_OF_MEMORY, free_kv_tokens=1_000),
        PastAttempt(L4, FailureClass.MISCONFIGURED),
        PastAttempt(A10, FailureClass.CONTEXT_OVERFLOW, max_model_len=32_768),
    ]
    assert order(decide(facts(VISION, past=past))) == [L40S, A100]
