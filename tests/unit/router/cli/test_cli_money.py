"""`sluice report` and `sluice ledger`, as people call them."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import URL
from typer.testing import CliRunner

from pricing.budgets.lockfile import FileLock
from pricing.errors import StoreUnavailable
from pricing.ledger.upgrade import HEAD, version_of
from router.cli.main import app
from support.cli import said, sluice
from support.ledgers import LEDGER_NUSD, take_back, write_small_ledger


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    write_small_ledger(path)
    return path


def test_report_json_is_the_ledger(ledger: Path) -> None:
    """The sum that a program reads is the sum of all rows."""
    result = sluice("report", "--since", "2026-01-01", "--until", "2026-01-03", "--ledger", ledger, "--format", "json")
    assert json.loads(result.output)["ledger_nusd"] == LEDGER_NUSD


def test_report_as_table_and_csv(ledger: Path) -> None:
    """People get a table, spreadsheets one line per group and house account."""
    window = ("--since", "2026-01-01", "--until", "2026-01-03", "--ledger", ledger, "--by", "tenant,day")
    assert "globex" in sluice("report", *window).output
    assert sluice("report", *window, "--format", "csv").output.startswith("tenant,day,account,requests,")


def test_report_refuses_what_it_does_not_know(ledger: Path) -> None:
    """Unknown groupings and times are answered with the valid ones; so is a window that ends before it begins."""
    for words, message in (
        (("--by", "tenat"), "did you mean 'tenant'"),
        (("--since", "yesterday"), "'yesterday' is not a time; write 90m, 24h, 7d"),
        (("--since", "1h", "--until", "2h"), "the begin 1h is not before the end 2h"),
        (("--show", "monny"), "did you mean 'money'"),
        (("--timezone", "Berlin"), "IANA name"),
        (("--baseline", "flux-schnell-fp8-a10"), "a baseline needs one that writes text"),
        (("--baseline", "nothing"), "no pool 'nothing'"),
    ):
        result = sluice("report", "--ledger", ledger, *words)
        assert (result.exit_code, message in said(result)) == (2, True), said(result)


def test_report_shows_what_is_asked_for(ledger: Path) -> None:
    """Sets of columns in the order named, in a view and a zone, against a pool by name; money where none is named."""
    window = ("--since", "2026-01-01", "--until", "2026-01-03", "--ledger", ledger, "--by", "hour,tag")
    plain = sluice("report", *window).output
    assert ("Spent" in plain, "Pools" in plain) == (True, False)
    words = ("--show", "utilisation,money", "--house", "even", "--timezone", "Europe/Berlin")
    shown = said(sluice("report", *window, *words, "--baseline", "qwen3-4b-bf16-a10"))
    assert shown.index("Pools") < shown.index("Spent")
    assert "2026-01-01T02:00+01:00 batch" in shown
    assert re.search(r"all on pool qwen3-4b-bf16-a10 as policy \w{12} has it, which would have needed", shown)


def test_report_is_as_wide_as_columns_says(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And has room for all of it where nobody says, as in a pipe."""
    words = ["report", "--since", "2026-01-01", "--until", "2026-01-03", "--ledger", str(ledger)]
    narrow = CliRunner().invoke(app, words, env={"COLUMNS": "70"}).output
    assert max(map(len, narrow.splitlines())) <= 70
    assert "Left out at this width: tokens in, " in narrow
    monkeypatch.delenv("COLUMNS", raising=False)
    assert "tokens in  tokens out  " in CliRunner().invoke(app, words).output


def test_report_as_a_page(ledger: Path) -> None:
    """One document, to be sent to a file."""
    result = sluice("report", "--since", "2026-01-01", "--until", "2026-01-03", "--ledger", ledger, "--format", "html")
    assert result.output.startswith("<!doctype html>")
    assert result.output.rstrip().endswith("</html>")


def test_report_of_an_empty_window_says_so(ledger: Path) -> None:
    """No spend is an answer."""
    result = sluice("report", "--since", "2020-01-01", "--until", "2020-01-02", "--ledger", ledger)
    assert (result.exit_code, "Nothing was spent" in result.output) == (0, True)


