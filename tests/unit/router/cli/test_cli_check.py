"""`sluice check`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from policies.files.fileset import SHIPPED_DEFAULT, SHIPPED_FOLDER
from pools.catalog.load import load_catalog
from pricing.errors import FileProblem
from pricing.prices.book import SHIPPED_FOLDER as BOOKS
from router.cli.check import app
from support.choosing import write_policy
from support.repository import ROOT

RUN = CliRunner()
GOOD = "version: 1\nprice_book: modal-2026-10\nclasses: {chat: {ladder: {premium: [qwen3-4b-fp16-t4]}}}\n"


def test_the_shipped_policies_are_right() -> None:
    """Without arguments each shipped policy is checked, the standalone ones by themselves."""
    result = RUN.invoke(app, [])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    for path in sorted(SHIPPED_FOLDER.glob("*.yaml")):
        assert any(line.startswith(f"{path}: ok") for line in lines)


def test_a_path_that_is_not_there_is_a_wrong_command_line(tmp_path: Path) -> None:
    """It is no problem of a file (status 1): nothing is checked, and the program ends with status 2 and the path."""
    result = RUN.invoke(app, [str(tmp_path / "nowhere.yaml")])
    assert isinstance(result.exception, FileProblem)
    assert result.exception.problems == [f"{tmp_path}/nowhere.yaml:1: cannot read this file: No such file or directory"]


def test_a_folder_is_checked_as_one_set(tmp_path: Path) -> None:
    """Each file of a folder has its line, and what is wrong stands under the file it is in."""
    classes = write_policy(tmp_path, GOOD, "classes.yaml")
    aliases = write_policy(tmp_path, "version: 1\naliases: {gpt: chatt}\n", "names.yaml")
    result = RUN.invoke(app, [str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{classes}: ok (read)",
        f"{aliases}: 1 problem",
        f"  {aliases}:2: alias 'gpt' leads to 'chatt', which is nothing; did you mean 'chat'?",
    ]
    write_policy(tmp_path, "version: 1\naliases: {gpt: chat}\n", "names.yaml")
    result = RUN.invoke(app, [str(tmp_path)])
    assert result.exit_code == 0
    assert result.output.splitlines()[-1].startswith(f"{tmp_path}: ok (1 class, 1 pool, version ")


def test_files_are_sets_of_their_own(tmp_path: Path) -> None:
    """Two files named on the command line do not mix; one that is wrong makes the exit status 1."""
    good, bad = write_policy(tmp_path, GOOD, "good.yaml"), write_policy(tmp_path, GOOD.replace("t4", "t5"), "bad.yaml")
    result = RUN.invoke(app, ["--json", str(good), str(bad)])
    verdicts = json.loads(result.output)
    assert result.exit_code == 1
    assert [verdict["ok"] for verdict in verdicts] == [True, False]
    assert "did you mean 'qwen3-4b-fp16-t4'?" in verdicts[1]["problems"][0]
    assert len(verdicts[0]["policy_version"]) == 12


def test_a_missing_variable_is_a_problem_unless_told_otherwise(tmp_path: Path) -> None:
    """A machine without the secrets can still check the rest."""
    path = write_policy(tmp_path, GOOD + "endpoints: {qwen3-4b-fp16-t4: {url: 'https://${NOT_SET_ANYWHERE}'}}\n")
    assert RUN.invoke(app, [str(path)]).exit_code == 1
    assert RUN.invoke(app, ["--no-environment", str(path)]).exit_code == 0


@pytest.mark.parametrize("name", sorted(load_catalog().cases))
def test_each_placement_that_cannot_load_is_refused_with_arithmetic(name: str) -> None:
    """A document's case is refused by name, with what does not fit or run and what would."""
    result = RUN.invoke(app, ["--case", name])
    assert result.exit_code == 1
    assert "cannot load: " in result.output
    assert "shipped instead: " in result.output


def test_the_two_large_cases_say_the_sums() -> None:
    """80B on one H100 and 480B on four: the weights, the budget, and the placements that do."""
    output = RUN.invoke(app, ["--case", "all"]).output
    assert "weights 74.9 GiB + overhead 1.5 GiB > 72.9 GiB on 1×H100" in output
    assert "fits 2×H100 or 1×H200" in output
    assert "weights 449.1 GiB + overhead 8.0 GiB > 291.5 GiB on 4×H100" in output
    assert "fits 8×H100 or 4×H200" in output


def test_an_unknown_case_names_the_known_ones() -> None:
    """The error lists what there is."""
    result = RUN.invoke(app, ["--case", "none"])
    assert isinstance(result.exception, FileProblem)
    assert "qwen3-next-80b-fp8-1xh100" in str(result.exception)


def test_the_schema_describes_the_shipped_files() -> None:
    """`--schema` prints a JSON Schema that an editor can check files with: right ones pass, a misspelt key does not."""
    schema = json.loads(RUN.invoke(app, ["--schema"]).output)
    document = YAML(typ="safe").load(SHIPPED_DEFAULT.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "policy-files.md").read_text(encoding="utf-8")
    example = YAML(typ="safe").load(page.partition("```yaml\n")[2].partition("```")[0])
    for right in (document, example, {**document, "defaults": {"retry_budget": "20%"}}):
        jsonschema.validate(right, schema)
    with pytest.raises(jsonschema.ValidationError, match="clases"):
        jsonschema.validate({**document, "clases": {}}, schema)


