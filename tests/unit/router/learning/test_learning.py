"""Training: what an example may know, which model is chosen, how it is judged, and when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.predict.model import compile_model
from policies.predict.model_file import version_of
from policies.predict.question import Question
from pricing.clock import US_PER_S
from pricing.errors import FileProblem
from router.learning.examples import Sample, replayed
from router.learning.judge import HISTORY, MAX_TOKENS, MODEL, PRIOR, RUNNING, Service, held, hold_of, pinball
from router.learning.trace import read_trace
from router.learning.train import NothingToLearn, TooFewAnswers, Trained, served_by, train
from router.money.accounting import SHARE_MARGIN, TICKS_AHEAD
from support.answers import BEGIN_US, changing, predictable, sample
from support.values import replace

SERVICE = Service()
LATER_US = BEGIN_US + 10**12


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(predictable(3_000), LATER_US, 1_024, SERVICE)


def loss(trained: Trained, predictor: str, quantile: float = 0.5) -> float:
    (score,) = (one for one in trained.file.judged if (one.predictor, one.quantile) == (predictor, quantile))
    return score.pinball


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(0, 500)), max_size=40))
def test_an_example_knows_only_what_had_ended_before_it(answers: list[tuple[int, int, int]]) -> None:
    """However requests overlap, what was seen counts exactly the answers that were complete when it was asked."""
    samples = [
        Sample(Question("t", "chat", 500), tokens, at, at + lasting)
        for number, (at, lasting, tokens) in enumerate(answers)
    ]
    for example in replayed(samples):
        at_us = example.sample.at_us
        ended = [each for each in samples if each.known_us <= at_us and each.at_us < at_us]
        together = [each for each in samples if each.at_us == each.known_us == at_us]
        assert len(ended) <= example.seen.answers <= len(ended) + len(together)


def test_a_model_beats_history_where_the_request_tells_the_answer(trained: Trained) -> None:
    """On answers that follow from prompt and schema, every baseline loses, and about nine in ten are below the p90."""
    assert trained.not_beaten is None
    assert loss(trained, MODEL) < 0.5 * min(loss(trained, name) for name in (MAX_TOKENS, PRIOR, RUNNING, HISTORY))
    (share,) = (one.share for one in trained.file.judged if (one.predictor, one.quantile) == (MODEL, 0.9))
    assert 0.8 < share < 0.97


def test_what_is_written_is_what_was_tested(trained: Trained) -> None:
    """The forests of the file, asked again, give the loss that it states; the test is the last fifth of the answers."""
    file = trained.file
    assert (file.trained, file.tested, file.trained_at_us) == (2_400, 600, LATER_US)
    assert file.version == version_of(file)
    test = replayed(predictable(3_000))[2_400:]
    assert file.until_us < test[0].sample.at_us
    predict = served_by(compile_model(file))
    again = sum(pinball(one.sample.tokens, max(1.0, predict(one)[0]), 0.5) for one in test) / len(test)
    assert again == pytest.approx(loss(trained, MODEL), rel=0.02)  # here without the bounds of requests


def test_a_model_that_traffic_has_left_behind_is_not_written() -> None:
    """Where answers become much longer after the training, history follows them, the model does not, and loses."""
    assert train(changing(2_000), LATER_US, 4_096, SERVICE).not_beaten in (RUNNING, HISTORY)


def test_too_few_answers_are_said_to_be_too_few() -> None:
    """Below a thousand there is no telling a model from luck."""
    with pytest.raises(TooFewAnswers, match="999 complete answers are too few to train on, 1,000 are needed"):
        train(predictable(999), LATER_US, 1_024, SERVICE)


def test_answers_of_one_length_are_nothing_to_learn() -> None:
    """History expects the one length already; a forest of it would be a file for nothing."""
    with pytest.raises(NothingToLearn, match=r"all 1,200 answers have 64 tokens.* write output_tokens: history"):
        train([replace(each, tokens=64) for each in predictable(1_200)], LATER_US, 1_024, SERVICE)


def test_answers_without_a_past_are_nothing_to_learn() -> None:
    """Where nothing was known when the last was asked for, as with one instant for all, there is no order in them."""
    at_once = [replace(each, at_us=BEGIN_US, known_us=BEGIN_US + 1) for each in predictable(1_200)]
    with pytest.raises(NothingToLearn, match=r"asked for before the first was complete.* train on a longer time"):
        train(at_once, LATER_US, 1_024, SERVICE)


def test_a_class_that_came_later_is_expected_from_history() -> None:
    """The test may hold a class that training has not seen; classes are ordered by their median answer."""
    samples = predictable(1_500)
    late = [
        sample(2_000 + number, Question("new", "code" if number < 100 else "late", 500), 7) for number in range(200)
    ]
    early = [sample(number, Question("t0", "short", 500), 2) for number in range(50)]
    trained = train([*early, *samples, *late], LATER_US, 1_024, SERVICE)
    assert trained.file.classes == ("short", "chat")


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.01, 0.99))
def test_the_pinball_loss_is_least_at_the_truth(tokens: float, expected: float, quantile: float) -> None:
    """It is zero there, never below, and a token too few costs as the quantile says."""
    assert pinball(tokens, tokens, quantile) == 0
    assert pinball(tokens, expected, quantile) >= 0
    assert pinball(10, 9, quantile) == pytest.approx(quantile)
    assert pinball(9, 10, quantile) == pytest.approx(1 - quantile)


def test_a_hold_grows_when_what_accrued_and_what_lies_ahead_outgrow_it() -> None:
    """By hand, in seconds of the share: expected 6, served 4.5: ticks at 1 to 4 wish 5, 6, 7, 8."""
    area, grown = hold_of(6.0, 4.5, 1.0)
    assert (area, grown) == (6.0 + 6.0 + 6.0 + 7.0 + 0.5 * 8.0, 2)
    assert hold_of(1.0, 0.5, 1.0) == (1.0, 0)  # never less than two ticks
    assert hold_of(100.0, 4.5, 1.0) == (450.0, 0)


def test_money_in_holds_is_an_average_over_the_time() -> None:
    """Two answers of 100 s each over 100 s, held at $36 an hour for what they take: $1 in each, all the time."""
    examples = replayed([sample(0, Question("t", "c", 1, 100), 100), sample(100, Question("t", "c", 1, 100), 100)])
    assert examples[1].sample.at_us - examples[0].sample.at_us == 100 * US_PER_S
    service = Service(first_token_s=0.0, token_s=1.0, usd_per_hour=36.0, tick_s=1.0)
    (row,) = held({"true": lambda example: (100.0, 100.0)}, examples, 1_000, service)
    assert row.mean_usd == pytest.approx(2.0, rel=0.01)
    assert row.extensions == 2 * 3  # the last ticks look further ahead than the answer goes


@given(st.integers(0, 80), st.integers(0, 80))
def test_a_hold_s_life_is_the_sum_of_its_ticks(expected_s: int, served_s: int) -> None:
    """The formula is what going through the answer second by second adds up to."""
    amount, area, grown, now_s = max(expected_s, 2), 0, 0, 0
    while served_s > now_s + 1:
        area, now_s = area + amount, now_s + 1
        if now_s + SHARE_MARGIN * TICKS_AHEAD > amount:
            amount, grown = now_s + SHARE_MARGIN * TICKS_AHEAD, grown + 1
    assert hold_of(expected_s, served_s, 1) == (area + amount * (served_s - now_s), grown)


def test_absurd_numbers_of_tokens_are_refused_with_their_line(tmp_path: Path) -> None:
    """A trace's line with more tokens than any answer has is named, and nothing is trained on it."""
    trace = tmp_path / "trace.csv"
    trace.write_text("t_s,who,prompt_tokens,output_tokens\n0,a,5,5\n1,a,5,99999999999999999999\n")
    with pytest.raises(FileProblem, match=r"trace\.csv:3: not seconds .* 0 to 10,000,000"):
        read_trace(trace, SERVICE)
