"""Run the benchmarks and write what they found, with the machine it was found on.

    python benchmarks/run.py [--quick] [name ...] [-- arguments for each benchmark]

A benchmark is a file `bench_*.py` beside this one that prints one result as JSON (see results.py). Without names, all
of them run, and RESULTS.md is written; with names or `--quick`, tables are only printed. Exit status 1: a target was
missed, which `--quick` does not ask.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import machine
from results import Result, table

HERE: Final = Path(__file__).resolve().parent
LIMIT_S: Final = 1200
# What `--quick` gives to those that have shorter loads: enough to see that they work, too little to measure anything.
QUICK: Final = {
    "clients": "--seconds 0.2",
    "dashboard": "--seconds 1 --rounds 1",
    "decide": "--rounds 500",
    "endpoint": "--seconds 1 --rounds 1 --only sluice",
    "failover": "--requests 20 --streams 50 --seconds 3",
    "ledger_drain": "--entries 2000",
    "redis": "--requests 400",
    "reload": "--tenants 1000 --rounds 1 --seconds 2",
    "reports": "--rows 20000",
    "store": "--requests 400",
}


def names() -> list[str]:
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def run(name: str, arguments: Sequence[str]) -> Result:
    """Run one benchmark in a process of its own. Raises CalledProcessError, TimeoutExpired, ValueError."""
    print(f"bench_{name} …", file=sys.stderr)
    command = [sys.executable, str(HERE / f"bench_{name}.py"), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    return Result.from_json(done.stdout.decode())


def section(name: str, arguments: Sequence[str], result: Result) -> str:
    """A benchmark's part of the page: what was found, and the command that finds it again."""
    command = " ".join(("python", f"benchmarks/bench_{name}.py", *arguments))
    return f"{result.as_markdown()}\n\n`{command}`"


def page(sections: Sequence[str]) -> str:
    """RESULTS.md: the machine, then each benchmark."""
    head = (
        f"# Results\n\nWritten by `make bench` on {datetime.now(UTC):%Y-%m-%d}; not edited by hand. "
        "What is measured and how: [README.md](README.md)."
    )
    described = table(("machine", ""), machine.describe())
    return "\n\n".join([head, described, *sections]) + "\n"


def main(arguments: list[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="short loads: do the benchmarks work?")
    options.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(names())}")
    asked, passed_on = options.parse_args(arguments[:split]), arguments[split + 1 :]
    unknown = [name for name in asked.names if name not in names()]
    if unknown:
        options.error(f"no benchmark '{unknown[0]}'; there are: {', '.join(names())}")
    sections, met = [], True
    for name in asked.names or names():
        given = [*(QUICK.get(name, "").split() if asked.quick else ()), *passed_on]
        result = run(name, given)
        sections.append(section(name, given, result))
        met = met and all(target.met for target in result.targets)
    print(page(sections))
    if not (asked.names or asked.quick):
        (HERE / "RESULTS.md").write_text(page(sections), encoding="utf-8")
    return 0 if met or asked.quick else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
