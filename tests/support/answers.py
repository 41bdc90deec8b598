"""Past answers for tests of prediction: programs whose answers follow their prompts, and a ledger that holds them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from policies.predict.question import Question
from pricing.clock import US_PER_S
from pricing.ledger.rows import RequestRow
from router.learning.examples import Sample
from support.money import request
from support.shared_ledger import fill_file

BEGIN_US = 1_767_225_600_000_000  # 2026-01-01


def sample(number: int, question: Question, tokens: int) -> Sample:
    """Asked for a second after the one before; 20 ms a token."""
    at_us = BEGIN_US + number * US_PER_S
    return Sample(question, tokens, at_us, at_us + 20_000 * tokens)


def predictable(count: int, seed: int = 0) -> list[Sample]:
    """Answers that follow from what is asked in a way that no quantile of the past can know: as long as the prompt's
    remainder by 400, and a tenth of that with a schema.
    """
    source = random.Random(seed)
    samples = []
    for number in range(count):
        prompt = source.randrange(400, 2_000)
        schema = source.random() < 0.5
        length = (prompt % 400) * (0.1 if schema else 1.0) * source.uniform(0.9, 1.1)
        features = frozenset({"json_schema"}) if schema else frozenset[str]()
        question = Question(f"t{number % 3}", "chat", prompt, source.choice([None, 512]), features, number % 2 == 0)
        samples.append(sample(number, question, round(length) + 1))
    return samples


def changing(count: int, seed: int = 0) -> list[Sample]:
    """Lengths that nothing about the request tells, and that are eight times as long in the last fifth."""
    source = random.Random(seed)
    return [
        sample(
            number,
            Question("acme", "chat", source.randrange(1, 4_000)),
            round(source.lognormvariate(4, 1) * (8 if number >= 0.8 * count else 1)),
        )
        for number in range(count)
    ]


def write_ledger(path: Path, samples: Sequence[Sample]) -> None:
    """A ledger file that holds the samples as served requests, with two answers each where the number is even."""
    fill_file(path, (), [_row(number, each) for number, each in enumerate(samples)])


def _row(number: int, answered: Sample) -> RequestRow:
    sequences = 2 - number % 2
    return request(
        f"r{number}",
        answered.question.tenant,
        at_us=answered.at_us,
        duration_us=answered.known_us - answered.at_us,
        request_class=answered.question.request_class,
        prompt_tokens=answered.question.prompt_tokens,
        completion_tokens=answered.tokens * sequences,
        sequences=sequences,
        max_tokens=answered.question.max_tokens,
        features=tuple(sorted(answered.question.features)),
        stream=answered.question.stream,
    )
