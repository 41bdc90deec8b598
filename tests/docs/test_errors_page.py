"""docs/errors.md has an entry for everything that can go wrong, and says what the product does."""

from __future__ import annotations

import re
from enum import StrEnum

import pytest

from policies.choose.decision import Reason
from pools.failures.classes import FailureClass
from router.errors import ERRORS, ErrorEntry
from support.repository import ROOT

PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
RETRY = {None: "the client's own rules", True: "`true`", False: "`false`"}


def test_the_page_has_exactly_the_codes_of_the_table() -> None:
    """Every error code has one entry, and no entry is left of a code that is gone."""
    assert sorted(ENTRIES) == sorted(ERRORS)


@pytest.mark.parametrize(("code", "entry"), ERRORS.items(), ids=list(ERRORS))
def test_an_entry_says_status_meaning_and_remedy(code: str, entry: ErrorEntry) -> None:
    """Each entry states the table's status, type and retry advice, what it means, and what to do."""
    text = ENTRIES[code]
    assert f"Status {entry.status}, type `{entry.type}`, retry: {RETRY[entry.should_retry]}." in text
    assert re.search(r"^\*\*Means\.\*\* \S", text, re.MULTILINE)
    assert re.search(r"^\*\*Do\.\*\* \S", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "members"), [("Why a pool was rejected", Reason), ("Why an attempt failed", FailureClass)]
)
def test_reasons_and_failure_classes_are_explained(heading: str, members: type[StrEnum]) -> None:
    """Each reason for a rejection and each failure class has a row in its table, in the order of the code."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \| \S", section, re.MULTILINE) == [member.value for member in members]


def test_the_table_of_official_clients_has_every_code_that_they_might_repeat() -> None:
    """Each 429 and 5xx, and whatever else has advice, is in one row, with the advice that its answers carry."""
    section = PAGE.split("## What official clients do\n")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    said = {code: row[1] for row in rows for code in re.findall(r"`(\w+)`", row[0])}
    expected = {code for code, one in ERRORS.items() if one.should_retry is not None or one.status >= 429}
    assert set(said) == expected
    for code, advice in said.items():
        if code != "stream_broken":  # it comes when the headers are gone
            assert advice.startswith(RETRY[ERRORS[code].should_retry]), code
