"""What a client is told when nothing can serve it, and whether trying again helps."""

from __future__ import annotations

from typing import Any

import pytest

from policies.choose.decide import decide
from policies.choose.decision import Decision
from policies.requirements import Requirements, Tier
from pools.failures.classes import AttemptFailed, FailureClass
from pools.live.state import BreakerState, PoolState
from pricing.clock import US_PER_S, ManualClock
from pricing.errors import BudgetExceeded, RateLimited, Shortfall
from router.errors import ApiError
from router.interrupts import Cause
from router.serving.chain import Chain
from router.serving.refusals import budget_refusal, chain_failed, rate_refusal, refusal_of, stop_error, tier_that_fits
from support.chains import chain, report
from support.choosing import facts, ladder, needs, rung
from support.values import replace

L4, L40S = rung("qwen3-vl-8b-fp8-l4"), rung("qwen3-vl-8b-bf16-l40s")
T4 = replace(rung("qwen3-4b-fp16-t4"), tier=Tier.ECONOMY)
TWO = ladder(L4, L40S)
ASKED = needs("chat", Tier.STANDARD, prompt=1_000, output=500)


def refused(asked: Requirements = ASKED, **states: PoolState) -> ApiError:
    """The refusal of a request to a class of two pools, in the states given (dashes as underscores)."""
    named = {name.replace("_", "-"): state for name, state in states.items()}
    by_pool = {one.pool.name: named.get(one.pool.gpu.id.lower(), PoolState()) for one in TWO.ladder}
    return refusal_of(chain(ManualClock(), asked, request_class=TWO), decide(facts(asked, TWO, by_pool)))


async def test_what_never_fits_is_the_request_s_fault() -> None:
    """400 with the largest context among the pools that could serve, were they up; a retry cannot help."""
    error = refused(replace(ASKED, prompt_tokens=500_000))
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert error.metadata == {"largest_context": L40S.pool.max_model_len}
    assert "about 500000 for the prompt" in error.message


async def test_a_named_pool_s_own_context_counts() -> None:
    """Who names a pool is told of that pool."""
    error = refused(replace(ASKED, prompt_tokens=40_000, prompt_exact=True, pinned_pool=L4.pool.name))
    assert error.metadata == {"largest_context": L4.pool.max_model_len}
    assert "about" not in error.message


async def test_a_feature_that_no_pool_has_is_named() -> None:
    """400, not a refusal to be repeated."""
    error = refused(replace(ASKED, features=frozenset({"telepathy"})))
    assert (error.status, error.code) == (400, "feature_not_supported")
    assert "telepathy" in error.message


async def test_reasons_of_pools_that_could_serve_are_told() -> None:
    """503 with each pool's reason; the earliest of them says when to come back."""
    error = refused(
        l4=PoolState(ready=1, breaker=BreakerState.OPEN, breaker_retry_s=9.0, breaker_reason="resets"),
        l40s=PoolState(ready=1, breaker=BreakerState.OPEN, breaker_retry_s=30.0),
    )
    assert (error.status, error.code, error.retry_after_s) == (503, "no_capable_pool", 9.0)
    assert error.metadata is not None
    assert [one["reason"] for one in error.metadata["rejected"]] == ["breaker", "breaker"]
    assert "resets" in error.message
    assert dict(error.headers())[b"x-should-retry"] == b"true"


async def test_what_only_an_operator_can_change_is_not_to_be_repeated() -> None:
    """Pools that were drained or have no endpoint will not come back by themselves."""
    error = refused(l4=PoolState(drained=True), l40s=PoolState(deployed=False))
    assert (error.status, error.retry_after_s) == (503, None)
    assert dict(error.headers())[b"x-should-retry"] == b"false"


