"""The policy's switch for expected answers, and the model's file as a part of the policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.compile.load import load_policy
from policies.compile.reload import Reloader
from policies.predict.expect import OutputTokens
from policies.predict.model_file import write_model
from pricing.clock import ManualClock
from pricing.errors import FileProblem
from support.choosing import NOW_US, load, write_policy
from support.models import small_model

BASE = "version: 1\nprice_book: modal-2026-10\nclasses: {chat: {ladder: {premium: [qwen3-4b-fp16-t4]}}}\n"


def with_model(folder: Path) -> Path:
    write_model(folder / "model.json", small_model())
    return write_policy(folder, f"{BASE}predict: {{output_tokens: model, file: model.json}}\n")


def test_history_is_what_is_drawn_on_by_default(tmp_path: Path) -> None:
    """Without the section nothing is read and nothing is needed."""
    prediction = load(write_policy(tmp_path, BASE)).prediction
    assert (prediction.output_tokens, prediction.model) == (OutputTokens.HISTORY, None)


@pytest.mark.parametrize("word", ["off", "history"])
def test_a_switch_that_is_off_leaves_the_file_alone(tmp_path: Path, word: str) -> None:
    """Turning the model off needs no other edit: a file that is named may be missing then."""
    text = f"{BASE}predict: {{output_tokens: {word}, file: gone.json}}\n"
    prediction = load(write_policy(tmp_path, text)).prediction
    assert (prediction.output_tokens, prediction.model) == (OutputTokens(word), None)


def test_a_model_is_loaded_with_the_policy(tmp_path: Path) -> None:
    """Its path is relative to the policy's file, and its content is part of the policy's version."""
    path = with_model(tmp_path)
    before = load(path)
    assert before.prediction.model is not None
    assert before.prediction.model.version == small_model().version
    write_model(tmp_path / "model.json", small_model(times=5.0))
    assert load(path).version != before.version


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{output_tokens: model}", "policy.yaml:4: output_tokens: model needs a file"),
        ("{output_tokens: model, file: gone.json}", "gone.json:1: the model cannot be read"),
        ("{output_tokens: model, file: policy.yaml}", "this is no model of output tokens"),
        ("{output_tokens: modle}", "policy.yaml:4: "),
        ("{output_token: model}", "did you mean"),
    ],
)
def test_what_cannot_be_loaded_says_where_and_why(tmp_path: Path, section: str, said: str) -> None:
    """A wrong section refuses the policy, with the policy's line."""
    path = write_policy(tmp_path, f"{BASE}predict: {section}\n")
    with pytest.raises(FileProblem) as caught:
        load_policy([path], environ={}, now_us=NOW_US)
    (problem,) = caught.value.problems
    assert said in problem
    assert "policy.yaml:4" in problem


def test_a_new_model_is_taken_up_and_a_bad_one_never_is(tmp_path: Path) -> None:
    """The file is watched like the policy's own; while it is wrong, the model in force stays, and why is said."""
    policies = Reloader([with_model(tmp_path)], ManualClock(NOW_US), environ={})
    assert policies.check_once() == "unchanged"
    second = small_model(times=5.0)
    write_model(tmp_path / "model.json", second)
    assert policies.check_once() == "swapped"
    (tmp_path / "model.json").write_text("{}", encoding="utf-8")
    assert policies.check_once() == "refused"
    assert policies.policy.prediction.model is not None
    assert policies.policy.prediction.model.version == second.version
    assert "missing required field" in policies.state().last_error[0]
    write_model(tmp_path / "model.json", small_model())
    assert policies.check_once() == "swapped"
    assert policies.state().last_error == ()
