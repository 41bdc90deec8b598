"""Print what a pytest run counted, and fail unless tests ran, all passed and none was skipped.

    python .ci/counts.py tests.xml [again.xml]

Reads the JUnit XML that `pytest --junit-xml` writes. pytest counts an expected failure as skipped there; it is
refused like any other test that did not show its claim.

`again.xml` is of those that failed, run once more by themselves: what passes there did not fail by itself, but because
the machine had too much to do. It is named, and more than a few of them are a failure all the same.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

AGAIN_AT_MOST = 5  # tests that fail at first; beyond it something is wrong


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened to the tests of one run; names are `file::test`, `again` those that passed the second time."""

    passed: int
    failed: tuple[str, ...]
    errors: tuple[str, ...]
    skipped: tuple[str, ...]
    again: tuple[str, ...] = ()

    @property
    def problems(self) -> list[str]:
        """Why this run does not count as green; empty when it does."""
        found = []
        if self.passed + len(self.failed) + len(self.errors) + len(self.skipped) == 0:
            found.append("no test was collected: check `testpaths` in pyproject.toml")
        if self.failed or self.errors:
            found.append(f"{len(self.failed)} failed, {len(self.errors)} errors: see the report above")
        found += [f"{name} was skipped: make it run everywhere, or delete it" for name in self.skipped]
        return found

    def lines(self) -> list[str]:
        counts = (
            f"{self.passed} passed, {len(self.failed)} failed, {len(self.errors)} errors, {len(self.skipped)} skipped"
        )
        return [counts, *(f"{name} failed at first, and passed by itself" for name in self.again)]

    def corrected(self, second: Counts, passed: frozenset[str]) -> Counts:
        """With what a second run of the failed ones showed; `passed` there."""
        if len(self.failed) + len(self.errors) > AGAIN_AT_MOST:
            return self
        again = tuple(name for name in (*self.failed, *self.errors) if name in passed)
        return Counts(
            passed=self.passed + len(again),
            failed=tuple(name for name in self.failed if name not in passed),
            errors=tuple(name for name in self.errors if name not in passed),
            skipped=self.skipped + second.skipped,
            again=again,
        )


def read(path: Path) -> tuple[Counts, frozenset[str]]:
    """Count a report's test cases by their outcome, and name those that passed. A test that passed and whose fixtures
    failed when they were taken down is an error.

    Raises OSError or ElementTree.ParseError.
    """
    outcomes: dict[str, list[str]] = {"passed": [], "failure": [], "error": [], "skipped": []}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        outcome = next((kind for kind in ("error", "failure", "skipped") if case.find(kind) is not None), "passed")
        outcomes[outcome].append(name)
    failed, errors = tuple(outcomes["failure"]), tuple(outcomes["error"])
    counts = Counts(len(outcomes["passed"]), failed, errors, tuple(outcomes["skipped"]))
    return counts, frozenset(outcomes["passed"]) - {*failed, *errors}


def judged(paths: Sequence[Path]) -> Counts:
    """Raises OSError or ElementTree.ParseError."""
    counts, _ = read(paths[0])
    for path in paths[1:]:
        if path.exists():
            counts = counts.corrected(*read(path))
    return counts


def main(arguments: list[str]) -> int:
    try:
        counts = judged([Path(name) for name in arguments])
    except (OSError, ElementTree.ParseError) as problem:
        print(f"no usable test report at {arguments[0]} ({problem}): did pytest start?", file=sys.stderr)
        return 1
    for line in counts.lines():
        print(line)
    for found in counts.problems:
        print(found, file=sys.stderr)
    return 1 if counts.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
