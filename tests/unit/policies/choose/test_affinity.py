"""What a session's cache is worth, and when it outweighs a cheaper pool."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

from policies.choose.affinity import KEPT_S
from policies.choose.decide import decide
from policies.choose.decision import Decision
from policies.choose.facts import CachedPrefix
from policies.explain.record import as_json
from policies.explain.table import render
from policies.policy import Objective, RequestClass
from policies.requirements import Tier
from pools.live.state import PoolState
from support.choosing import NOW_US, facts, ladder, needs, rung
from support.values import replace

L4, A10 = "qwen3-vl-8b-fp8-l4", "qwen3-vl-8b-fp8-a10"
US = 1_000_000
WARM = PoolState(ready=1, idle_s=0.0, serving_since_us=NOW_US - 3_600 * US)


def decided(
    cached: CachedPrefix | None,
    *,
    prompt: int = 16_000,
    objective: Objective = Objective.CHEAPEST,
    l4: PoolState = WARM,
    a10: PoolState = WARM,
) -> Decision:
    """One request to a class of an L4 and an A10, the L4 the cheaper when both are warm and idle."""
    pair: RequestClass = ladder(rung(L4), rung(A10), objective=objective)
    wanted = needs("chat", Tier.ECONOMY, prompt=prompt, output=50)
    return decide(facts(wanted, pair, {L4: l4, A10: a10}, cached=cached))


def left(pool: str, tokens: int = 16_000, age_s: float = 0.0) -> CachedPrefix:
    return CachedPrefix(pool, tokens, NOW_US - round(age_s * US))


def chosen(decision: Decision) -> str:
    assert decision.chosen is not None
    return decision.chosen.pool.name


def saved_s(decision: Decision, pool: str) -> float:
    return next(one.cache_saves_s for one in decision.candidates if one.pool.name == pool)


def dearer_and_cheaper(**more: Any) -> tuple[str, str]:
    """Without any cache, the second and the first choice."""
    first, second = (one.pool.name for one in decided(None, **more).candidates)
    return second, first


@pytest.mark.parametrize("objective", [Objective.CHEAPEST, Objective.FASTEST, Objective.BALANCED])
def test_a_long_conversation_stays_where_its_cache_is(objective: Objective) -> None:
    """The pool that would come second comes first once it holds the whole prompt."""
    second, _ = dearer_and_cheaper(objective=objective)
    assert chosen(decided(left(second), objective=objective)) == second


def test_the_files_order_stays_the_files_order() -> None:
    """`listed` asks for no price, so none is taken off."""
    assert chosen(decided(left(A10), objective=Objective.LISTED)) == L4


def test_a_short_conversation_goes_where_it_is_cheaper() -> None:
    """What a few tokens save is less than what the dearer pool costs more."""
    dearer, cheaper = dearer_and_cheaper(prompt=300)
    decision = decided(left(dearer, tokens=300), prompt=300)
    assert chosen(decision) == cheaper
    assert saved_s(decision, dearer) > 0


def test_it_stays_until_leaving_is_cheaper() -> None:
    """The saving fades with time: at some age the cheaper pool wins, and never again the other one after that."""
    dearer, cheaper = dearer_and_cheaper()
    picks = [chosen(decided(left(dearer, age_s=age))) for age in range(0, round(KEPT_S) + 60, 20)]
    switch = picks.index(cheaper)
    assert picks == [dearer] * switch + [cheaper] * (len(picks) - switch)


def test_the_saving_fades_to_nothing_in_five_minutes() -> None:
    """Linear: half is left after half the time, nothing after all of it; a clock that went back counts as no time."""
    whole = saved_s(decided(left(L4)), L4)
    assert saved_s(decided(left(L4, age_s=KEPT_S / 2)), L4) == pytest.approx(whole / 2)
    assert saved_s(decided(left(L4, age_s=KEPT_S)), L4) == 0
    assert saved_s(decided(left(L4, age_s=-5)), L4) == whole > 0


@pytest.mark.parametrize(
    "state",
    [PoolState(), PoolState(booting=1, boot_left_s=1.0), replace(WARM, serving_since_us=NOW_US - 9 * US)],
    ids=["asleep", "booting", "started since"],
)
def test_a_container_that_was_not_there_has_no_cache(state: PoolState) -> None:
    """Neither a pool without one, nor one that was asleep between the two turns."""
    assert saved_s(decided(left(L4, age_s=10), l4=state), L4) == 0


def test_a_container_that_was_there_has_it() -> None:
    """It has served since before the last turn ended."""
    assert saved_s(decided(left(L4, age_s=8), l4=replace(WARM, serving_since_us=NOW_US - 9 * US)), L4) > 0


def test_running_requests_take_their_memory_from_the_cache() -> None:
    """Where they hold half of the pool's memory, the cache is worth half of what it is worth beside nobody."""
    held = rung(L4).fit.kv_tokens
    half = saved_s(decided(left(L4), prompt=4_000, l4=replace(WARM, kv_tokens_in_flight=held - held // 2)), L4)
    assert half == pytest.approx(saved_s(decided(left(L4), prompt=4_000), L4) / 2, rel=0.01)


def test_no_more_is_saved_than_the_prompt_has() -> None:
    """A turn that is shorter than the one before it begins with that one's beginning only."""
    assert saved_s(decided(left(L4, 9_000), prompt=4_000), L4) == saved_s(decided(left(L4, 4_000), prompt=4_000), L4)


def test_explain_shows_the_saving_as_its_own_number() -> None:
    """Bill and seconds stay those without the cache; the table says what it saves, where there is one."""
    decision = decided(left(A10))
    [one] = [each for each in as_json(decision)["candidates"] if each["pool"] == A10]
    [plain] = [each for each in as_json(decided(None))["candidates"] if each["pool"] == A10]
    assert one["cache_saves_s"] > 0 < one["cache_saves_usd"]
    assert {**one, "cache_saves_s": 0.0, "cache_saves_usd": 0.0} == plain
    assert "its cache saves" in drawn(decision)
    assert "cache" not in drawn(decided(None))
    assert json.dumps(one)


def drawn(decision: Decision) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(render(decision))
    return capture.get()
