"""From past answers to a model, or to why there is none.

A forest predicts how far an answer is from what history expects, so that it goes along with traffic that changes. The
answers are split by time: fitted on the first part, the second says how many trees do best, none being history itself;
so many are fitted anew on both. The third part, which nothing has looked at, is what the model is tested on, and what
is written is what was tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from policies.predict.features import FEATURES
from policies.predict.model import OutputModel, compile_model
from policies.predict.model_file import FORMAT, ForestShape, Judged, ModelFile, signed
from policies.predict.question import QUANTILES
from pricing.errors import SluiceError
from router.learning.examples import Example, Sample, replayed
from router.learning.fit import fit_forest, forest_of, losses_by_trees, ordered_classes, table_of
from router.learning.judge import HISTORY, MODEL, RUNNING, Predictor, Service, baselines, held, history, judged

FITTED: Final = 0.6  # share of the answers that trees are fitted on at first ...
CHOSEN: Final = 0.8  # ... and up to which their number is chosen; the rest is the test
ANSWERS_AT_LEAST: Final = 1_000
BETTER_BY: Final = 0.01  # of the loss: less than that is noise, and no reason for a file that ages


class TooFewAnswers(SluiceError):
    """The ledger has not enough complete answers to train and to test on."""


class NothingToLearn(SluiceError):
    """The answers are many, and yet no model could be told from a guess by them."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model with its test in it. `not_beaten` names what is as good or better without a model; None: it may serve."""

    file: ModelFile
    not_beaten: str | None


def train(samples: Sequence[Sample], now_us: int, output_bound: int, service: Service, seed: int = 0) -> Trained:
    """Raises TooFewAnswers, NothingToLearn. `output_bound` is what a client may get that gave no `max_tokens`."""
    _check(samples)
    examples = replayed(samples)
    cut = round(len(examples) * CHOSEN)
    known, test = examples[:cut], examples[cut:]
    classes = ordered_classes(known)
    forests = tuple(_forest(known, classes, quantile, seed) for quantile in QUANTILES)
    untested = ModelFile(
        format=FORMAT,
        version="",
        trained_at_us=now_us,
        from_us=known[0].sample.at_us,
        until_us=known[-1].sample.at_us,
        trained=len(known),
        tested=len(test),
        features=FEATURES,
        classes=classes,
        judged=(),
        held=(),
        forests=forests,
    )
    predictors = {**baselines(output_bound), MODEL: served_by(compile_model(untested))}
    scores = judged(predictors, test, output_bound)
    money = held(predictors, test, output_bound, service)
    return Trained(signed(replace(untested, judged=tuple(scores), held=tuple(money))), _not_beaten(scores))


def _check(samples: Sequence[Sample]) -> None:
    """Raises TooFewAnswers, NothingToLearn."""
    count = f"{len(samples):,}"
    if len(samples) < ANSWERS_AT_LEAST:
        text = f"{count} complete answers are too few to train on, {ANSWERS_AT_LEAST:,} are needed"
        raise TooFewAnswers(f"{text}; write output_tokens: history until there are more")
    lengths = {sample.tokens for sample in samples}
    if len(lengths) == 1:
        text = f"all {count} answers have {lengths.pop():,} tokens, so there is nothing to predict"
        raise NothingToLearn(f"{text}; write output_tokens: history, which will expect just that")
    if min(sample.known_us for sample in samples) > max(sample.at_us for sample in samples):
        text = f"the last of {count} answers was asked for before the first was complete: none has a past to learn from"
        raise NothingToLearn(f"{text}; train on a longer time, and see that a trace has its seconds in t_s")


def served_by(model: OutputModel) -> Predictor:
    """The model as it serves: a class it does not know is expected from history."""

    def predict(example: Example) -> tuple[float, float]:
        question = example.sample.question
        return model.tokens(question, example.seen) if model.knows(question.request_class) else history(example)

    return predict


def _forest(known: Sequence[Example], classes: tuple[str, ...], quantile: float, seed: int) -> ForestShape:
    """The number of trees that does best after the first part, fitted on everything that is known."""
    table = table_of(known, {name: number for number, name in enumerate(classes)})
    cut = round(len(known) * FITTED / CHOSEN)
    regressor = fit_forest(known[:cut], table[:cut], quantile, seed=seed)
    losses = losses_by_trees(regressor, known[cut:], table[cut:], quantile)
    trees = losses.index(min(losses))
    if trees == 0:
        return ForestShape(quantile, 0.0, [])
    return forest_of(fit_forest(known, table, quantile, seed=seed, trees=trees), quantile)


def _not_beaten(scores: Sequence[Judged]) -> str | None:
    """The best of what needs no model, where the model is not clearly better over all quantiles together."""
    losses = {
        name: sum(score.pinball for score in scores if score.predictor == name) for name in (RUNNING, HISTORY, MODEL)
    }
    best = min(RUNNING, HISTORY, key=lambda name: losses[name])
    return None if losses[MODEL] <= (1 - BETTER_BY) * losses[best] else best
