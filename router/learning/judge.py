"""How predictors do on answers they have not seen: pinball loss, calibration, and the money that sits in holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, expm1, floor
from typing import Final

from policies.predict.model_file import Held, Judged
from policies.predict.prior import prior_logs
from policies.predict.question import QUANTILES
from pricing.clock import US_PER_S
from router.learning.examples import Example
from router.money.accounting import SHARE_MARGIN, TICKS_AHEAD

Predictor = Callable[[Example], tuple[float, float]]
"""An example, whose answer it must not look at, to tokens at `QUANTILES`."""

MAX_TOKENS: Final = "max_tokens"
PRIOR: Final = "prior"
RUNNING: Final = "running quantiles"
HISTORY: Final = "history"
MODEL: Final = "model"


def baselines(output_bound: int) -> dict[str, Predictor]:
    """What a model is held against. `output_bound` is counted where a client gave no `max_tokens`."""

    def bound(example: Example) -> tuple[float, float]:
        tokens = float(example.sample.question.max_tokens or output_bound)
        return tokens, tokens

    return {MAX_TOKENS: bound, PRIOR: _prior, RUNNING: _running, HISTORY: history}


def _prior(example: Example) -> tuple[float, float]:
    median, p90 = prior_logs(example.sample.question.prompt_tokens)
    return expm1(median), expm1(p90)


def _running(example: Example) -> tuple[float, float]:
    """Quantiles of the tenant's last answers in the class; the prior before the first of them."""
    return (example.seen.median, example.seen.p90) if example.seen.answers else _prior(example)


def history(example: Example) -> tuple[float, float]:
    """What `output_tokens: history` expects."""
    median, p90 = example.seen.expected_logs
    return expm1(median), expm1(max(p90, median))


@dataclass(frozen=True, slots=True)
class Service:
    """What an answer takes and costs where money in holds is compared: seconds to its first token and for each, and
    dollars an hour of the share that it has of a container.
    """

    first_token_s: float = 0.3
    token_s: float = 0.02
    usd_per_hour: float = 2.0
    tick_s: float = 1.0

    def seconds(self, tokens: float) -> float:
        return self.first_token_s + tokens * self.token_s


def bounded(tokens: float, example: Example, output_bound: int) -> float:
    """A prediction as it is used: from one token to the bound."""
    return max(1.0, min(tokens, float(example.sample.question.max_tokens or output_bound)))


def judged(predictors: Mapping[str, Predictor], examples: Sequence[Example], output_bound: int) -> list[Judged]:
    """Each predictor at each quantile."""
    return [row for name, predict in predictors.items() for row in _judged(name, predict, examples, output_bound)]


def _judged(name: str, predict: Predictor, examples: Sequence[Example], output_bound: int) -> list[Judged]:
    losses = [0.0] * len(QUANTILES)
    covered = [0] * len(QUANTILES)
    for example in examples:
        for place, tokens in enumerate(predict(example)):
            expected = bounded(tokens, example, output_bound)
            losses[place] += pinball(example.sample.tokens, expected, QUANTILES[place])
            covered[place] += example.sample.tokens <= round(expected)
    count = len(examples)
    return [
        Judged(name, quantile, losses[place] / count, covered[place] / count)
        for place, quantile in enumerate(QUANTILES)
    ]


def pinball(tokens: float, expected: float, quantile: float) -> float:
    """The loss whose mean is least at the quantile: `quantile` for each token too few, the rest for each too many."""
    return max(quantile * (tokens - expected), (1 - quantile) * (expected - tokens))


def held(
    predictors: Mapping[str, Predictor], examples: Sequence[Example], output_bound: int, service: Service
) -> list[Held]:
    """The money that each predictor's holds set aside, on average over the time from the first request to the last."""
    begin_us = min(example.sample.at_us for example in examples)
    end_us = max(example.sample.at_us for example in examples)
    span_s = max((end_us - begin_us) / US_PER_S, service.tick_s)
    rows = []
    for name, predict in predictors.items():
        usd_seconds, extensions = 0.0, 0
        for example in examples:
            expected_s = service.seconds(bounded(predict(example)[0], example, output_bound))
            area, grown = hold_of(expected_s, service.seconds(example.sample.tokens), service.tick_s)
            usd_seconds += area * service.usd_per_hour / 3600
            extensions += grown
        rows.append(Held(name, usd_seconds / span_s, extensions))
    return rows


def hold_of(expected_s: float, served_s: float, tick_s: float) -> tuple[float, int]:
    """A hold's life in units of the share's rate: its amount × seconds, and how often it grew.

    As `router.money.accounting` does it: at first what is expected and at least two ticks, then at each tick what
    accrued and two ticks at twice the share, where that is more.
    """
    first = max(expected_s, TICKS_AHEAD * tick_s)
    ahead_s = SHARE_MARGIN * TICKS_AHEAD * tick_s
    ticks = max(0, ceil(served_s / tick_s) - 1)  # that pass before the answer is complete
    grows_from = max(1, floor((first - ahead_s) / tick_s) + 1)  # the first tick at which more accrued than is held
    grown = max(0, ticks - grows_from + 1)
    if not grown:
        return first * served_s, 0
    before_last = grown - 1
    sizes = before_last * ahead_s + tick_s * before_last * (grows_from + ticks - 1) / 2
    last = ticks * tick_s + ahead_s
    return (first * grows_from + sizes) * tick_s + last * (served_s - ticks * tick_s), grown
