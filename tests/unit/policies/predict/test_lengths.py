"""The last answers of somebody: quantiles, forgetting, and how many are kept of whom."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.predict import history as history_module
from policies.predict.history import UNKNOWN, OutputHistory
from policies.predict.lengths import ENOUGH, LONGEST, LastLengths
from policies.predict.prior import prior_logs
from policies.predict.question import Question


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=200), st.integers(1, 40), st.floats(0, 0.999))
def test_quantiles_are_those_of_the_last_lengths(lengths: list[int], keep: int, share: float) -> None:
    """Whatever came and went, quantile and weighted mean are those of a sorted copy of the last ones."""
    last = LastLengths(keep)
    for length in lengths:
        last.add(length)
    kept = sorted(min(length, LONGEST) for length in lengths[-keep:])
    assert len(last) == len(kept)
    assert last.quantile(share) == kept[int(share * len(kept))]
    total = sum(kept)
    mean = (ceil(sum(length * length for length in kept) / total) if total else 1) if len(kept) >= ENOUGH else None
    assert last.weighted_mean() == mean


@given(st.integers(0, 10**7))
def test_the_prior_has_a_p90_above_its_median_at_every_prompt(prompt_tokens: int) -> None:
    """The shipped table and what is interpolated in it is ordered, and has no step between two prompts."""
    median, p90 = prior_logs(prompt_tokens)
    assert 0 < median < p90
    following = prior_logs(prompt_tokens + 1)
    assert abs(following[0] - median) < 0.2


def test_the_way_from_the_prior_to_what_was_seen_is_smooth() -> None:
    """Each further answer moves the expectation towards itself, none all the way."""
    history = OutputHistory()
    question = Question("t", "chat", 500)
    expected = [history.seen(question).expected_logs[0]]
    for _ in range(20):
        history.add(question, 5)
        expected.append(history.seen(question).expected_logs[0])
    assert expected == sorted(expected, reverse=True)
    assert all(before - after < 1.5 for before, after in pairwise(expected))
    assert 1.79 < expected[-1] < 2.0  # ln(1 + 5) is 1.79


def test_nothing_is_known_of_a_stranger() -> None:
    """Before its first answer, and for requests unlike all before, the numbers say unknown."""
    history = OutputHistory()
    stranger = history.seen(Question("t", "chat", 500))
    assert (stranger.answers, stranger.median, stranger.recent_median, stranger.alike) == (0, UNKNOWN, UNKNOWN, 0)
    history.add(Question("t", "chat", 500), 9)
    unlike = history.seen(Question("t", "chat", 500, max_tokens=10))
    assert (unlike.answers, unlike.median, unlike.alike, unlike.alike_median) == (1, 9, 0, UNKNOWN)


def test_who_was_not_heard_of_for_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by the number of tenants that are remembered; an answer makes its tenant the newest."""
    monkeypatch.setattr(history_module, "TENANTS_AT_MOST", 2)
    history = OutputHistory()
    for tenant in ("a", "b", "a", "c"):
        history.add(Question(tenant, "chat", 500), 9)
    assert [history.seen(Question(tenant, "chat", 500)).answers for tenant in "abc"] == [2, 0, 1]
