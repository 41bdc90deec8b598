"""A decision as JSON and as a table."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from policies.choose.decide import decide
from policies.choose.decision import Reason, Rejection
from policies.choose.facts import PastAttempt
from policies.explain.record import as_json, as_record
from policies.explain.sentences import sentence
from policies.explain.table import render
from policies.requirements import Tier
from pools.failures.classes import FailureClass
from pools.live.state import BreakerState, PoolState
from support.choosing import NO_LIMIT, WARM, facts, needs
from support.values import replace

T4, L4, A10 = "qwen3-vl-8b-awq-t4", "qwen3-vl-8b-fp8-l4", "qwen3-vl-8b-fp8-a10"
VISION = needs("vision", Tier.ECONOMY, prompt=12_000)
STATES = {
    T4: PoolState(breaker=BreakerState.OPEN, breaker_retry_s=12.0, breaker_reason="5 failures in 30 s"),
    A10: WARM,
    "elsewhere": PoolState(),
}
# One rejection of each reason with the numbers its filter gives, and words that its sentence must hold.
EXAMPLES = [
    (Reason.CLASS, {"class": "chat"}, "class chat"),
    (Reason.TIER, {"pool_tier": "economy", "needed_tier": "premium"}, "premium is needed"),
    (Reason.NOT_PINNED, {"pinned_pool": "x"}, "named x"),
    (Reason.FEATURE, {"missing": "tools, vision"}, "lacks tools, vision"),
    (Reason.CONTEXT, {"needed_tokens": 40_000, "max_model_len": 32_768}, "max_model_len is 32,768"),
    (Reason.MEMORY, {"needed_kv_tokens": 40_000, "kv_tokens": 38_000}, "holds 38,000"),
    (
        Reason.MEMORY,
        {"needed_kv_tokens": 9_000, "free_kv_tokens": -5, "kv_tokens": 38_000, "in_flight": 4},
        "0 of 38,000 are free",
    ),
    (Reason.TOO_LARGE, {"needed_gib": 41.04, "budget_gib": 36.25}, "needs 41.0 GiB at this size; the GPU has 36.2 GiB"),
    (Reason.BREAKER, {"retry_s": 12.5, "cause": "timeouts"}, "(timeouts)"),
    (Reason.BREAKER, {"retry_s": 1.0, "cause": "timeouts", "probed": True}, "a request tries it just now"),
    (Reason.SHAPE, {"up_to_tokens": 16_384, "retry_s": 200.0}, "up to 16,384 tokens"),
    (Reason.OVERLOADED, {"retry_s": 1.0}, "is asked again in 1 s"),
    (Reason.SATURATED, {"in_flight": 64, "max_concurrency": 32, "containers": 2}, "2 × 32"),
    (Reason.SATURATED, {"in_flight": 20, "most_in_flight": 20}, "it refused more than 20 a moment ago"),
    (Reason.QUEUED, {"waiting": 3}, "3 requests wait for room there"),
    (Reason.DRAINED, {"in_flight": 3}, "3 requests"),
    (Reason.NOT_DEPLOYED, {"endpoints": 0}, "endpoints:"),
    (Reason.DEADLINE, {"wait_s": 100.0, "ttft_s": 1.5, "deadline_s": 30.0}, "after 101.5 s"),
    (Reason.BUDGET, {"needed_nusd": 2_400_000, "left_nusd": 1_000_000, "cap": "acme/day"}, "$0.001000 left"),
    (Reason.CHAIN_COST, {"needed_nusd": 5_000_000, "boot_nusd": 4_000_000, "left_nusd": 0}, "$0.004000 of it a boot"),
    (Reason.ALREADY_FAILED, {"failed_pool": "x", "failure": "timeout", "tries": 1}, "timeout"),
    (Reason.ALREADY_FAILED, {"failed_pool": "x", "failure": "client_gone"}, "no other pool"),
    (
        Reason.ALREADY_FAILED,
        {"failed_pool": "x", "failure": "context_overflow", "max_model_len": 8_192, "failed_max_model_len": 16_384},
        "not longer than 16,384",
    ),
    (
        Reason.ALREADY_FAILED,
        {"failed_pool": "x", "failure": "out_of_memory", "kv_tokens": 10, "failed_free_kv_tokens": 20},
        "not more than 20",
    ),
    (
        Reason.ALREADY_FAILED,
        {"failed_pool": "x", "failure": "bad_output", "pool_tier": "economy", "failed_tier": "standard"},
        "not above standard",
    ),
    (Reason.TOKENIZER, {"tokenizer": "qwen2.5", "needed_tokenizer": "qwen3"}, "cannot go on with tokens of qwen3"),
]


def drawn(renderable: object, width: int = 100) -> str:
    out = StringIO()
    Console(file=out, width=width).print(renderable)
    return out.getvalue()


@pytest.mark.parametrize(("reason", "numbers", "words"), EXAMPLES)
def test_each_reason_has_a_sentence_with_its_numbers(reason: Reason, numbers: dict[str, int | str], words: str) -> None:
    """The sentence says what was judged, by which numbers."""
    assert words in sentence(Rejection("pool", reason, numbers))


def test_every_reason_is_explained() -> None:
    """The examples above leave none out."""
    assert {reason for reason, _, _ in EXAMPLES} == set(Reason)


def test_json_holds_what_callers_are_promised() -> None:
    """`chosen`, `candidates`, `rejected` with reason and numbers, version and books; and it is plain JSON."""
    decision = decide(facts(VISION, states=STATES))
    document = json.loads(json.dumps(as_json(decision)))
    assert document["chosen"] == document["candidates"][0]
    assert document["chosen"]["pool"] == A10
    assert document["chosen"]["gpu"] == "A10"
    assert document["chosen"]["expected_bill_usd"] == decision.candidates[0].expected_bill_nusd / 1e9
    assert document["chosen"].keys() >= {"expected_charge_usd", "expected_seconds", "wait_s", "cold", "tier"}
    by_pool = {one["pool"]: one for one in document["rejected"]}
    assert by_pool[T4] == {
        "pool": T4,
        "reason": "breaker",
        "detail": "breaker is open (5 failures in 30 s), tried again in 12 s",
        "retry_s": 12.0,
        "cause": "5 failures in 30 s",
    }
    assert by_pool["elsewhere"]["reason"] == "class"
    assert (document["policy_version"], document["price_books"]) == ("test", ["modal-2026-10"])
    assert (document["tier"], document["objective"], document["warm"]) == ("economy", "cheapest", None)


def test_without_a_candidate_chosen_is_null_and_warm_says_what_to_wake() -> None:
    """A deadline that only warm pools meet: nothing is chosen, and `warm` names a pool and its boot."""
    waking = as_json(decide(facts(replace(VISION, deadline_s=20.0))))
    assert (waking["chosen"], waking["candidates"]) == (None, [])
    assert waking["warm"] == {"pool": T4, "ready_in_s": pytest.approx(100.8, abs=1)}
    ended = as_json(decide(facts(VISION, past=[PastAttempt(T4, FailureClass.CLIENT_GONE)])))
    assert (ended["chosen"], ended["warm"]) == (None, None)


def test_the_table_fits_100_columns_and_needs_no_terminal() -> None:
    """Every pool's name and reason can be read at 100 columns, without colour codes."""
    text = drawn(render(decide(facts(VISION, states=STATES))))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "\x1b" not in text
    for word in (T4, L4, A10, "breaker", "5 failures in 30 s", "→ " + A10, "policy test", "modal-2026-10"):
        assert word in text


