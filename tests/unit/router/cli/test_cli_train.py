"""`sluice train`, as people call it."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from policies.predict.model import load_model
from policies.predict.model_file import read_model
from pricing.errors import FileProblem, StoreUnavailable
from pricing.ledger.answers import newest_answers
from pricing.ledger.place import PostgresUrl
from pricing.ledger.upgrade import ensure_current
from router.cli.main import app
from router.cli.train import CannotWrite
from router.learning.examples import sample_of
from router.learning.train import TooFewAnswers
from support.answers import changing, predictable, write_ledger
from support.ledgers import recent_requests
from support.shared_ledger import fill


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, words)])


def test_the_ledger_gives_back_what_was_asked_and_answered(tmp_path: Path) -> None:
    """Samples survive their rows, newest first; answers of several sequences count one by one."""
    samples = predictable(50)
    write_ledger(tmp_path / "ledger.sqlite", samples)
    newest = newest_answers(tmp_path / "ledger.sqlite", 20)
    assert [sample_of(answer) for answer in newest] == samples[:-21:-1]


async def test_a_database_gives_the_same_answers_as_a_file(tmp_path: Path, postgres_url: str) -> None:
    """Replicas that share a PostgreSQL ledger train on it as one does on its file."""
    path, url = tmp_path / "ledger.sqlite", PostgresUrl(postgres_url)
    await asyncio.to_thread(write_ledger, path, predictable(50))
    ensure_current(url)
    await fill(url, (), recent_requests(path, 50))
    assert newest_answers(url, 20) == newest_answers(path, 20)


def test_a_model_is_written_and_can_be_loaded(tmp_path: Path) -> None:
    """The table names every predictor; the file holds what it says, and a policy could name it."""
    write_ledger(tmp_path / "ledger.sqlite", predictable(1_500))
    out = tmp_path / "model.json"
    done = run("--ledger", tmp_path / "ledger.sqlite", "--write", out)
    assert done.exit_code == 0, done.output
    for name in ("max_tokens", "prior", "running quantiles", "history", "model"):
        assert any(line.startswith(f" {name} ") for line in done.output.splitlines()), name
    version = load_model(out).version
    assert f"wrote {out}, version {version}" in done.output.replace("\n", "")
    assert read_model(out.read_bytes(), out).trained == 1_200


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    """The test is printed all the same."""
    write_ledger(tmp_path / "ledger.sqlite", predictable(1_000))
    done = run("--ledger", tmp_path / "ledger.sqlite", "--write", tmp_path / "model.json", "--dry-run")
    assert done.exit_code == 0
    assert "running quantiles" in done.output
    assert not (tmp_path / "model.json").exists()


def test_a_model_no_better_than_history_is_refused(tmp_path: Path) -> None:
    """Exit status 1, the reason, and an older model's file as it was."""
    write_ledger(tmp_path / "ledger.sqlite", changing(1_500))
    out = tmp_path / "model.json"
    out.write_text("old", encoding="utf-8")
    done = run("--ledger", tmp_path / "ledger.sqlite", "--write", out, "--output-bound", "4096")
    assert done.exit_code == 1
    assert "not written: the model is not 1% better than" in done.output
    assert out.read_text(encoding="utf-8") == "old"


def test_a_ledger_that_is_missing_or_small_says_so(tmp_path: Path) -> None:
    """Both are errors that name the remedy."""
    assert isinstance(run("--ledger", tmp_path / "none.sqlite").exception, StoreUnavailable)
    write_ledger(tmp_path / "ledger.sqlite", predictable(10))
    few = run("--ledger", tmp_path / "ledger.sqlite").exception
    assert isinstance(few, TooFewAnswers)
    assert "output_tokens: history" in str(few)


def test_a_trace_takes_the_place_of_the_ledger(tmp_path: Path) -> None:
    """Another log's lengths can be trained on, plain or packed, and a wrong line is named."""
    lines = [f"{number},acme,{100 + number % 7},{3 * (100 + number % 7)}" for number in range(1_000)]
    text = "\n".join(["t_s,who,prompt_tokens,output_tokens", *lines])
    (tmp_path / "trace.csv.gz").write_bytes(gzip.compress(text.encode("utf-8-sig")))
    done = run("--trace", tmp_path / "trace.csv.gz", "--dry-run")
    assert "trained on 800 answers" in done.output
    for line, said in (
        ("1,acme,100", ":1002: not seconds (to 100,000,000,000), a name"),
        ("1,acme,-1,5", ":1002: not seconds"),
        ("nan,acme,1,5", ":1002: not seconds"),
        ("1795278884797,acme,1,5", ":1002: not seconds"),  # these are milliseconds
        ("1,acme,1,5,6", ":1002: not seconds"),
        (f"1,{'a' * 200_000},1,5", ":1002: not seconds"),
    ):
        (tmp_path / "trace.csv").write_text(f"{text}\n{line}", encoding="utf-8")
        problem = run("--trace", tmp_path / "trace.csv").exception
        assert isinstance(problem, FileProblem)
        assert said in problem.problems[0]
    (tmp_path / "trace.csv").write_text("a,b\n1,2", encoding="utf-8")
    assert ":1: the first line of a trace is: t_s," in str(run("--trace", tmp_path / "trace.csv").exception)
    assert "cannot be read" in str(run("--trace", tmp_path / "none.csv").exception)


@pytest.mark.parametrize("where", [".", "none/model.json"])
def test_a_model_that_could_not_be_written_is_not_trained(tmp_path: Path, where: str) -> None:
    """It is told before minutes of training, and before a ledger is looked for."""
    problem = run("--ledger", tmp_path / "none.sqlite", "--write", tmp_path / where).exception
    assert isinstance(problem, CannotWrite)
    assert str(problem) == (
        f"{tmp_path / where} is a folder, or in one that is not there; name another file with --write"
    )


OUT_OF_RANGE = [
    ("--newest", "0"),
    ("--token-ms", "-1"),
    ("--token-ms", "inf"),
    ("--usd-per-hour", "nan"),
    ("--usd-per-hour", "inf"),
    ("--seed", "-1"),
    ("--seed", "4294967296"),
    ("--output-bound", "none"),
    ("--output-bound", "9" * 30),
    ("--newest", "9" * 30),
]


@pytest.mark.parametrize("words", OUT_OF_RANGE)
def test_options_out_of_range_are_refused(words: tuple[str, str]) -> None:
    """Exit status 2, before anything is read."""
    assert run(*words).exit_code == 2
