"""The files of this repository, for tests that read source and docs. Pure: knows nothing of git.

Works in a clone and in an unpacked archive alike, so it walks the folders and leaves out what is generated.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pricing", "pools", "policies", "router")
_GENERATED = {"build", "dist", "__pycache__", "shared"}
_TEXT = {
    "", ".cfg", ".css", ".csv", ".html", ".in", ".ini", ".js", ".json", ".jsonl", ".lua", ".mako", ".md", ".py",
    ".sh", ".sql", ".toml", ".txt", ".typed", ".yaml", ".yml",
}  # fmt: skip


def text_files() -> Iterator[Path]:
    """Every text file of the repository, product, tests and docs, in a stable order."""
    yield from (path for path in _walk(ROOT) if path.suffix in _TEXT)


def product_modules() -> Iterator[Path]:
    """Every Python module of the four packages."""
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def modules_of_tests() -> Iterator[Path]:
    """Every file that pytest collects tests from."""
    yield from sorted((ROOT / "tests").rglob("test_*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def shown(path: Path) -> str:
    """A path as people see it: relative to the repository."""
    return path.relative_to(ROOT).as_posix()


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            continue
        if path.is_dir():
            if not _is_generated(path):
                yield from _walk(path)
        elif path.name not in {".coverage"}:
            yield path


def _is_generated(folder: Path) -> bool:
    hidden = folder.name.startswith(".") and folder.name != ".ci"
    return hidden or folder.name in _GENERATED or folder.suffix == ".egg-info" or (folder / "pyvenv.cfg").exists()
