"""A model's file: what is written is what is read, and what is no such file is refused with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from policies.predict.expect import Ground, OutputTokens, Prediction, expect
from policies.predict.features import FEATURES
from policies.predict.history import OutputHistory
from policies.predict.model import compile_model, load_model
from policies.predict.model_file import (
    ForestShape,
    ModelFile,
    Split,
    read_model,
    signed,
    write_model,
)
from policies.predict.question import Question
from pricing.errors import FileProblem
from support.models import PROMPT, small_model

HERE = Path("model.json")


def encoded(model: ModelFile, **changes: Any) -> bytes:
    return msgspec.json.encode(signed(replace(model, **changes)))


def chain(depth: int) -> Split | float:
    tree: Split | float = 1.0
    for _ in range(depth):
        tree = Split(0, 0.5, tree, 2.0)
    return tree


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """The file holds the whole model, and nothing is left beside it."""
    path = tmp_path / "model.json"
    write_model(path, small_model())
    assert read_model(path.read_bytes(), path) == small_model()
    assert [each.name for each in tmp_path.iterdir()] == ["model.json"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """Where the new file cannot take its place, nothing is left of it."""
    path = tmp_path / "model.json"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_model(path, small_model())
    assert [each.name for each in tmp_path.iterdir()] == ["model.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no model of output tokens"),
        (b"version: 1\nclasses: {}\n", "no model of output tokens"),
        (b'{"format": "sluice-output-tokens-1"}', "missing required field"),
        (b"\xff\xfe", "no model of output tokens"),
        (b"[" * 100_000, "no model of output tokens"),
        (msgspec.json.encode(small_model())[:-40], "no model of output tokens"),
        (msgspec.json.encode(small_model()).replace(b"0.5", b"0.6", 1), "was changed after it was written"),
        (encoded(small_model(), format="sluice-output-tokens-9"), "format 'sluice-output-tokens-9'"),
        (encoded(small_model(), features=FEATURES[1:]), "answers other questions"),
        (encoded(small_model(), forests=small_model().forests[:1]), "answers other questions"),
        (encoded(small_model(), forests=small_model().forests[::-1]), "answers other questions"),
        (encoded(small_model(), classes=("chat", "chat")), "a class stands in it twice"),
        (
            encoded(
                small_model(),
                forests=(ForestShape(0.5, 1.0, [chain(33)]), ForestShape(0.9, 1.0, [])),
            ),
            "deeper than 32",
        ),
        (
            encoded(
                small_model(),
                forests=(ForestShape(0.5, 1e6, []), ForestShape(0.9, 1.0, [])),
            ),
            "Expected `float` <= 100.0",
        ),
        (
            encoded(
                small_model(),
                forests=(ForestShape(0.5, 1.0, [Split(99, 0.5, 1.0, 2.0)]), ForestShape(0.9, 1.0, [])),
            ),
            "Expected `int` <",
        ),
        (
            encoded(
                small_model(),
                forests=(ForestShape(0.5, 1.0, [chain(32)] * 999 * 4), ForestShape(0.9, 1.0, [])),
            ),
            "Expected `array` of length <= 1000",
        ),
    ],
)
def test_what_is_no_such_model_is_refused(content: bytes, said: str) -> None:
    """The message names the file, what is wrong and what to do."""
    with pytest.raises(FileProblem) as caught:
        read_model(content, HERE)
    (problem,) = caught.value.problems
    assert problem.startswith("model.json:1: ")
    assert said in problem
    assert problem.endswith("train one with `sluice train`, or write output_tokens: history")


def test_a_model_that_is_too_large_is_refused() -> None:
    """More nodes than can be compiled in some seconds are no model."""
    full = chain(32)
    forests = tuple(ForestShape(quantile, 1.0, [full] * 1_000) for quantile in (0.5, 0.9))
    read_model(encoded(small_model(), forests=forests), HERE)  # 130,000 nodes
    wide: Split | float = 1.0
    for _ in range(7):
        wide = Split(0, 0.5, wide, wide)
    forests = tuple(ForestShape(quantile, 1.0, [wide] * 1_000) for quantile in (0.5, 0.9))
    with pytest.raises(FileProblem, match="510000 nodes"):
        read_model(encoded(small_model(), forests=forests), HERE)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The first use of a model begins with training one."""
    with pytest.raises(FileProblem, match=r"nothing\.json:1: the model cannot be read: No such file"):
        load_model(tmp_path / "nothing.json")


def test_a_model_answers_for_the_classes_it_knows() -> None:
    """Its trees decide by the prompt; another class is expected from history, one token and the bound hold."""
    prediction = Prediction(OutputTokens.MODEL, compile_model(small_model()))
    history = OutputHistory()
    short, long = Question("t", "chat", PROMPT), Question("t", "chat", PROMPT + 1)
    plain = expect(Prediction(), history, long, 10_000).median
    assert expect(prediction, history, short, 10_000).median == plain
    assert expect(prediction, history, long, 10_000).median == pytest.approx(3 * (plain + 1) - 1, abs=2)
    assert expect(prediction, history, long, 50).median == 50
    assert expect(prediction, history, long, 10_000).ground is Ground.MODEL
    assert expect(prediction, history, Question("t", "code", 100), 10_000).ground is Ground.PRIOR


def test_the_p90_is_never_below_the_median() -> None:
    """Where the forests cross, the higher number counts; without trees it is what history expects."""
    model = small_model()
    prediction = Prediction(OutputTokens.MODEL, compile_model(model))
    history = OutputHistory()
    for prompt in (1, PROMPT, PROMPT + 1, 10**6):
        expected = expect(prediction, history, Question("t", "chat", prompt), 10**9)
        assert expected.median <= expected.p90
    empty = replace(model, forests=tuple(ForestShape(q, 0.0, []) for q in (0.5, 0.9)))
    prediction = Prediction(OutputTokens.MODEL, compile_model(empty))
    for tokens in (5, 7, 300):
        history.add(Question("t", "chat", 100), tokens)
    plain = expect(Prediction(), history, Question("t", "chat", 100), 1_000)
    modelled = expect(prediction, history, Question("t", "chat", 100), 1_000)
    assert (modelled.median, modelled.p90) == (plain.median, plain.p90)
