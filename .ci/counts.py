"""Print what a pytest run counted, and fail unless tests ran, all passed and none was skipped.

    python .ci/counts.py tests.xml

Reads the JUnit XML that `pytest --junit-xml` writes. pytest counts an expected failure as skipped there; it is
refused like any other test that did not show its claim.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened to the tests of one run; `skipped_names` are `file::test`."""

    passed: int
    failed: int
    errors: int
    skipped_names: tuple[str, ...]

    @property
    def problems(self) -> list[str]:
        """Why this run does not count as green; empty when it does."""
        found = []
        if self.passed + self.failed + self.errors + len(self.skipped_names) == 0:
            found.append("no test was collected: check `testpaths` in pyproject.toml")
        if self.failed or self.errors:
            found.append(f"{self.failed} failed, {self.errors} errors: see the report above")
        found += [f"{name} was skipped: make it run everywhere, or delete it" for name in self.skipped_names]
        return found

    def line(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.errors} errors, {len(self.skipped_names)} skipped"


def read(path: Path) -> Counts:
    """Count a report's test cases by their outcome. Raises OSError or ElementTree.ParseError."""
    outcomes: dict[str, list[str]] = {"passed": [], "failure": [], "error": [], "skipped": []}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        outcome = next((kind for kind in ("error", "failure", "skipped") if case.find(kind) is not None), "passed")
        outcomes[outcome].append(name)
    return Counts(
        passed=len(outcomes["passed"]),
        failed=len(outcomes["failure"]),
        errors=len(outcomes["error"]),
        skipped_names=tuple(outcomes["skipped"]),
    )


def main(arguments: list[str]) -> int:
    path = Path(arguments[0])
    try:
        counts = read(path)
    except (OSError, ElementTree.ParseError) as problem:
        print(f"no usable test report at {path} ({problem}): did pytest start?", file=sys.stderr)
        return 1
    print(counts.line())
    for found in counts.problems:
        print(found, file=sys.stderr)
    return 1 if counts.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
