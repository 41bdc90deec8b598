"""A model's compiled code says what its trees say, and what scikit-learn says, to the last bit."""

from __future__ import annotations

import random
from math import inf, nextafter

import numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor

from policies.predict.compiled import compile_forest
from policies.predict.features import FEATURES
from policies.predict.model_file import ForestShape, Split
from router.learning.fit import forest_of

WIDTH = len(FEATURES)
numbers = st.floats(allow_nan=False, allow_infinity=False)
trees: st.SearchStrategy[Split | float] = st.recursive(
    numbers, lambda below: st.builds(Split, st.integers(0, WIDTH - 1), numbers, below, below), max_leaves=20
)
rows = st.tuples(*[numbers] * WIDTH)


def walk(tree: Split | float, features: tuple[float, ...]) -> float:
    while isinstance(tree, Split):
        tree = tree.left if features[tree.feature] <= tree.threshold else tree.right
    return tree


@given(st.lists(trees, max_size=25), numbers, rows)
def test_compiled_forests_add_up_their_trees(
    forest: list[Split | float], baseline: float, row: tuple[float, ...]
) -> None:
    """Any trees, any numbers: the code's sum is that of a walk through each tree, in order."""
    total = baseline
    for tree in forest:
        total += walk(tree, row)
    got = compile_forest(ForestShape(0.5, baseline, forest))(row)
    assert repr(got) == repr(total)  # infinities of huge numbers, and not-a-number from those, are equal too


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.9]), st.booleans())
def test_compiled_forests_equal_scikit_learn(seed: int, quantile: float, whole: bool) -> None:
    """Trained on random tables, asked at random rows and exactly at and beside every threshold: equal to `predict`."""
    source = random.Random(seed)
    draw = (lambda: float(source.randrange(-1, 40))) if whole else (lambda: source.lognormvariate(3, 2))
    table = [[draw() for _ in range(WIDTH)] for _ in range(300)]
    wanted = [row[0] * 0.1 + row[3] + source.gauss(0, 1) for row in table]
    regressor = HistGradientBoostingRegressor(
        loss="quantile", quantile=quantile, max_iter=15, max_leaf_nodes=8, min_samples_leaf=5, early_stopping=False
    ).fit(numpy.array(table), wanted)
    forest = forest_of(regressor, quantile)
    asked = [[draw() for _ in range(WIDTH)] for _ in range(30)]
    for tree in forest.trees:
        for place, (feature, threshold) in enumerate(splits(tree)):
            row = list(asked[place % 30])
            row[feature] = source.choice([threshold, nextafter(threshold, inf), nextafter(threshold, -inf)])
            asked.append(row)
    score = compile_forest(forest)
    assert [score(tuple(row)) for row in asked] == list(regressor.predict(numpy.array(asked)))


def splits(tree: Split | float) -> list[tuple[int, float]]:
    if not isinstance(tree, Split):
        return []
    return [(tree.feature, tree.threshold), *splits(tree.left), *splits(tree.right)]