async def test_pools_without_an_endpoint_are_named_with_what_to_add() -> None:
    """Whoever reads it can write the entry that is missing; where one pool is deployed, each reason has its pools."""
    nowhere = PoolState(deployed=False)
    message = refused(l4=nowhere, l40s=nowhere).message
    assert message == (
        "no pool that could serve 'chat' has an endpoint: qwen3-vl-8b-fp8-l4, qwen3-vl-8b-bf16-l40s; add one to the "
        'policy, as in endpoints: {qwen3-vl-8b-fp8-l4: {url: "https://..."}}'
    )
    mixed = refused(l4=PoolState(drained=True), l40s=nowhere).message
    assert mixed == (
        "no pool can serve this request now: qwen3-vl-8b-fp8-l4: was taken out by operators; 0 requests still in flight"
        "; qwen3-vl-8b-bf16-l40s: has no endpoint; add it under endpoints: or deploy it"
    )


async def test_pools_of_one_reason_are_named_together_and_not_all() -> None:
    """A ladder of ten drained pools is one sentence; metadata has each."""
    many = ladder(*[replace(L4, pool=replace(L4.pool, name=f"pool-{number}")) for number in range(6)])
    states = {one.pool.name: PoolState(drained=True) for one in many.ladder}
    error = refusal_of(chain(ManualClock(), ASKED, request_class=many), decide(facts(ASKED, many, states)))
    assert "now: pool-0, pool-1, pool-2, pool-3 and 2 more: was taken out" in error.message
    assert error.metadata is not None
    assert len(error.metadata["rejected"]) == 6


async def test_a_class_without_a_pool_for_the_tier_says_so() -> None:
    """An empty list of reasons is still a sentence."""
    premium = ladder(L40S)
    decision = decide(facts(ASKED, premium, {L40S.pool.name: PoolState(drained=True)}))
    nothing = Decision(
        decision.requirements, decision.tier, decision.objective, (), (), None, 0.0, "v", ("book",), decision.decided_us
    )
    error = refusal_of(chain(ManualClock(), ASKED, request_class=premium), nothing)
    assert "none is listed for this class and tier" in error.message


def shortfall(frees_at_us: int | None) -> BudgetExceeded:
    return BudgetExceeded(Shortfall("acme/day", "tenant:acme", "24h", 10, 9, 0, 5, frees_at_us), "too little")


@pytest.mark.parametrize(("frees_at_us", "retry_after"), [(None, None), (90 * US_PER_S, 90.0), (1, 1.0)])
async def test_a_spent_budget_says_when_there_is_room(frees_at_us: int | None, retry_after: float | None) -> None:
    """429 of type insufficient_quota; Retry-After only where waiting helps, and at least a second."""
    error = budget_refusal(shortfall(frees_at_us), 0, None)
    assert (error.status, error.entry.type, error.retry_after_s) == (429, "insufficient_quota", retry_after)
    assert dict(error.headers())[b"x-should-retry"] == b"false"
    assert error.metadata == {"cap": "acme/day", "window": "24h"}
    assert error.message == "too little"


async def test_a_cheaper_tier_is_named_where_one_fits() -> None:
    """Only a pool that the tier asked for may not use, with a charge that is left, is worth a word."""
    both = ladder(T4, L40S)
    cheap = decide(facts(replace(ASKED, tier=Tier.ECONOMY), both)).candidates
    charge_nusd = next(one.expected_charge_nusd for one in cheap if one.tier is Tier.ECONOMY)
    assert tier_that_fits(facts(ASKED, both), charge_nusd) is Tier.ECONOMY
    assert tier_that_fits(facts(ASKED, both), charge_nusd - 1) is None
    assert tier_that_fits(facts(replace(ASKED, tier=Tier.ECONOMY), both), charge_nusd) is None
    assert tier_that_fits(facts(ASKED, TWO), 1 << 60) is None
    assert tier_that_fits(facts(replace(ASKED, pinned_pool=L40S.pool.name), both), charge_nusd) is None
    error = budget_refusal(shortfall(None), 0, Tier.ECONOMY)
    assert error.message == "too little or route to `economy`"


