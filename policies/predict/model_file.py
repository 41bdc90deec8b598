"""The file of a trained model: JSON that says what it was trained on and how it was tested, and its trees.

`sluice train` writes it, a policy names it. A file is read as data: types, ranges and the hash over its content are
checked, and nothing in it is executed but numbers, put into expressions of our own (`policies.predict.compiled`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from policies.predict.features import FEATURES
from policies.predict.question import QUANTILES
from pricing.errors import FileProblem

FORMAT: Final = "sluice-output-tokens-1"
TREES_AT_MOST: Final = 1_000
DEPTH_AT_MOST: Final = 32  # Python takes 100 nested parentheses and more
NODES_AT_MOST: Final = 200_000  # of all trees; such a file takes seconds to compile
VERSION_DIGITS: Final = 12
REMEDY: Final = "train one with `sluice train`, or write output_tokens: history"

Share = Annotated[float, Meta(ge=0, le=1)]
Instant = Annotated[int, Meta(ge=0, le=2**62)]
Log = Annotated[float, Meta(ge=-100, le=100)]  # no sum of so many trees overflows
Count = Annotated[int, Meta(ge=0, le=2**62)]


class Split(msgspec.Struct, frozen=True, array_like=True):
    """A node: what is below or at `threshold` goes left."""

    feature: Annotated[int, Meta(ge=0, lt=len(FEATURES))]
    threshold: float
    left: Split | Log
    right: Split | Log


class ForestShape(msgspec.Struct, frozen=True):
    """Trees whose values add up, from `baseline`, to how far ln(1 + tokens) is above what history expects."""

    quantile: Share
    baseline: Log
    trees: Annotated[list[Split | Log], Meta(max_length=TREES_AT_MOST)]


class Judged(msgspec.Struct, frozen=True):
    """How one predictor did at one quantile on later traffic. `pinball` is tokens an answer, lower is better; `share`
    is the part of answers at or below the prediction, which should be the quantile.
    """

    predictor: str
    quantile: Share
    pinball: float
    share: Share


class Held(msgspec.Struct, frozen=True):
    """What one predictor's holds would have set aside: dollars on average over the time, and how often one grew."""

    predictor: str
    mean_usd: float
    extensions: Count


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """Instants are microseconds since the epoch. `trained` and `tested` count answers, those of the test came later."""

    format: str
    version: str
    trained_at_us: Instant
    from_us: Instant
    until_us: Instant
    trained: Count
    tested: Count
    features: tuple[str, ...]
    classes: tuple[str, ...]
    judged: tuple[Judged, ...]
    held: tuple[Held, ...]
    forests: tuple[ForestShape, ...]


_decoder: Final = msgspec.json.Decoder(ModelFile)


def version_of(model: ModelFile) -> str:
    """A short hash over everything else in the file."""
    return hashlib.sha256(msgspec.json.encode(replace(model, version=""))).hexdigest()[:VERSION_DIGITS]


def signed(model: ModelFile) -> ModelFile:
    """The model with its version."""
    return replace(model, version=version_of(model))


def write_model(path: Path, model: ModelFile) -> None:
    """Put the file in place as a whole, so that a reader sees the old one or the new one. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(msgspec.json.encode(model))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_model(content: bytes, path: Path) -> ModelFile:
    """Raises FileProblem with what is wrong and what to do. `path` is for messages."""
    try:
        model = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _problem(path, f"this is no model of output tokens ({error})") from None
    if model.format != FORMAT:
        raise _problem(path, f"this is a file of format '{model.format}', this program reads '{FORMAT}'")
    if not all(_fits(tree) for forest in model.forests for tree in forest.trees):
        raise _problem(path, f"a tree is deeper than {DEPTH_AT_MOST}")
    if model.version != version_of(model):
        raise _problem(path, "the file was changed after it was written: its content does not have its version")
    if model.features != FEATURES or tuple(forest.quantile for forest in model.forests) != QUANTILES:
        raise _problem(path, "the model answers other questions than this program asks")
    if len(set(model.classes)) != len(model.classes):
        raise _problem(path, "a class stands in it twice")
    nodes = sum(nodes_of(tree) for forest in model.forests for tree in forest.trees)
    if nodes > NODES_AT_MOST:
        raise _problem(path, f"its trees have {nodes} nodes, {NODES_AT_MOST} at most are taken")
    return model


def nodes_of(tree: Split | float) -> int:
    return 1 + nodes_of(tree.left) + nodes_of(tree.right) if isinstance(tree, Split) else 1


def _fits(tree: Split | float, depth: int = 0) -> bool:
    if not isinstance(tree, Split):
        return True
    return depth < DEPTH_AT_MOST and _fits(tree.left, depth + 1) and _fits(tree.right, depth + 1)


def _problem(path: Path, text: str) -> FileProblem:
    return FileProblem([f"{path}:1: {text}; {REMEDY}"])
