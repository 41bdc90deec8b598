"""Gradient-boosted quantile regression with scikit-learn, and its trees as the file keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

import numpy
from sklearn.ensemble import HistGradientBoostingRegressor

from policies.predict.features import features_of
from policies.predict.model_file import ForestShape, Split
from policies.predict.question import QUANTILES
from router.learning.examples import Example

TREES: Final = 100
LEAVES: Final = 16  # 31 measured alike, and takes twice as long to compile and to answer
DEPTH: Final = 8
ANSWERS_A_LEAF: Final = 40

Table = Any
"""A numpy array; scikit-learn has no types either."""


def ordered_classes(examples: Sequence[Example]) -> tuple[str, ...]:
    """Classes by their median answer: one threshold parts those with long answers from those with short ones."""
    lengths: dict[str, list[int]] = {}
    for example in examples:
        lengths.setdefault(example.sample.question.request_class, []).append(example.sample.tokens)
    return tuple(sorted(lengths, key=lambda name: (median(lengths[name]), name)))


def table_of(examples: Sequence[Example], classes: Mapping[str, int]) -> Table:
    """One row an example. Raises KeyError for a class that is not among `classes`."""
    return numpy.array([_row(example, classes) for example in examples], dtype=float)


def _row(example: Example, classes: Mapping[str, int]) -> tuple[float, ...]:
    question = example.sample.question
    return features_of(question, example.seen, classes[question.request_class])


def fit_forest(
    examples: Sequence[Example], table: Table, quantile: float, *, seed: int, trees: int = TREES
) -> HistGradientBoostingRegressor:
    """The logarithm of 1 + tokens over what history expected, at one quantile."""
    regressor = HistGradientBoostingRegressor(
        loss="quantile",
        quantile=quantile,
        max_iter=trees,
        max_leaf_nodes=LEAVES,
        max_depth=DEPTH,
        min_samples_leaf=ANSWERS_A_LEAF,
        early_stopping=False,
        random_state=seed,
    )
    return regressor.fit(table, numpy.log1p(_tokens(examples)) - _expected(examples, quantile))


def losses_by_trees(
    regressor: HistGradientBoostingRegressor, examples: Sequence[Example], table: Table, quantile: float
) -> list[float]:
    """Mean pinball loss in tokens of history alone, with the first tree, with the first two, and so on."""
    tokens, expected = _tokens(examples), _expected(examples, quantile)
    corrected = (_pinball(tokens, expected + logs, quantile) for logs in regressor.staged_predict(table))
    return [_pinball(tokens, expected, quantile), *corrected]


def _pinball(tokens: Table, logs: Table, quantile: float) -> float:
    short = tokens - numpy.expm1(logs)
    return float(numpy.maximum(quantile * short, (quantile - 1) * short).mean())


def _tokens(examples: Sequence[Example]) -> Table:
    return numpy.array([example.sample.tokens for example in examples], dtype=float)


def _expected(examples: Sequence[Example], quantile: float) -> Table:
    place = QUANTILES.index(quantile)
    return numpy.array([example.seen.expected_logs[place] for example in examples])


def forest_of(regressor: HistGradientBoostingRegressor, quantile: float) -> ForestShape:
    """What scikit-learn has learnt, node by node. Reads its private arrays: a test holds the sums against `predict`."""
    trees = [_tree(predictor.nodes, 0) for (predictor,) in regressor._predictors]
    return ForestShape(quantile, float(regressor._baseline_prediction.item()), trees)


def _tree(nodes: Any, place: int) -> Split | float:
    node = nodes[place]
    if node["is_leaf"]:
        return float(node["value"])
    return Split(
        int(node["feature_idx"]),
        float(node["num_threshold"]),
        _tree(nodes, node["left"]),
        _tree(nodes, node["right"]),
    )
