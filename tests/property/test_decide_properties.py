"""`decide` under random facts: every pool in exactly one list, sorted by the objective, none of them incapable."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.choose.decide import decide
from policies.choose.decision import FOR_ROOM, Candidate, Reason
from policies.choose.facts import CachedPrefix, Facts, PastAttempt
from policies.explain.record import as_json
from policies.explain.sentences import sentence
from policies.policy import Objective, Rung
from policies.requirements import Requirements, Tier
from pools.failures.classes import FailureClass
from pools.live.state import BreakerState, PoolState, shape_bucket
from pools.spec import Feature
from pricing.budgets.store import Room
from support.choosing import NOW_US, facts, shipped
from support.values import replace

CLASSES = sorted(shipped().classes)
POOLS = sorted(shipped().pools)
amounts = st.none() | st.integers(0, 50_000_000)
rooms = st.builds(Room, left_nusd=amounts, cap=st.just("acme/day"), lower_tier=st.booleans())
states = st.builds(
    PoolState,
    ready=st.integers(0, 3),
    booting=st.integers(0, 2),
    in_flight=st.integers(0, 70),
    kv_tokens_in_flight=st.integers(0, 100_000),
    boot_left_s=st.none() | st.floats(0, 300),
    idle_s=st.none() | st.floats(0, 600),
    breaker=st.sampled_from(BreakerState),
    breaker_retry_s=st.floats(0, 60),
    shapes_open=st.frozensets(st.integers(0, 18), max_size=2),
    features_off=st.frozensets(st.sampled_from([str(one) for one in Feature]), max_size=1),
    drained=st.booleans() | st.just(False),
    deployed=st.booleans() | st.just(True),
    serving_since_us=st.none() | st.integers(-300, 0).map(lambda s: NOW_US + s * 1_000_000),
)


@st.composite
def requests(draw: st.DrawFn) -> Requirements:
    request_class = draw(st.sampled_from(CLASSES))
    bound = draw(st.integers(1, 40_000))
    return Requirements(
        request_class=request_class,
        tier=draw(st.sampled_from(Tier)),
        prompt_tokens=draw(st.integers(0, 200_000) | st.integers(0, 4_000)),
        output_bound=bound,
        expected_output_tokens=draw(st.integers(0, bound)),
        deadline_s=draw(st.floats(0, 4_000)),
        features=draw(st.frozensets(st.sampled_from([str(one) for one in Feature]), max_size=2)),
        pinned_pool=draw(st.none() | st.none() | st.sampled_from(POOLS)),
    )


@st.composite
def all_facts(draw: st.DrawFn, failures: st.SearchStrategy[FailureClass] | None = None) -> Facts:
    wanted = draw(requests())
    request_class = replace(shipped().classes[wanted.request_class], objective=draw(st.sampled_from(Objective)))
    listed = [rung.pool.name for rung in request_class.ladder]
    past = st.builds(
        PastAttempt,
        pool=st.sampled_from(listed),
        failure=st.sampled_from(FailureClass) if failures is None else failures,
        free_kv_tokens=st.integers(0, 100_000),
        max_model_len=st.sampled_from([0, 16_384, 32_768, 153_520]),
    )
    left = st.builds(
        CachedPrefix,
        pool=st.sampled_from(listed),
        tokens=st.integers(0, 200_000),
        used_us=st.integers(-400, 1).map(lambda s: NOW_US + s * 1_000_000),
    )
    every = {name: draw(states) if name in listed else PoolState() for name in POOLS}
    return facts(
        wanted,
        request_class,
        every,
        room=draw(rooms),
        pool_rooms=draw(st.dictionaries(st.sampled_from(listed), rooms, max_size=2)),
        chain_left_nusd=draw(amounts),
        past=draw(st.lists(past, max_size=3)),
        cached=draw(st.none() | left),
    )


def incapable(given_facts: Facts, candidate: Candidate, tier: Tier) -> str | None:
    """Judge one candidate from the facts alone, in words of its own. None: it can serve."""
    needs, pool = given_facts.requirements, candidate.pool
    state = given_facts.states[pool.name]
    rung: Rung = next(one for one in given_facts.request_class.ladder if one.pool.name == pool.name)
    total = needs.prompt_tokens + needs.output_bound
    rows = {
        "tier": needs.pinned_pool is None and rung.tier.rank < tier.rank,
        "pin": needs.pinned_pool not in (None, pool.name),
        "out": state.drained or not state.deployed or state.breaker is BreakerState.OPEN,
        "feature": not needs.features <= (pool.features - state.features_off),
        "context": pool.max_model_len > 0 and total > pool.max_model_len,
        "memory": rung.fit.kv_tokens > 0 and total > rung.fit.kv_tokens,
        "shape": shape_bucket(total) in state.shapes_open,
        "full": state.in_flight >= pool.max_concurrency * max(1, state.ready + state.booting),
        "late": candidate.wait_s + candidate.ttft_s > needs.deadline_s,
        "money": any(
            room.left_nusd is not None and candidate.expected_charge_nusd > room.left_nusd
            for room in (given_facts.room, given_facts.pool_rooms.get(pool.name, given_facts.room))
        ),
        "chain": given_facts.chain_left_nusd is not None
        and candidate.expected_charge_nusd + candidate.boot_nusd > given_facts.chain_left_nusd,
    }
    return next((name for name, wrong in rows.items() if wrong), None)


@given(all_facts())
@settings(max_examples=150)
def test_every_pool_is_in_exactly_one_list(given_facts: Facts) -> None:
    """Candidates and rejected together are the configured pools, each once."""
    decision = decide(given_facts)
    names = [one.pool.name for one in decision.candidates] + [one.pool for one in decision.rejected]
    assert sorted(names) == sorted(given_facts.states)


@given(all_facts())
@settings(max_examples=150)
def test_candidates_are_capable_and_sorted(given_facts: Facts) -> None:
    """No candidate breaks a rule, and they stand in the objective's order (after a failure, behind its preference)."""
    decision = decide(given_facts)
    assert [incapable(given_facts, one, decision.tier) for one in decision.candidates] == [None] * len(
        decision.candidates
    )
    keys = [(one.preference, one.score) for one in decision.candidates]
    assert keys == sorted(keys)
    if not given_facts.past:
        assert {one.preference for one in decision.candidates} <= {0}
    bills = [one.expected_bill_nusd - one.cache_saves_nusd for one in decision.candidates]
    if given_facts.request_class.objective is Objective.CHEAPEST and not given_facts.past:
        assert bills == sorted(bills)


