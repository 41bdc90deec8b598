"""Examples in the docs are real: commands print what the page shows, and policies load."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from policies.compile.load import load_policy
from support.docs import Piece, blocks, pages
from support.examples import console_blocks, run_anew

CONSOLE = console_blocks()
POLICIES = [
    block for page in pages() for block in blocks(page) if block.info == "yaml" and block.text.startswith("# policy")
]


def place(block: Piece) -> str:
    return block.place


@pytest.mark.parametrize("block", CONSOLE, ids=place)
def test_console_examples_print_what_the_page_shows(block: Piece) -> None:
    """What stands under `$ command` in a console block is what that command prints today; else `make examples`."""
    assert run_anew(block) == block.text


def test_the_readme_shows_a_real_explain_table() -> None:
    """The first console block of README.md is a `sluice explain` with its output, so the check above covers it."""
    first = next(block for block in CONSOLE if block.page.name == "README.md")
    assert first.text.startswith("$ sluice explain ")
    assert len(first.text.splitlines()) > 5


@pytest.mark.parametrize("block", POLICIES, ids=place)
def test_policy_examples_load(block: Piece, tmp_path: Path) -> None:
    """Every YAML block that begins with `# policy` is a policy that loads, once the reader's own key is in it."""
    path = tmp_path / "policy.yaml"
    path.write_text(
        block.text.replace("OF-YOUR-KEY", hashlib.sha256(b"sk-one-that-nobody-guesses").hexdigest()), encoding="utf-8"
    )
    load_policy([path], environ={}, now_us=0)
