"""docs/failures.md shows the fault matrix that the endpoint is held to, and has a section for each failure class."""

from __future__ import annotations

import re

from pools.failures.classes import FailureClass
from router.errors import ERRORS
from support.fault_matrix import ENDINGS, MATRIX, NEVER
from support.repository import ROOT

PAGE = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of the first table below a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


def test_the_table_is_the_matrix() -> None:
    """Row for row, in the same order and the same words as the data that the endpoint is tested with."""
    assert table("The fault matrix") == [
        [
            row.name,
            row.answer.value,
            row.moment.value,
            row.with_another,
            row.alone,
            row.pays,
            row.breaker.value,
        ]
        for row in MATRIX
    ]


def test_every_ending_is_explained_as_it_is() -> None:
    """Each ending has a row that says its status, its error code and what the client's SDK is told."""
    told = {None: "–", "true": "`true`", "false": "`false`"}
    expected = [
        [name, str(ending.status), f"`{ending.code}`" if ending.code else "–", told[ending.should_retry]]
        for name, ending in ENDINGS.items()
    ]
    rows = table("How a request can end")
    assert [row[:4] for row in rows] == [*expected, [NEVER, "–", "–", "–"]]
    assert all(row[4] for row in rows)
    assert {ending.code for ending in ENDINGS.values() if ending.code} <= set(ERRORS)


def test_every_class_has_a_section() -> None:
    """In the order of the code, each with what it means, what the router does and what operators do."""
    assert list(SECTIONS) == [failure.value for failure in FailureClass]
    for text in SECTIONS.values():
        assert re.findall(r"^\*\*(.+?)\.\*\* \S", text, re.MULTILINE) == ["Means", "The router", "Do"]
