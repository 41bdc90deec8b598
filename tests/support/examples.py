"""Console examples of the docs: run them, compare, or write them anew (`make examples`).

A `console` block holds `$ command` lines, each followed by what it prints, 110 columns wide and without colour. Those
that read a ledger read that of `support.example_ledger`.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from support.docs import Piece, blocks, pages
from support.example_ledger import write_example_ledger
from support.repository import ROOT, shown

COLUMNS = "110"  # what fits a page without scrolling


def console_blocks() -> list[Piece]:
    return [block for page in pages() for block in blocks(page) if block.info == "console"]


def run_anew(block: Piece) -> str:
    """The block as it should read today: each command with what it prints now."""
    return "".join(f"{command}\n{_printed(command)}" for command in _commands(block))


def _commands(block: Piece) -> Iterator[str]:
    """The `$ …` lines of a block; a line that ends in a backslash goes on in the next."""
    lines = iter(block.text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            while line.endswith("\\"):
                line += "\n" + next(lines)
            yield line


def _printed(command: str) -> str:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": COLUMNS,
        "NO_COLOR": "1",
        "SLUICE_LEDGER": str(_ledger()),
    }
    words = shlex.split(command.removeprefix("$ ").replace("\\\n", " "))
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return "".join(f"{line.rstrip()}\n" for line in (done.stdout + done.stderr).strip("\n").splitlines())


@cache
def _ledger() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sluice-examples-"))
    atexit.register(shutil.rmtree, folder)
    write_example_ledger(folder / "ledger.sqlite")
    return folder / "ledger.sqlite"


def main() -> None:
    for block in console_blocks():
        text = block.page.read_text(encoding="utf-8")
        fresh = run_anew(block)
        if fresh != block.text:
            block.page.write_text(text.replace(block.text, fresh, 1), encoding="utf-8")
            print(f"{shown(block.page)}:{block.line}: written anew")


if __name__ == "__main__":
    main()
