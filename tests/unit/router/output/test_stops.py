"""Stop strings across the cut: the answer reads as if no pool had broken, wherever that was."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.simulator.text import Output, cut_at_stop
from router.output.stops import Join

letters = st.lists(st.sampled_from("abc"), max_size=30)
stop_strings = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=3, unique=True).map(tuple)


def engine(text: str, stops: tuple[str, ...], included: bool) -> Output:
    """What an engine sends of a text: a token a character, kept back and stopped as vLLM does it."""
    output = Output(tuple(range(len(text))), tuple(text), "length")
    return cut_at_stop(output, stops, included=included)


@given(letters.map("".join), stop_strings, st.booleans(), st.lists(st.integers(0, 30), min_size=1, max_size=3))
def test_cuts_change_nothing(text: str, stops: tuple[str, ...], included: bool, cuts: list[int]) -> None:
    """Cut after any tokens, once or several times: what the pools send is what one would have sent, and it ends for the
    same reason.
    """
    unbroken = engine(text, stops, included)
    last = max(0, len(unbroken.ids) - 1)  # the token that ends an answer comes with its finish
    edges = [0, *sorted(min(cut, last) for cut in cuts), len(text)]
    sent, stopped_by = "", None
    for begin, end in pairwise(edges):
        join = Join(stops, sent, text[len(sent) : begin], included=included)
        pool = engine(text[begin:], stops, included)
        whole = begin + len(pool.ids) <= end
        for piece in pool.pieces[: len(pool.ids) - 1 if whole else end - begin]:
            sent += join.feed(piece)
            if join.stopped_by is not None:
                break
        else:
            if whole:
                sent += join.end(pool.pieces[-1] if pool.pieces else "", pool.stop_reason)
        stopped_by = join.stopped_by or (pool.stop_reason if whole else None)
        if stopped_by is not None:
            break
    assert (sent, stopped_by) == (unbroken.text(), unbroken.stop_reason)


@given(letters.map("".join), stop_strings, st.text("abc", max_size=6))
def test_only_what_could_belong_to_a_stop_string_is_held_back(said: str, stops: tuple[str, ...], new: str) -> None:
    """What is held back begins before the cut and is the beginning of a stop string; without one nothing is."""
    join = Join(stops, said)
    sent = join.feed(new)
    if join.stopped_by is None and sent != new:
        assert sent == ""
        reach = range(max(0, len(said) - max(map(len, stops)) + 1), len(said))
        assert any(stop.startswith(said[start:] + new) for start in reach for stop in stops)
    assert Join((), said).feed(new) == new


@pytest.mark.parametrize(
    ("said", "unsent", "included", "expected"),
    [
        ("one, ST", "", False, ""),  # its beginning went out and cannot be called back
        ("one,", " ST", False, " "),
        ("one, ST", "", True, "OP"),
    ],
)
def test_the_text_ends_where_vllm_ends_it(said: str, unsent: str, included: bool, expected: str) -> None:
    """Before the string, behind it where it is included, and never before what has gone out."""
    join = Join(("STOP",), said, unsent, included=included)
    assert join.feed("OP, two") == expected
    assert join.stopped_by == "STOP"


def test_a_string_that_lies_behind_the_cut_is_left_to_the_engine() -> None:
    """The engine that goes on looks for it, and keeps back what it has to."""
    join = Join(("ab",), "x", "")
    assert join.feed("ab") == "ab"
    assert join.stopped_by is None