def test_a_narrow_terminal_cuts_no_number() -> None:
    """At 80 columns a long pool name is folded; rank, money and seconds stay whole."""
    decision = decide(facts(VISION, states=STATES))
    text = drawn(render(decision), width=80)
    assert "…" not in text
    for one in decision.candidates:
        assert f"{one.expected_bill_nusd / 1e9:.6f}" in text


def test_the_table_says_when_a_pool_must_be_woken_or_none_can_serve() -> None:
    """Both empty outcomes have a line of their own."""
    waking = decide(facts(replace(VISION, deadline_s=20.0)))
    assert f"none in time; {T4} is the one to wake" in drawn(render(waking))
    never = decide(facts(needs("vision", prompt=400_000)))
    assert "no pool can serve this request" in drawn(render(never))


def test_a_lowered_tier_is_said() -> None:
    """The table shows both the tier in force and the one asked for, and which budget is the reason."""
    lowered = decide(facts(needs("vision"), room=replace(NO_LIMIT, lower_tier=True, lowered_by="acme/day")))
    assert lowered.lowered_by == "acme/day"
    assert "tier economy (lowered from standard by budget acme/day)" in drawn(render(lowered))
    assert decide(facts(needs("vision"), room=replace(NO_LIMIT, lowered_by="acme/day"))).lowered_by is None


def test_a_record_counts_the_pools_of_other_classes() -> None:
    """The ledger's form leaves them out by name, and is otherwise the same."""
    decision = decide(facts(needs("vision"), states={"on-another-ladder": PoolState()}))
    full, record = as_json(decision), as_record(decision)
    listed = [one for one in full["rejected"] if one["reason"] != "class"]
    assert record == {**full, "rejected": listed, "off_ladder": len(full["rejected"]) - len(listed)}
    assert record["off_ladder"] == 1
