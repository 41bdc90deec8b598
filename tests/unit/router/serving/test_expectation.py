"""How long answers are likely to be, as the controller asks and teaches it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from policies.predict.expect import Ground, OutputTokens, Prediction
from policies.predict.question import Question
from router.serving.expectation import OutputExpectation

HISTORY = Prediction()


def ask(tenant: str = "t", prompt: int = 500, max_tokens: int | None = None) -> Question:
    return Question(tenant, "chat", prompt, max_tokens)


def median(expectation: OutputExpectation, question: Question, bound: int = 10_000) -> int:
    return expectation.outlook(HISTORY, question, bound).expected.median


def test_it_settles_at_the_median() -> None:
    """After some hundred answers the expectation is near the true median, far from the mean."""
    source = random.Random(1)
    lengths = [max(1, round(source.lognormvariate(5, 1))) for _ in range(600)]
    expectation = OutputExpectation()
    for length in lengths:
        expectation.observe(ask(), length)
    true = sorted(lengths)[300]
    assert 0.7 * true < median(expectation, ask()) < 1.4 * true


@given(st.lists(st.integers(0, 2**40), max_size=60), st.integers(1, 5_000), st.integers(0, 2**20))
def test_it_stays_between_one_token_and_the_bound(lengths: list[int], bound: int, prompt: int) -> None:
    """Whatever was observed, an answer is expected to have one token to the bound, and no p90 below its median."""
    expectation = OutputExpectation()
    for length in lengths:
        expectation.observe(ask(prompt=prompt), length)
    for prediction in (HISTORY, Prediction(OutputTokens.OFF)):
        expected = expectation.outlook(prediction, ask(prompt=prompt), bound).expected
        assert 1 <= expected.median <= expected.p90 <= bound


def test_tenants_and_classes_are_learnt_apart() -> None:
    """One tenant's long answers do not make another's expected to be long."""
    expectation = OutputExpectation()
    before = median(expectation, ask("b"))
    for _ in range(200):
        expectation.observe(ask("a"), 4_000)
    assert median(expectation, ask("b")) == before
    assert median(expectation, ask("a")) > 3_000


def test_templates_of_one_tenant_are_told_apart() -> None:
    """Where short prompts get long answers and long prompts get short ones, that is expected again."""
    expectation = OutputExpectation()
    for _ in range(50):
        expectation.observe(ask(prompt=100), 800)
        expectation.observe(ask(prompt=6_000), 20)
    assert median(expectation, ask(prompt=100)) > 500
    assert median(expectation, ask(prompt=6_000)) < 40


def test_what_it_is_drawn_from_is_said() -> None:
    """A tenant without answers gets the prior and one with answers its history, unless the policy says off."""
    expectation = OutputExpectation()
    off = Prediction(OutputTokens.OFF)
    first = expectation.outlook(HISTORY, ask(), 1_000).expected
    assert first.ground is Ground.PRIOR
    for _ in range(20):
        expectation.observe(ask(), 7)
    assert expectation.outlook(HISTORY, ask(), 1_000).expected.ground is Ground.HISTORY
    assert expectation.outlook(off, ask(), 1_000).expected == first


def test_what_runs_is_longer_than_what_is_asked_for() -> None:
    """One answer in ten is nine times as long: the median hardly sees it, yet half of the tokens are its own."""
    expectation = OutputExpectation()
    for number in range(100):
        expectation.observe(ask(), 360 if number % 10 == 0 else 40)
    assert median(expectation, ask()) < 80
    assert expectation.running("t", "chat") == 200  # half of the tokens are of answers of 360, half of answers of 40


def test_too_few_answers_say_nothing_about_those_that_run() -> None:
    """Until eight answers were seen, what runs is unknown; eight empty ones count as one token."""
    expectation = OutputExpectation()
    for number in range(8):
        assert expectation.running("t", "chat") is None, number
        expectation.observe(ask(), 0)
    assert expectation.running("t", "chat") == 1


def test_what_runs_follows_the_last_answers() -> None:
    """Answers of long ago do not count: after 128 short ones, only those are left."""
    expectation = OutputExpectation()
    for length in [2_000] * 50 + [10] * 128:
        expectation.observe(ask(), length)
    assert expectation.running("t", "chat") == 10
    assert median(expectation, ask()) == 10
