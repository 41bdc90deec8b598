"""Markdown pages of the repository, taken apart for tests: fenced blocks, code spans and links, each with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.repository import ROOT, shown


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a page. `info` is a fenced block's language, and empty for code spans and links."""

    page: Path
    line: int
    text: str
    info: str = ""

    @property
    def place(self) -> str:
        return f"{shown(self.page)}:{self.line}"


def pages() -> list[Path]:
    """The pages that users and developers read."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")), *_beside_code()]


def _beside_code() -> list[Path]:
    return sorted((ROOT / "benchmarks").glob("*.md"))


def blocks(page: Path) -> Iterator[Piece]:
    """Fenced blocks, with the line of their first line of content."""
    yield from (piece for piece in _split(page) if piece.info)


def spans(page: Path) -> Iterator[Piece]:
    """Inline code, outside fenced blocks; it may go on in the next line."""
    prose = _prose(page)
    for match in re.finditer(r"`((?:[^`\n]|\n(?!\n))+)`", prose):
        yield Piece(page, prose.count("\n", 0, match.start()) + 1, " ".join(match.group(1).split()))


def links(page: Path) -> Iterator[Piece]:
    """Targets of links, outside fenced blocks."""
    prose = _prose(page)
    for match in re.finditer(r"\]\(([^)\s]+)\)", prose):
        yield Piece(page, prose.count("\n", 0, match.start()) + 1, match.group(1))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = [
        match.group(1) for piece in _split(page) if not piece.info and (match := re.match(r"#+ +(.+)", piece.text))
    ]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[Piece]:
    """Every shell command that a page names: lines of `sh` and `console` blocks, and code spans."""
    for block in blocks(page):
        if block.info in {"sh", "console"}:
            for offset, line in _joined(block.text):
                if block.info == "sh" or line.startswith("$ "):
                    yield Piece(page, block.line + offset, line.removeprefix("$ "), block.info)
    yield from spans(page)


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Lines with those that end in a backslash joined to the next."""
    start, held = 0, ""
    for offset, line in enumerate(text.splitlines()):
        start = start if held else offset
        held += line
        if held.endswith("\\"):
            held = held[:-1]
            continue
        yield start, held
        held = ""


def _prose(page: Path) -> str:
    """A page with every fenced block emptied, line for line."""
    lines = [""] * len(page.read_text(encoding="utf-8").splitlines())
    for piece in _split(page):
        if not piece.info:
            lines[piece.line - 1] = piece.text
    return "\n".join(lines)


def _split(page: Path) -> Iterator[Piece]:
    """A page as fenced blocks (with `info`, "text" where none is given) and single lines (without)."""
    fence, info, first, content = "", "", 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        opening = re.match(r" *(```+)(\w*)", line)
        if fence and opening and opening.group(1) == fence:
            yield Piece(page, first, "\n".join(content) + "\n", info)
            fence = ""
        elif fence:
            content.append(line)
        elif opening:
            fence, info, first, content = opening.group(1), opening.group(2) or "text", number + 1, []
        else:
            yield Piece(page, number, line)
