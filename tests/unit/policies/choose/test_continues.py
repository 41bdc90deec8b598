"""Who goes on with a stream that broke: pools with its tokens first, others where the text may do."""

from __future__ import annotations

from policies.choose.decide import decide
from policies.choose.decision import Decision, Reason
from policies.choose.facts import PastAttempt
from policies.explain.sentences import sentence
from policies.policy import Objective
from policies.requirements import Continues, Tier, shares_tokens
from pools.failures.classes import FailureClass
from support.choosing import WARM, facts, ladder, needs, rung
from support.values import replace

SMALL, T4, L4 = rung("qwen3-4b-bf16-a10"), rung("qwen3-vl-8b-awq-t4"), rung("qwen3-vl-8b-fp8-l4")
CLASS = ladder(SMALL, T4, L4, objective=Objective.LISTED)
WARM_ALL = {one.pool.name: WARM for one in (SMALL, T4, L4)}
BROKE_ON_T4 = [PastAttempt(T4.pool.name, FailureClass.UNAVAILABLE)]


def decided(continues: Continues | None) -> Decision:
    asked = replace(needs("chat", Tier.ECONOMY), continues=continues)
    return decide(facts(asked, CLASS, WARM_ALL, past=BROKE_ON_T4))


def order(decision: Decision) -> list[str]:
    return [candidate.pool.name for candidate in decision.candidates]


def test_pools_that_go_on_exactly_come_first() -> None:
    """The same model elsewhere, then the pool that broke, and only then one that would go on from the text."""
    names = [L4.pool.name, T4.pool.name, SMALL.pool.name]
    assert order(decided(Continues(T4.pool.model.tokenizer, by_text=True))) == names


def test_where_only_the_text_is_known_no_pool_is_exact() -> None:
    """The class's own order then, the pool that broke last."""
    assert order(decided(Continues(None, by_text=True))) == [SMALL.pool.name, L4.pool.name, T4.pool.name]


def test_where_only_token_ids_will_do_others_are_refused() -> None:
    """With both tokenizers in the reason."""
    decision = decided(Continues(T4.pool.model.tokenizer, by_text=False))
    assert order(decision) == [L4.pool.name, T4.pool.name]
    [refused] = decision.rejected
    assert (refused.pool, refused.reason) == (SMALL.pool.name, Reason.TOKENIZER)
    assert sentence(refused) == "cannot go on with tokens of qwen3-vl-8b; its own are qwen3-4b"


def test_a_request_whose_stream_is_whole_is_not_concerned() -> None:
    """Before the first byte any capable pool will do."""
    assert order(decided(None)) == [SMALL.pool.name, L4.pool.name, T4.pool.name]


def test_engines_that_take_no_token_ids_go_on_from_the_text() -> None:
    """Only vLLM's completions are known to begin behind token ids."""
    continues = Continues(T4.pool.model.tokenizer, by_text=True)
    assert shares_tokens(continues, T4.pool)
    assert not shares_tokens(continues, replace(T4.pool, engine="other"))
    assert not shares_tokens(Continues(None, by_text=True), T4.pool)