@given(all_facts())
@settings(max_examples=150)
def test_a_cache_makes_no_pool_capable(given_facts: Facts) -> None:
    """Who can serve, what is refused and every other number are as without it; only the order may differ."""
    cached, without = decide(given_facts), decide(replace(given_facts, cached=None))
    plain = [replace(one, score=0.0, cache_saves_s=0.0, cache_saves_nusd=0) for one in cached.candidates]
    assert sorted(plain, key=by_name) == sorted((replace(one, score=0.0) for one in without.candidates), key=by_name)
    assert (cached.rejected, cached.warm, cached.warm_s) == (without.rejected, without.warm, without.warm_s)


def by_name(candidate: Candidate) -> str:
    return candidate.pool.name


@given(all_facts())
@settings(max_examples=150)
def test_a_cache_saves_no_more_than_its_prefill(given_facts: Facts) -> None:
    """Only where it is, only where a container is warm, and in time and money at most the prefill of its tokens."""
    cached = given_facts.cached
    for one in decide(given_facts).candidates:
        rung = next(each for each in given_facts.request_class.ladder if each.pool == one.pool)
        if cached is None or cached.pool != one.pool.name or one.cold:
            assert (one.cache_saves_s, one.cache_saves_nusd) == (0.0, 0)
            continue
        tokens = min(cached.tokens, given_facts.requirements.prompt_tokens)
        prefill_s = rung.timing.estimate(tokens, 0, 0).ttft_s
        assert 0 <= one.cache_saves_s <= prefill_s
        assert one.cache_saves_s <= rung.timing.estimate(given_facts.requirements.prompt_tokens, 0, 0).ttft_s
        assert 0 <= one.cache_saves_nusd <= rung.rate.nusd_per_h * one.cache_saves_s / 3_600 + 1_000
        assert one.cache_saves_nusd <= one.expected_bill_nusd


