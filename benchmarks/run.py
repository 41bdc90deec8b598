"""Run the benchmarks and write what they found, with the machine it was found on.

    python benchmarks/run.py [name ...] [-- arguments for each benchmark]

A benchmark is a file `bench_*.py` beside this one that prints one result as JSON (see results.py). Without names, all
of them run, and RESULTS.md is written; with names, their tables are only printed. Exit status 1: a target was missed.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import machine
from results import Result, table

HERE: Final = Path(__file__).resolve().parent
LIMIT_S: Final = 1200


def names() -> list[str]:
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def run(name: str, arguments: list[str]) -> Result:
    """Run one benchmark in a process of its own. Raises CalledProcessError, TimeoutExpired, ValueError."""
    print(f"bench_{name} …", file=sys.stderr)
    command = [sys.executable, str(HERE / f"bench_{name}.py"), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    return Result.from_json(done.stdout.decode())


def page(results: list[Result]) -> str:
    """RESULTS.md: the machine, then each table."""
    head = (
        f"# Results\n\nWritten by `make bench` on {datetime.now(UTC):%Y-%m-%d}; not edited by hand. "
        "What is measured and how: [README.md](README.md)."
    )
    described = table(("machine", ""), machine.describe())
    return "\n\n".join([head, described, *(result.as_markdown() for result in results)]) + "\n"


def main(arguments: list[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    asked, passed_on = arguments[:split], arguments[split + 1 :]
    unknown = [name for name in asked if name not in names()]
    if unknown:
        print(f"no benchmark '{unknown[0]}'; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    results = [run(name, passed_on) for name in asked or names()]
    print(page(results))
    if not asked:
        (HERE / "RESULTS.md").write_text(page(results), encoding="utf-8")
    return 0 if all(target.met for result in results for target in result.targets) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
