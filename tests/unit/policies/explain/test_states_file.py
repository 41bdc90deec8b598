"""Pool states from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.explain.states_file import StateShape, cold_and_healthy, read_states
from pools.live.state import BreakerState, PoolState
from pricing.errors import FileProblem
from support.choosing import load, shipped, write_policy

T4 = "qwen3-4b-fp16-t4"


def test_unnamed_pools_are_cold_and_healthy(tmp_path: Path) -> None:
    """A file says only what differs; YAML and JSON are both read."""
    for text in (
        f"{T4}: {{ready: 2, idle_s: 20, breaker: open}}\n",
        f'{{"{T4}": {{"ready": 2, "idle_s": 20, "breaker": "open"}}}}',
    ):
        states = read_states(write_policy(tmp_path, text), shipped())
        assert states[T4] == PoolState(ready=2, idle_s=20.0, breaker=BreakerState.OPEN)
        assert {state for name, state in states.items() if name != T4} == {PoolState()}
        assert set(states) == set(shipped().pools) == set(cold_and_healthy(shipped()))


def test_a_server_that_is_always_there_is_awake(tmp_path: Path) -> None:
    """Nobody boots it: its containers are as many as its endpoint says, unless the file of states says otherwise."""
    text = f"""\
version: 1
price_book: modal-2026-10
endpoints: {{{T4}: {{url: "http://10.0.0.5:8000", always_on: 2}}}}
classes: {{chat: {{ladder: {{premium: [{T4}]}}}}}}
"""
    policy = load(write_policy(tmp_path, text))
    assert cold_and_healthy(policy) == {T4: PoolState(ready=2)}
    assert read_states(write_policy(tmp_path, f"{T4}: {{ready: 1}}", "states.yaml"), policy) == {T4: PoolState(ready=1)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "qwen3-4b-fp16-t5: {ready: 1}\n",
            "no pool 'qwen3-4b-fp16-t5' in this policy; did you mean 'qwen3-4b-fp16-t4'?",
        ),
        (f"{T4}: {{redy: 1}}\n", "unknown key 'redy'; did you mean 'ready'?"),
        (f"{T4}: {{ready: -1}}\n", "greater than or equal to 0"),
        ("- ready\n", "write a mapping from pool to its state"),
    ],
)
def test_what_is_unknown_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    """A misspelt pool or field is not a pool that sleeps."""
    path = write_policy(tmp_path, text)
    with pytest.raises(FileProblem) as raised:
        read_states(path, shipped())
    assert raised.value.problems[0].startswith(f"{path}:1: ")
    assert said in raised.value.problems[0]


def test_every_field_of_a_state_can_be_written() -> None:
    """All but instants, since a state in a file is one of now, and what an engine says, which only shows."""
    assert set(StateShape.model_fields) == set(PoolState.__struct_fields__) - {"as_of_us", "serving_since_us", "engine"}
