"""A number in a file is what is written, in decimal digits; whatever YAML would make another number of stays text."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricing.errors import FileProblem
from pricing.files.document import parse_yaml
from pricing.files.parts import LONG

NUMBERS = [
    ("5", 5),
    ("-0", 0),
    ("017", 17),
    ("1_000", 1000),
    ("1e3", 1000.0),
    (".5", 0.5),
    ("0.1", 0.1),
    ("1e-9", 1e-9),
]
TEXTS = [
    "1e400",
    "-1e400",
    "1e-400",
    "5.00000000000000001",
    "9007198.9999999999",
    "0o17",
    "0x10",
    "0b11",
]


def read(text: str, *, by_parts: bool) -> object:
    """The value of a key, in a file that is read as a whole or entry by entry."""
    if not by_parts:
        return parse_yaml(f"a: {text}", Path("p.yaml")).data["a"]
    entries = "".join(f"  k{number}: {text}\n" for number in range(LONG))
    return parse_yaml(f"table:\n{entries}", Path("p.yaml")).data["table"]["k7"]


@pytest.mark.parametrize("by_parts", [False, True])
@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_decimal_digits_are_the_number(text: str, value: float, by_parts: bool) -> None:
    """Signs, exponents, leading zeros and underscores between digits change nothing."""
    found = read(text, by_parts=by_parts)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("by_parts", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_what_is_another_number_than_it_says_stays_text(text: str, by_parts: bool) -> None:
    """Beyond what a float holds, or in another base: the field that asks for a number says so in the file's words."""
    assert read(text, by_parts=by_parts) == text


@pytest.mark.parametrize(
    "value",
    ["!name 5", "!!str 5", "!name {a: 1}", "!!python/object/apply:os.system [x]", "!!omap [a: 1]", "!!set {a}"],
)
def test_a_tag_is_refused_where_it_stands(value: str) -> None:
    """Whatever it may mean elsewhere."""
    with pytest.raises(FileProblem, match=r"^p\.yaml:3: a tag means nothing here"):
        parse_yaml(f"a: 1\nb:\n  c: {value}\n", Path("p.yaml"))


@pytest.mark.parametrize("value", ["2027-13-01", "2027-02-30T00:00:00Z", "2027-01-01T25:00:00Z", "!!int x", "!!bool x"])
def test_a_date_or_number_that_is_none_is_refused_where_it_stands(value: str) -> None:
    """Month 13 and the like, in short files and among many entries."""
    for more in ("", "".join(f"  k{number}: 1\n" for number in range(LONG))):
        with pytest.raises(FileProblem, match=r"^p\.yaml:3: not valid YAML: there is no such date, time or number"):
            parse_yaml(f"a: 1\nb:\n  c: {value}\n{more}", Path("p.yaml"))


def test_what_is_merged_from_elsewhere_has_the_line_of_its_table() -> None:
    """`<<` takes keys that are not there yet; what is wrong with one of them is said where it was merged."""
    text = "a: &a {n: 1, m: 2}\nb:\n  c:\n    <<: *a\n    n: 3\n"
    document = parse_yaml(text, Path("p.yaml"))
    assert document.data["b"]["c"] == {"n": 3, "m": 2}
    assert document.place(("b", "c", "n")) == "p.yaml:5"
    assert document.place(("b", "c", "m")) == "p.yaml:3"


@pytest.mark.parametrize("merged", ["*a", "[*a, {k: 1}]", "[{n: 1}, {m: 2}]"])
def test_a_table_may_be_all_merged(merged: str) -> None:
    """Without a key of its own, each of its keys has the table's line."""
    document = parse_yaml(f"a: &a {{n: 1, m: 2}}\nb:\n  c: {{<<: {merged}}}\n", Path("p.yaml"))
    assert document.data["b"]["c"] == {"n": 1, "m": 2} | ({"k": 1} if "k" in merged else {})
    assert document.place(("b", "c", "m")) == "p.yaml:3"


@pytest.mark.parametrize("value", ["&b {<<: *b}", "&b {d: 1, <<: [*a, *b]}", "&b {d: {<<: *b}}", "{<<: *s}"])
def test_a_table_that_merges_itself_is_refused_where_it_stands(value: str) -> None:
    """As is one that merges what is no table."""
    with pytest.raises(FileProblem, match=r"^p\.yaml:3: not valid YAML: `<<` can merge other tables only, not itself"):
        parse_yaml(f"a: &a {{n: 1}}\ns: &s !!set {{x}}\nb: {value}\n", Path("p.yaml"))