def test_report_without_a_ledger_says_what_to_do(tmp_path: Path) -> None:
    """The error names the option and the variable."""
    result = sluice("report", "--ledger", tmp_path / "none.sqlite")
    assert isinstance(result.exception, StoreUnavailable)
    assert "SLUICE_LEDGER" in str(result.exception)


def test_ledger_verify_agrees_or_exits_1(ledger: Path, tmp_path: Path) -> None:
    """The exit status tells a script; text and JSON say what does not agree."""
    good = sluice("ledger", "verify", "--ledger", ledger)
    assert (good.exit_code, "everything agrees" in good.output) == (0, True)
    bad = tmp_path / "bad.sqlite"
    shutil.copy(ledger, bad)
    with sqlite3.connect(bad) as connection:
        connection.execute("UPDATE spend SET nusd = nusd + 1 WHERE scope = 'tenant:globex'")
    result = sluice("ledger", "verify", "--ledger", bad)
    assert (result.exit_code, "tenant globex" in result.output) == (1, True)
    document = json.loads(sluice("ledger", "verify", "--ledger", bad, "--json").output)
    assert (document["agrees"], len(document["problems"])) == (False, 1)


def test_ledger_upgrade_leaves_a_file_in_use_alone(tmp_path: Path) -> None:
    """An older program that serves it would write as before into tables that are no longer so."""
    path = tmp_path / "ledger.sqlite"
    assert sluice("ledger", "upgrade", "--ledger", path).output == f"{path}: tables of version {HEAD}\n"
    take_back(URL.create("sqlite", database=str(path)), "0008")
    lock = FileLock(path)
    result = sluice("ledger", "upgrade", "--ledger", path)
    assert isinstance(result.exception, StoreUnavailable)
    assert "is in use by process" in str(result.exception)
    lock.release()
    with closing(sqlite3.connect(path)) as connection:
        assert version_of(connection) == "0008"
    assert sluice("ledger", "upgrade", "--ledger", path).exit_code == 0


def test_ledger_show_lists_the_newest_rows(ledger: Path) -> None:
    """As a table or as JSON, of everyone or of one tenant."""
    assert "__adjustment__" in sluice("ledger", "show", "--ledger", ledger).output
    rows = json.loads(sluice("ledger", "show", "--ledger", ledger, "--tenant", "globex", "--json").output)
    assert [row["row_id"] for row in rows] == ["g:1:attempt"]
    assert "no rows of tenant nobody" in sluice("ledger", "show", "--ledger", ledger, "--tenant", "nobody").output


def test_the_version_is_that_of_the_distribution() -> None:
    """`sluice --version` says what is installed, and does nothing else."""
    assert sluice("--version").output == f"sluice {version('sluice')}\n"


def test_verify_looks_into_the_windows_of_the_caps_that_are_named(ledger: Path, policy: Path, tmp_path: Path) -> None:
    """Without a policy it says that it does not; with one it counts the caps, and names the one that does not agree."""
    path = tmp_path / "ledger.sqlite"
    shutil.copy(ledger, path)
    without = sluice("ledger", "verify", "--ledger", path)
    assert "no cap's window was looked at: --policy names the files" in without.output
    good = sluice("ledger", "verify", "--ledger", path, "--policy", policy)
    assert (good.exit_code, "0 open holds, 3 caps, $" in good.output) == (0, True)
    assert json.loads(sluice("ledger", "verify", "--ledger", path, "--policy", policy, "--json").output)["windows"] == 3
    bucket = int(datetime.now(UTC).timestamp()) // 900
    with sqlite3.connect(path) as connection:
        connection.executemany("INSERT INTO spend VALUES ('tenant:acme', ?, ?)", [(bucket, 5), (1, -5)])
    assert sluice("ledger", "verify", "--ledger", path).exit_code == 0
    bad = sluice("ledger", "verify", "--ledger", path, "--policy", policy)
    assert bad.exit_code == 1
    assert "its ledger rows are $0.000000000, its window of 24h says $0.000000005" in bad.output
