"""A small model of output tokens, by hand."""

from __future__ import annotations

from math import log

from policies.predict.features import FEATURES
from policies.predict.model_file import FORMAT, ForestShape, Held, Judged, ModelFile, Split, signed

PROMPT = 1_000
"""Prompts up to here get what history expects, longer ones more."""


def small_model(trained_at_us: int = 1_767_225_600_000_000, times: float = 3.0) -> ModelFile:
    """`times` is how much more, at the median."""
    tree = Split(FEATURES.index("prompt_tokens"), float(PROMPT), -1.0, log(times) - 1.0)
    return signed(
        ModelFile(
            format=FORMAT,
            version="",
            trained_at_us=trained_at_us,
            from_us=1,
            until_us=2,
            trained=800,
            tested=200,
            features=FEATURES,
            classes=("chat",),
            judged=(Judged("model", 0.5, 3.0, 0.5),),
            held=(Held("model", 0.1, 3),),
            forests=(ForestShape(0.5, 1.0, [tree]), ForestShape(0.9, 1.0, [-1.0])),
        )
    )
