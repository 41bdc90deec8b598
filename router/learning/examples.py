"""Past answers as a model learns from them: each with what was known when it was asked for, and nothing later."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import msgspec

from policies.predict.history import OutputHistory, Seen
from policies.predict.past import question_of
from policies.predict.question import Question
from pricing.ledger.answers import PastAnswer


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One answer. `tokens` it had, of one sequence; it was asked for at `at_us` and known from `known_us` on."""

    question: Question
    tokens: int
    at_us: int
    known_us: int


class Example(msgspec.Struct, frozen=True, gc=False):
    """A sample with what had been seen by then."""

    sample: Sample
    seen: Seen


def sample_of(answer: PastAnswer) -> Sample:
    return Sample(question_of(answer), answer.tokens_each, answer.at_us, answer.ended_us)


def replayed(samples: Iterable[Sample]) -> list[Example]:
    """The samples in the order of their asking, through the very code that serves: a history that is empty at first,
    asked before each request and taught when each answer was complete.
    """
    history = OutputHistory()
    running: list[tuple[int, int, Sample]] = []
    examples = []
    for number, sample in enumerate(sorted(samples, key=lambda each: each.at_us)):
        while running and running[0][0] <= sample.at_us:
            ended = heapq.heappop(running)[2]
            history.add(ended.question, ended.tokens)
        examples.append(Example(sample, history.seen(sample.question)))
        heapq.heappush(running, (sample.known_us, number, sample))
    return examples
