"""What the simulated engine makes of a request, and of an order to fail."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.simulator.bill import Phase, PhaseClock, PoolBill
from pools.simulator.faults import BadFault, Fault, FaultKind, Faults, parse_fault
from pools.simulator.request import parse_chat, parse_completion
from support.simulated import SPEC

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


def test_a_replayed_length_comes_out() -> None:
    """`sim_output_tokens` sets the answer's length; the client's own bound still cuts it."""
    free = parse_chat(SPEC, ASK | {"sim_output_tokens": 33})
    cut = parse_chat(SPEC, ASK | {"sim_output_tokens": 33, "max_tokens": 20})
    assert (len(free.outputs[0].ids), free.outputs[0].finish_reason) == (33, "stop")
    assert (len(cut.outputs[0].ids), cut.outputs[0].finish_reason) == (20, "length")


def test_max_completion_tokens_is_the_newer_name() -> None:
    """Chat takes `max_completion_tokens` as well, and it wins."""
    request = parse_chat(SPEC, ASK | {"max_completion_tokens": 3, "max_tokens": 9, "ignore_eos": True})
    assert len(request.outputs[0].ids) == 3


def test_completions_end_early_unless_asked() -> None:
    """Without max_tokens a completion has 16 tokens at most, a chat all the room there is."""
    assert parse_completion(SPEC, {"prompt": "hello", "ignore_eos": True}).max_tokens == 16
    chat = parse_chat(SPEC, ASK)
    assert chat.max_tokens == SPEC.max_model_len - chat.prompt_tokens


def test_a_fault_counts_down() -> None:
    """`count` requests are hit, those that are large enough only, and then no more."""
    faults = Faults(random.Random(1))
    faults.add(parse_fault({"kind": "hang", "count": 2, "min_total_tokens": 100}))
    hits = [faults.take(size, False) is not None for size in (99, 100, 5000, 5000)]
    assert hits == [False, True, True, False]


def test_a_rate_hits_its_share() -> None:
    """A rate of 0.3 hits about three in ten, for as long as it stands."""
    faults = Faults(random.Random(1))
    faults.add(parse_fault({"kind": "overload", "rate": 0.3}))
    hits = sum(faults.take(10, True) is not None for _ in range(2000))
    assert 520 < hits < 680


def test_an_order_can_be_for_streams_only() -> None:
    """With `only_streams` a request that is not streamed passes by."""
    faults = Faults(random.Random(1))
    faults.add(parse_fault({"kind": "stall", "only_streams": True}))
    assert faults.take(10, False) is None
    assert faults.take(10, True) is not None


def test_orders_are_served_oldest_first() -> None:
    """Two orders that both fit hit one request each."""
    faults = Faults(random.Random(1))
    faults.add(Fault(FaultKind.HANG))
    faults.add(Fault(FaultKind.REFUSE))
    taken = [faults.take(10, True), faults.take(10, True)]
    assert [fault.kind for fault in taken if fault] == [FaultKind.HANG, FaultKind.REFUSE]


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ([], "a fault is a JSON object"),
        ({"kind": "hang", "cuont": 1}, "unknown key 'cuont'"),
        ({"kind": "flood"}, "'kind' is one of"),
        ({"kind": "hang", "rate": 2}, "share from 0 to 1"),
        ({"kind": "hang", "rate": 0.5, "count": 1}, "not both"),
        ({"kind": "hang", "count": 0}, "whole number from 1 up"),
        ({"kind": "slow", "factor": 1}, "whole number from 2 up"),
    ],
)
def test_wrong_orders_are_explained(order: object, says: str) -> None:
    """Each mistake names the key and what it takes."""
    with pytest.raises(BadFault, match=says):
        parse_fault(order)


@given(st.lists(st.tuples(st.sampled_from(Phase), st.integers(0, 10**9)), max_size=20), st.integers(0, 10**9))
def test_phases_add_up_to_the_microsecond(moves: list[tuple[Phase, int]], rest_us: int) -> None:
    """However a container changes phase, its phases sum to its life."""
    clock = PhaseClock(1000)
    now_us = 1000
    for phase, gap_us in moves:
        now_us += gap_us
        clock.move(phase, now_us)
    bill = PoolBill(rate_nusd_per_h=3_600_000_000)
    bill.add(clock, now_us + rest_us)
    assert bill.alive_us == now_us + rest_us - 1000
    assert bill.billed_nusd == bill.alive_us
