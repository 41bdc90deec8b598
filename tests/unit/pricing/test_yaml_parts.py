"""Long sections read entry by entry mean, and say of places, what the whole file does."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from pricing.errors import FileProblem
from pricing.yamlfile import Document, PartLines, parse_yaml, validate
from pricing.yamlparts import LONG

ENTRY = """\
  t{0}:
    keys: [{{id: "t{0}-k", n: 60_000, yes: no, o: 0o14, f: 1.5, none: ~}}]
    note: |
      # no comment

    # a comment
    until: 2026-11-22T00:00:00Z
"""
MANY = "version: 1\ntenants:\n" + "".join(ENTRY.format(number) for number in range(LONG)) + "last: [1]\n"


def whole(text: str) -> Document:
    """The same text, whose tag keeps it from being read by parts."""
    return parse_yaml(text.replace("tenants:\n", "tenants: !!map\n"), Path("p.yaml"))


def test_parts_are_the_whole() -> None:
    """Words, numbers, times, block texts and the line of every key and item are the same."""
    parts = parse_yaml(MANY, Path("p.yaml"))
    assert isinstance(parts.lines, PartLines)
    assert parts.data == whole(MANY).data
    assert dict(parts.lines) == dict(whole(MANY).lines)
    assert parts.place(("tenants", "t7", "keys", 0, "id")) == f"p.yaml:{3 + 7 * 7 + 1}"


@pytest.mark.parametrize(
    ("old", "new"),
    [("yes: no", "yes: no, yes: 1"), ("  t9:\n", "  t8:\n"), ("f: 1.5", "f: ]"), ("~}", "*nobody}")],
)
def test_what_is_wrong_in_a_part_is_said_as_of_the_whole(old: str, new: str) -> None:
    """Repeated keys in an entry and over two, broken YAML and unknown aliases keep their words and their line."""
    text = MANY.replace(old, new, 1) if old != "  t9:\n" else MANY.replace(old, new)
    with pytest.raises(FileProblem) as by_parts:
        parse_yaml(text, Path("p.yaml"))
    with pytest.raises(FileProblem) as at_once:
        whole(text)
    assert by_parts.value.problems == at_once.value.problems


def test_an_anchor_of_one_entry_is_known_to_another() -> None:
    """Entries that name each other are read together."""
    text = MANY.replace("  t1:\n    keys: [", "  t1:\n    keys: &k [").replace("note: |", "same: *k\n    note: |")
    text = text.replace("    same: *k\n", "", 2)
    assert parse_yaml(text, Path("p.yaml")).data["tenants"]["t5"]["same"][0]["id"] == "t1-k"


@pytest.mark.parametrize("text", ["version: 1\nclasses: " + "[" * 5_000, MANY.replace("[1]", "[" * 5_000)])
def test_what_is_nested_too_deep_is_refused_with_its_line(text: str) -> None:
    """Thousands of brackets are a problem of the file, at the line where they stand, and no fault of ours."""
    with pytest.raises(FileProblem) as refused:
        parse_yaml(text, Path("p.yaml"))
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "[[" in line)
    assert refused.value.problems == [f"p.yaml:{line}: nested too deep to be read; write it with fewer levels"]


def test_a_value_of_several_kinds_is_named_as_the_file_names_it() -> None:
    """Without what the kinds are called inside: a day where a book's name, or several, should stand."""
    document = parse_yaml("books: 2026-10-01\n", Path("p.yaml"))
    with pytest.raises(FileProblem) as caught:
        validate(document, _Books)
    assert [problem.partition(": input")[0] for problem in caught.value.problems] == ["p.yaml:1: 'books'"] * 2


class _Books(BaseModel):
    books: str | list[str]
