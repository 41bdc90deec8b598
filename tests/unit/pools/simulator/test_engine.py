"""The batching engine on its own clock: what shares a step, what waits, what is given back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.simulator.engine import Engine, EngineSettings, Sequence
from pools.simulator.roofline import Deviation, profile_of
from support.simulated import SPEC
from support.values import replace

PROFILE = profile_of(SPEC, Deviation())
FAR_US = 10**12


def run(engine: Engine, sequences: list[Sequence]) -> list[Sequence]:
    """Start all at 0 and let them end, in the order in which they do."""
    for sequence in sequences:
        engine.add(sequence, 0)
    return engine.advance(FAR_US)


def ended_us(sequence: Sequence) -> int:
    assert sequence.ended_us is not None
    return sequence.ended_us


def test_two_at_once_take_less_than_twice_one() -> None:
    """Weights are read once a step for both: decoding together costs far less than one after the other."""
    alone, first, second = (Sequence(100, 200) for _ in range(3))
    run(Engine(PROFILE, EngineSettings()), [alone])
    run(Engine(PROFILE, EngineSettings()), [first, second])
    assert ended_us(first) < ended_us(second) < 1.2 * ended_us(alone)


def test_one_request_takes_what_the_roofline_says() -> None:
    """A prefill step and then one step for each further token, the KV cache growing by one token each."""
    sequence = Sequence(100, 50)
    run(Engine(PROFILE, EngineSettings()), [sequence])
    prefill_us = PROFILE.step_us(0, 100, 100, 100 * 50)
    assert ended_us(sequence) == prefill_us + sum(PROFILE.step_us(1, 101 + step, 0, 0) for step in range(49))


def test_a_full_cache_makes_the_next_wait() -> None:
    """With KV cache for one prompt only, the second request starts when the first has ended."""
    first, second = Sequence(400, 50), Sequence(400, 50)
    run(Engine(PROFILE, EngineSettings(kv_tokens=500)), [first, second])
    assert ended_us(second) > 1.9 * ended_us(first)


def test_no_more_run_than_max_num_seqs() -> None:
    """Above max_num_seqs requests wait, and the count shows."""
    engine = Engine(PROFILE, EngineSettings(max_num_seqs=2))
    for _ in range(5):
        engine.add(Sequence(10, 10), 0)
    engine.advance(3 * PROFILE.step_us(0, 0, 20, 200))
    assert (engine.running, engine.waiting) == (2, 3)


def test_when_the_cache_runs_full_the_youngest_is_computed_again() -> None:
    """Preemption costs time, loses no token and is counted."""
    engine = Engine(PROFILE, EngineSettings(kv_tokens=300))
    elder, younger = Sequence(100, 120), Sequence(100, 120)
    order = run(engine, [elder, younger])
    assert engine.preemptions == 1
    assert order == [elder, younger]
    assert engine.produced(younger) == 120
    assert engine.kv_used == 0


def test_a_long_prompt_is_prefilled_in_chunks() -> None:
    """A prompt of three token budgets takes three steps to its first token."""
    engine = Engine(PROFILE, EngineSettings(max_num_batched_tokens=100))
    sequence = Sequence(300, 10)
    engine.add(sequence, 0)
    ends = []
    while not engine.produced(sequence):
        ends.append(engine.next_milestone_us())
        engine.advance(ends[-1] or 0)
    assert len(ends) == 3


def test_who_leaves_gives_slot_and_cache_back() -> None:
    """Removing a waiting, a prefilling and a decoding sequence leaves nothing behind."""
    engine = Engine(PROFILE, EngineSettings(max_num_seqs=2, max_num_batched_tokens=50))
    decoding, prefilling, waiting = Sequence(10, 100), Sequence(500, 10), Sequence(10, 10)
    for sequence in (decoding, prefilling, waiting):
        engine.add(sequence, 0)
    engine.advance(2 * PROFILE.step_us(0, 0, 50, 0))
    for sequence in (decoding, prefilling, waiting):
        engine.remove(sequence)
    assert (engine.running, engine.waiting, engine.kv_used) == (0, 0, 0)
    assert engine.advance(FAR_US) == []
    assert engine.next_milestone_us() is None


def test_a_fatal_sequence_kills_the_engine_at_that_instant() -> None:
    """Nothing moves after the death, however late one looks."""
    engine = Engine(PROFILE, EngineSettings())
    victim = Sequence(10, 100)
    engine.add(victim, 0)
    engine.add(Sequence(10, 5, fatal=True), 0)
    engine.advance(FAR_US)
    assert engine.dead
    assert engine.produced(victim) < 7
    assert victim.ended_us is None


def test_state_of_linear_attention_takes_cache() -> None:
    """A model with a fixed state for each sequence holds fewer of them."""
    profile = replace(PROFILE, state_tokens=200)
    engine = Engine(profile, EngineSettings(kv_tokens=500))
    for _ in range(2):
        engine.add(Sequence(100, 10), 0)
    engine.advance(profile.step_us(0, 0, 100, 5000))
    assert (engine.running, engine.waiting) == (1, 1)


SIZES = st.tuples(st.integers(1, 300), st.integers(1, 60), st.integers(1, 3), st.integers(0, 3_000_000))


@given(st.lists(SIZES, min_size=1, max_size=12), st.integers(400, 2000), st.integers(1, 8))
def test_every_sequence_ends_with_all_its_tokens(
    sizes: list[tuple[int, int, int, int]], kv_tokens: int, max_num_seqs: int
) -> None:
    """Whatever arrives when: all end, in time order, with their tokens, and the cache is empty afterwards."""
    engine = Engine(PROFILE, EngineSettings(max_num_seqs=max_num_seqs, max_num_batched_tokens=256, kv_tokens=kv_tokens))
    ended: list[Sequence] = []
    sequences = []
    for prompt, output, stride, at_us in sorted(sizes, key=lambda size: size[3]):
        ended += engine.advance(at_us)
        sequences.append(Sequence(prompt, output, stride))
        engine.add(sequences[-1], at_us)
    ended += engine.advance(FAR_US)
    assert sorted(map(id, ended)) == sorted(map(id, sequences))
    assert [ended_us(one) for one in ended] == sorted(ended_us(one) for one in ended)
    assert all(engine.produced(one) == one.output_tokens for one in sequences)
    assert engine.kv_used == 0


@pytest.mark.parametrize("ticks", [1, 7, 1000])
def test_how_often_one_looks_changes_nothing(ticks: int) -> None:
    """The same requests end at the same microsecond whether time moves in one leap or in many."""
    engine = Engine(PROFILE, EngineSettings())
    sequences = [Sequence(50, 40), Sequence(200, 20)]
    for sequence in sequences:
        engine.add(sequence, 0)
    for tick in range(1, ticks + 1):
        engine.advance(5_000_000 * tick // ticks)
    reference = [Sequence(50, 40), Sequence(200, 20)]
    run(Engine(PROFILE, EngineSettings()), reference)
    assert [ended_us(one) for one in sequences] == [ended_us(one) for one in reference]