@given(all_facts())
@settings(max_examples=100)
def test_every_rejection_has_its_numbers_and_a_sentence(given_facts: Facts) -> None:
    """Each reason comes with numbers, and they make a sentence and flat JSON."""
    decision = decide(given_facts)
    for one in decision.rejected:
        assert one.numbers
        assert sentence(one)
    for row in as_json(decision)["rejected"]:
        assert all(isinstance(value, str | int | float) for value in row.values())


@given(all_facts())
@settings(max_examples=100)
def test_the_same_facts_make_the_same_decision(given_facts: Facts) -> None:
    """`decide` is a function of its facts."""
    assert decide(given_facts) == decide(given_facts)


@given(all_facts())
@settings(max_examples=100)
def test_a_pool_is_warmed_only_where_nothing_else_serves(given_facts: Facts) -> None:
    """`warm` is set only without candidates, and names a cold pool that only the deadline ruled out."""
    decision = decide(given_facts)
    if decision.warm is None:
        return
    assert decision.candidates == ()
    assert given_facts.states[decision.warm].ready == 0
    assert next(one.reason for one in decision.rejected if one.pool == decision.warm) is Reason.DEADLINE


@given(all_facts(), st.data())
@settings(max_examples=150)
def test_only_full_pools_are_waited_in_line_for(given_facts: Facts, data: st.DataObject) -> None:
    """Nobody who is served at once waits; lines are of pools that refuse just now, a boot comes before a broken one."""
    listed = st.sampled_from(sorted(given_facts.request_class.listed))
    ahead = data.draw(st.dictionaries(listed, st.integers(1, 500), max_size=3))
    decision = decide(replace(given_facts, ahead=ahead, in_line=tuple(data.draw(st.sets(listed, max_size=3)))))
    reasons = {one.pool: one.reason for one in decision.rejected}
    allowed = FOR_ROOM if decision.chosen else FOR_ROOM | {Reason.BREAKER}
    assert {reasons[pool] for pool in decision.lines} <= allowed
    assert all(before == ahead.get(pool, 0) for pool, before in decision.lines.items())
    if decision.chosen is not None and decision.chosen.wait_s <= 0:
        assert (decision.line, dict(decision.lines)) == (None, {})
    if decision.line is not None:
        assert decision.line.pool.name in decision.lines
        assert decision.line.wait_s > 0
        assert decision.chosen is None or decision.line.wait_s < decision.chosen.wait_s


@given(all_facts(failures=st.just(FailureClass.OUT_OF_MEMORY)), st.integers(1, 12))
@settings(max_examples=100)
def test_no_request_meets_a_shape_twice_after_out_of_memory(given_facts: Facts, attempts: int) -> None:
    """A chain that runs out of memory wherever it goes never tries a pool twice, and ends."""
    tried = [past.pool for past in given_facts.past]
    past = list(given_facts.past)
    for _ in range(attempts):
        chosen = decide(replace(given_facts, past=tuple(past))).chosen
        if chosen is None:
            break
        assert chosen.pool.name not in tried
        tried.append(chosen.pool.name)
        past.append(PastAttempt(chosen.pool.name, FailureClass.OUT_OF_MEMORY))
    assert len(set(tried)) <= len(given_facts.request_class.ladder)


@given(all_facts(), st.lists(st.sampled_from(FailureClass), min_size=30, max_size=30))
@settings(max_examples=60)
def test_every_chain_ends(given_facts: Facts, failures: list[FailureClass]) -> None:
    """Whatever fails, and however often, candidates run out: no pool is tried a third time."""
    past: list[PastAttempt] = []
    for failure in failures:
        chosen = decide(replace(given_facts, past=tuple(past))).chosen
        if chosen is None:
            break
        past.append(PastAttempt(chosen.pool.name, failure))
    tries = [one.pool for one in past]
    assert all(tries.count(pool) <= 2 for pool in tries)
