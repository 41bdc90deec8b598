"""Long sections read entry by entry mean, and say of places, what the whole file does."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import BaseModel

from pricing.errors import FileProblem
from pricing.files.document import Document, PartLines, parse_yaml, read_yaml
from pricing.files.parts import LONG
from pricing.files.validate import validate

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


@pytest.mark.parametrize(
    ("books", "said"),
    [
        ("2026-10-01", "p.yaml:1: 'books': input should be a valid string or a valid list, not \"2026-10-01\""),
        ("3", "p.yaml:1: 'books': input should be a valid string or a valid list, not 3"),
        ("{a: b}", "p.yaml:1: 'books': input should be a valid string or a valid list"),
        ("[a, 3]", "p.yaml:1: 'books.1': input should be a valid string, not 3"),
    ],
)
def test_a_value_of_several_kinds_is_wrong_once(books: str, said: str) -> None:
    """With all that it may be, or with what is wrong inside of it; what YAML takes for no text is to be quoted."""
    with pytest.raises(FileProblem) as caught:
        validate(parse_yaml(f"books: {books}\n", Path("p.yaml")), _Books)
    quoted = "" if "{" in books else "; put it in quotes"
    assert caught.value.problems == [said + quoted]


class _Books(BaseModel):
    books: str | list[str]


@pytest.mark.parametrize("key", ["12", "1.5", "true", "~", "2026-10-01", "? [a, b]\n", "? {a: b}\n"])
@pytest.mark.parametrize("by_parts", [False, True])
def test_a_key_that_is_no_text_is_refused_where_it_stands(key: str, by_parts: bool) -> None:
    """A class called 12, or true: in the words of the file, with what to do."""
    text = (MANY if by_parts else "version: 1\ntenants:\n") + f"  {key}: {{}}\n"
    text = text.replace("last: [1]\n", "")
    with pytest.raises(FileProblem) as refused:
        parse_yaml(text, Path("p.yaml"))
    [problem] = refused.value.problems
    line = text.splitlines().index(f"  {key}".splitlines()[0] + (": {}" if "?" not in key else "")) + 1
    assert problem.startswith(f"p.yaml:{line}: the key ")
    assert problem.endswith(" is no text; put it in quotes")


def test_aliases_that_repeat_without_end_are_refused() -> None:
    """Nine lines that stand for billions of values: a problem of the file, told before memory is full of them."""
    names = "abcdefghi"
    bombs = [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise(names)]
    text = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *bombs])
    with pytest.raises(FileProblem) as refused:
        parse_yaml(text, Path("p.yaml"))
    [problem] = refused.value.problems
    assert re.fullmatch(
        r"p\.yaml:[1-9]: more than 200,000 values with what aliases repeat, .*; split the file", problem
    )


def test_a_text_of_too_many_values_is_refused_before_it_is_read() -> None:
    """A log or a dump in the place of a policy, which would take minutes."""
    with pytest.raises(FileProblem, match=r"p\.yaml:66667: more than 200,000 values"):
        parse_yaml("- {a: b}\n" * 200_000, Path("p.yaml"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\n# caf\xe9\n", "2: cannot read this file: it is not UTF-8 text; save it as such"),
        (b"a: 1\nb: 2\0\n", "2: not valid YAML: unacceptable character #x0000: special characters are not allowed"),
    ],
)
def test_what_is_no_text_is_told_with_its_line(content: bytes, said: str, tmp_path: Path) -> None:
    """One letter of another encoding in a comment is found without a hex dump."""
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(FileProblem) as refused:
        read_yaml(path)
    assert refused.value.problems == [f"{path}:{said}"]
