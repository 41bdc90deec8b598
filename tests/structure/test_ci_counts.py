"""What CI makes of a test report: green only when tests ran, all passed, and none was skipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.repository import ROOT

PASSED = '<testcase classname="tests.a" name="test_one"/>'
FAILURE, TROUBLE = '<failure message="no"/>', '<error message="fixture"/>'
FAILED = f'<testcase classname="tests.a" name="test_two">{FAILURE}</testcase>'
ERROR = f'<testcase classname="tests.a" name="test_three">{TROUBLE}</testcase>'
SKIPPED = '<testcase classname="tests.a" name="test_four"><skipped type="pytest.skip" message="later"/></testcase>'
XFAILED = '<testcase classname="tests.a" name="test_five"><skipped type="pytest.xfail" message="known"/></testcase>'


def judge(*reports: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / ".ci" / "counts.py"), *map(str, reports)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(folder: Path, *cases: str, name: str = "tests.xml") -> Path:
    report = folder / name
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


def test_what_fails_once_and_passes_by_itself_is_named(tmp_path: Path) -> None:
    """A second report, of the failed ones alone, turns those green that pass there; without one, or for the others,
    nothing changes.
    """
    first = write(tmp_path, PASSED, FAILED, ERROR)
    both = write(tmp_path, FAILED.replace(FAILURE, ""), ERROR.replace(TROUBLE, ""), name="both.xml")
    one = write(tmp_path, FAILED, ERROR.replace(TROUBLE, ""), name="one.xml")
    done = judge(first, both)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            "3 passed, 0 failed, 0 errors, 0 skipped",
            "tests.a::test_two failed at first, and passed by itself",
            "tests.a::test_three failed at first, and passed by itself",
        ],
    )
    for others, said in (([one], "1 failed, 0 errors"), ([tmp_path / "none.xml"], "1 failed, 1 errors")):
        done = judge(first, *others)
        assert done.returncode == 1
        assert said in done.stderr


def test_many_that_fail_are_red_whatever_comes_after(tmp_path: Path) -> None:
    """Six tests that pass by themselves and not with the others have something wrong."""
    passing = [PASSED.replace("test_one", f"test_{number}") for number in range(6)]
    failing = [case.replace("/>", f">{FAILURE}</testcase>") for case in passing]
    done = judge(write(tmp_path, *failing), write(tmp_path, *passing, name="again.xml"))
    assert done.returncode == 1
    assert "6 failed, 0 errors" in done.stderr


def test_a_test_whose_end_failed_has_not_passed(tmp_path: Path) -> None:
    """pytest writes a case for the test and another for the fixture that could not be taken down."""
    first = write(tmp_path, FAILED)
    again = write(tmp_path, FAILED.replace(FAILURE, ""), FAILED.replace(FAILURE, TROUBLE), name="again.xml")
    assert judge(first, again).returncode == 1


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
