"""What CI makes of a test report: green only when tests ran, all passed, and none was skipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.repository import ROOT

PASSED = '<testcase classname="tests.a" name="test_one"/>'
FAILED = '<testcase classname="tests.a" name="test_two"><failure message="no"/></testcase>'
ERROR = '<testcase classname="tests.a" name="test_three"><error message="fixture"/></testcase>'
SKIPPED = '<testcase classname="tests.a" name="test_four"><skipped type="pytest.skip" message="later"/></testcase>'
XFAILED = '<testcase classname="tests.a" name="test_five"><skipped type="pytest.xfail" message="known"/></testcase>'


def judge(report: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / ".ci" / "counts.py"), str(report)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(folder: Path, *cases: str) -> Path:
    report = folder / "tests.xml"
    report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    return report


def test_a_run_where_all_passed_is_green(tmp_path: Path) -> None:
    """Passed tests alone give exit status 0 and the counts."""
    done = judge(write(tmp_path, PASSED, PASSED))
    assert (done.returncode, done.stdout) == (0, "2 passed, 0 failed, 0 errors, 0 skipped\n")


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ((), "no test was collected"),
        ((PASSED, FAILED), "1 failed, 0 errors"),
        ((PASSED, ERROR), "0 failed, 1 errors"),
        ((PASSED, SKIPPED), "tests.a::test_four was skipped"),
        ((PASSED, XFAILED), "tests.a::test_five was skipped"),
    ],
)
def test_anything_else_is_red_and_says_why(cases: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """No tests, a failure, an error, a skip or an expected failure each fail the run with its reason."""
    done = judge(write(tmp_path, *cases))
    assert done.returncode == 1
    assert said in done.stderr


def test_a_missing_report_is_red(tmp_path: Path) -> None:
    """Where pytest never wrote a report, the run fails and says so."""
    done = judge(tmp_path / "nowhere.xml")
    assert done.returncode == 1
    assert "did pytest start?" in done.stderr


def test_a_real_skip_is_found_in_a_real_report(tmp_path: Path) -> None:
    """The report that pytest itself writes for a skipped and for a module-level skipped test is understood."""
    (tmp_path / "test_skips.py").write_text("import pytest\n@pytest.mark.skip\ndef test_one(): pass\n")
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_library')\n")
    report = tmp_path / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junit-xml={report}", str(tmp_path)]
    subprocess.run([*command, f"--rootdir={tmp_path}"], cwd=tmp_path, capture_output=True, check=False)
    done = judge(report)
    assert done.returncode == 1
    assert "0 passed, 0 failed, 0 errors, 2 skipped" in done.stdout
