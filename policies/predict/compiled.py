"""Trees as Python code: an answer in some microseconds, where scikit-learn's `predict` on one row takes hundreds.

Each tree becomes one conditional expression, some trees one function: compiling keeps the interpreter from everything
else, here for a millisecond at a time. Only numbers of the file get into the text, by their `repr`. The values are
added in the order in which scikit-learn adds them, so that the sums are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from policies.predict.features import FEATURES
from policies.predict.model_file import ForestShape, Split

Score = Callable[[tuple[float, ...]], float]
"""Features in the order of `FEATURES` to the sum of a forest's values."""

TREES_A_FUNCTION: Final = 10
_NAMES: Final = tuple(f"x{place}" for place in range(len(FEATURES)))


def compile_forest(forest: ForestShape) -> Score:
    """The forest as a function of the features. Depth and finite numbers were checked when the file was read."""
    steps = tuple(_function(trees) for trees in _portions(forest.trees))
    baseline = forest.baseline

    def score(features: tuple[float, ...]) -> float:
        total = baseline
        for step in steps:
            total = step(total, *features)
        return total

    return score


def _portions(trees: Sequence[Split | float]) -> Iterator[Sequence[Split | float]]:
    for begin in range(0, len(trees), TREES_A_FUNCTION):
        yield trees[begin : begin + TREES_A_FUNCTION]


def _function(trees: Sequence[Split | float]) -> Callable[..., float]:
    lines = [f"def add(total, {', '.join(_NAMES)}):"]
    lines += [f"    total += {_expression(tree)}" for tree in trees]
    lines += ["    return total"]
    names: dict[str, Any] = {}
    exec(compile("\n".join(lines), "<trees>", "exec"), {"__builtins__": {}}, names)
    function: Callable[..., float] = names["add"]
    return function


def _expression(tree: Split | float) -> str:
    if not isinstance(tree, Split):
        return repr(tree)
    test = f"{_NAMES[tree.feature]} <= {tree.threshold!r}"
    return f"({_expression(tree.left)} if {test} else {_expression(tree.right)})"