def limited(dimension: str, limit: int, wait_s: float | None) -> ApiError:
    return rate_refusal(RateLimited("tenant:acme", dimension, limit, wait_s, "slow down"))


@pytest.mark.parametrize(
    ("dimension", "limit", "wait_s", "error_type", "headers"),
    [
        ("requests", 60, 12.3456, "requests", (b"true", b"13", b"12346")),
        ("tokens", 60, 0.0004, "tokens", (b"true", b"1", b"1")),
        ("requests", 60, 64.5, "requests", (b"true", b"60", b"60000")),
        ("tokens", 60, None, "tokens", (b"false", None, None)),
        ("in_flight", 5, None, "requests", (b"true", None, None)),
        ("in_flight", 0, None, "requests", (b"false", None, None)),
    ],
)
async def test_a_rate_limit_says_when_to_come_back(
    dimension: str, limit: int, wait_s: float | None, error_type: str, headers: tuple[bytes | None, ...]
) -> None:
    """429 with the wait in seconds and milliseconds, no longer than every client waits; what never fits says so."""
    error = limited(dimension, limit, wait_s)
    sent = dict(error.headers())
    assert (error.status, error.code, error.error_type) == (429, "rate_limit_exceeded", error_type)
    assert tuple(sent.get(name) for name in (b"x-should-retry", b"retry-after", b"retry-after-ms")) == headers
    assert error.metadata == {"scope": "tenant:acme", "dimension": dimension, "limit": limit}


def failed_chain(*failures: str, **body: Any) -> Chain:
    under_way = chain(ManualClock(), ASKED, request_class=TWO, **body)
    under_way.attempts = len(failures)
    under_way.reports += [report(f"pool-{place}", failure) for place, failure in enumerate(failures)]
    return under_way


SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("failures", "body", "status", "code"),
    [
        (["unavailable", "unavailable"], {}, 502, "chain_failed"),
        (["unavailable", "timeout"], {}, 504, "chain_timeout"),
        (["overloaded", "overloaded"], {}, 503, "no_capable_pool"),
        (["overloaded", "unavailable"], {}, 502, "chain_failed"),
        (["bad_output"], {"response_format": SCHEMA}, 502, "schema_violation"),
        (["bad_output"], {}, 502, "chain_failed"),
        (["context_overflow"], {}, 400, "context_length_exceeded"),
        ([], {}, 502, "chain_failed"),
    ],
)
async def test_the_tries_decide_what_a_failed_chain_is_called(
    failures: list[str], body: Any, status: int, code: str
) -> None:
    """The last failure, or what all of them have in common, is what the client can act on; each try is listed."""
    error = chain_failed(failed_chain(*failures, **body), "no other pool can serve this request")
    assert (error.status, error.code) == (status, code)
    assert error.metadata is not None
    assert [one["failure"] for one in error.metadata["attempts"]] == failures


async def test_the_engine_s_own_refusal_is_passed_on() -> None:
    """Status and body as they came."""
    failure = AttemptFailed(FailureClass.CLIENT_ERROR, "refused", status=422, body=b'{"error": {"message": "no"}}')
    error = chain_failed(failed_chain("client_error"), "the pool refused the request itself", passed_on=failure)
    assert (error.status, error.body(), error.code) == (422, b'{"error": {"message": "no"}}', "upstream_refusal")


@pytest.mark.parametrize(
    ("cause", "status", "code"),
    [
        (Cause.CLIENT_GONE, 499, "client_closed_request"),
        (Cause.CUT, 429, "budget_exceeded"),
        (Cause.STORE_DOWN, 503, "store_unavailable"),
        (Cause.SHUTDOWN, 503, "shutting_down"),
    ],
)
def test_every_end_from_outside_has_its_error(cause: Cause, status: int, code: str) -> None:
    """Who ended a request, as its client reads it."""
    error = stop_error(cause)
    assert (error.status, error.code) == (status, code)