def test_what_a_book_does_not_bill_and_what_is_not_applied_is_noted_once(tmp_path: Path) -> None:
    """Both pools go by a book that does not bill idle time nor pulls of images; the set is right, and notes say what
    costs nothing, and what to do about the rest.
    """
    book = (BOOKS / "doc-gpu-requirements.yaml").read_text(encoding="utf-8")
    book = book.replace("id: doc-gpu-requirements", "id: free").replace("image_pull: null", "image_pull: false")
    (tmp_path / "free-book.yaml").write_text(book, encoding="utf-8")
    text = GOOD.replace("modal-2026-10", "free").replace("-fp16-t4", "-fp16-t4, qwen3-4b-bf16-a10")
    path = write_policy(tmp_path, text + "price_books: [free-book.yaml]\n")
    plain, as_json = (RUN.invoke(app, [*options, str(path)]) for options in ([], ["--json"]))
    notes = [
        "book 'free' says that idle time is not billed: it costs 0",
        "book 'free' says that pulling images is not billed, which is shown and not applied;"
        " `sluice reconcile` brings the ledger to the bill",
    ]
    assert (plain.exit_code, as_json.exit_code) == (0, 0)
    assert plain.output.splitlines()[1:] == [f"  note: {note}" for note in notes]
    assert (json.loads(as_json.output)[0]["ok"], json.loads(as_json.output)[0]["notes"]) == (True, notes)


def test_price_books_are_checked_as_what_they_are(tmp_path: Path) -> None:
    """A folder of price books is right; in a copy, a negative and a missing price each have their line."""
    assert RUN.invoke(app, [str(BOOKS)]).output == f"{BOOKS}: ok ({len(list(BOOKS.glob('*.yaml')))} price books)\n"
    book = tmp_path / "book.yaml"
    text = (BOOKS / "modal-2026-10.yaml").read_text(encoding="utf-8")
    book.write_text(text.replace("gpu: T4, usd_per_hour: 0.59", "gpu: T4, usd_per_hour: -0.59"), encoding="utf-8")
    line = 1 + text[: text.index("gpu: T4")].count("\n")
    result = RUN.invoke(app, ["--json", str(book)])
    verdict = json.loads(result.output)[0]
    assert result.exit_code == 1
    assert not verdict["ok"]
    assert [problem.split(": ")[0] for problem in verdict["problems"]] == [f"{book}:{line}"]


def test_a_price_book_among_policy_files_says_where_it_belongs(tmp_path: Path) -> None:
    """One sentence, not one unknown key for each line of the book."""
    write_policy(tmp_path, GOOD, "classes.yaml")
    shutil.copy(BOOKS / "runpod-flex.yaml", tmp_path)
    result = RUN.invoke(app, [str(tmp_path)])
    assert result.exit_code == 1
    assert "runpod-flex.yaml:1: this is a price book; put it into a folder of its own" in result.output
    assert "unknown key" not in result.output


def test_what_yaml_says_is_said_in_our_words(tmp_path: Path) -> None:
    """A repeated key is named without its values, one of which may be a secret; what is no table is told so."""
    twice = write_policy(tmp_path, "version: 1\nplatform: {url: one-secret}\nplatform: {url: two-secret}\n", "a.yaml")
    text = write_policy(tmp_path, "just words\n", "b.yaml")
    output = RUN.invoke(app, [str(twice), str(text)]).output
    assert f"{twice}:3: repeated key 'platform'; keep one of the two" in output
    assert "secret" not in output
    assert f"{text}:1: this file must be a table" in output


MODAL = """\
version: 1
price_book: modal-2026-10
platform:
  modal: {}
pools:
  clips:
    extends: seedvr2-3b-fp8-a10
    engine_version: "2.5.23"
  chat_small:
    extends: qwen3-4b-fp16-t4
  chat-small:
    extends: qwen3-4b-bf16-a10
classes: {chat: {ladder: {premium: [chat_small, chat-small]}}}
"""


def test_what_modal_would_not_take_is_wrong_before_it_is_deployed(tmp_path: Path) -> None:
    """Two pools whose Apps would overwrite each other, and a program at a commit that nobody knows: as `sluice pools`
    says it, with the row's place. Where pools run elsewhere, neither is wrong.
    """
    path = write_policy(tmp_path, MODAL)
    result = RUN.invoke(app, [str(path), "--json"])
    [verdict] = json.loads(result.output)
    assert (result.exit_code, verdict["ok"]) == (1, False)
    commit, name = verdict["problems"]
    assert commit.startswith(f"{path}:6: pool 'clips': no commit is known of seedvr2 2.5.23; engine_version can be ")
    assert name == (
        f"{path}:11: pool 'chat-small': its App would be called 'sluice-chat-small', as that of 'chat_small' "
        f"({path}:9); rename one of the pools"
    )
    elsewhere = write_policy(tmp_path, MODAL.replace("platform:\n  modal: {}\n", ""), "elsewhere.yaml")
    assert RUN.invoke(app, [str(elsewhere)]).exit_code == 0
