"""Reading recorded arrivals, and saying precisely what is wrong with a file of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pricing.errors import FileProblem
from router.demo.trace import Names, TraceRow, parse_trace, read_trace, shipped_trace

NAMES = Names(("chat", "code"), ("economy", "premium"))


def problems(text: str) -> list[str]:
    with pytest.raises(FileProblem) as caught:
        parse_trace(text, "t.csv", NAMES)
    return caught.value.problems


def test_the_shipped_trace_is_the_first_five_minutes() -> None:
    """1,445 recorded requests, in order, from 0 to 300 seconds, none of them empty."""
    rows = shipped_trace()
    assert len(rows) == 1445
    assert [row.at_s for row in rows] == sorted(row.at_s for row in rows)
    assert (rows[0].at_s, rows[0].input_tokens, rows[0].output_tokens) == (0.0, 374, 44)
    assert rows[-1].at_s < 300
    assert all(row.input_tokens > 0 and row.output_tokens > 0 for row in rows)


def test_rows_are_counted_from_the_first_to_arrive() -> None:
    """Instants may be of any clock and in any order."""
    rows = parse_trace("t_s,input_tokens,output_tokens\n1000.5,10,20\n1000,30,40\n", "t.csv", NAMES)
    assert rows == [TraceRow(0.0, 30, 40), TraceRow(0.5, 10, 20)]


def test_tenant_class_and_tier_are_kept_where_they_are_stated() -> None:
    """An empty field is one that the demo fills in."""
    text = "t_s,input_tokens,output_tokens,tenant,class,tier\n0,1,2,acme,code,\n1,1,2,,,premium\n"
    first, second = parse_trace(text, "t.csv", NAMES)
    assert (first.tenant, first.request_class, first.tier) == ("acme", "code", None)
    assert (second.tenant, second.request_class, second.tier) == (None, None, "premium")


def test_a_file_may_be_gzipped_or_begin_with_a_mark(tmp_path: Path) -> None:
    """What spreadsheets and pipelines write is read."""
    text = "t_s,input_tokens,output_tokens\n0,1,2\n"
    (tmp_path / "a.csv").write_text(text, encoding="utf-8-sig")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert read_trace(tmp_path / "a.csv", NAMES) == read_trace(tmp_path / "b.csv.gz", NAMES) == [TraceRow(0.0, 1, 2)]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("x,1,2", "t.csv:2: t_s is seconds from 0 up, not 'x'"),
        ("-1,1,2", "t.csv:2: t_s is seconds from 0 up, not '-1'"),
        ("nan,1,2", "t.csv:2: t_s is seconds from 0 up, not 'nan'"),
        ("0,1.5,2", "t.csv:2: input_tokens is a whole number from 1 to 1,000,000, not '1.5'"),
        ("0,1,0", "t.csv:2: output_tokens is a whole number from 1 to 1,000,000, not '0'"),
        ("0,1", "t.csv:2: output_tokens is a whole number from 1 to 1,000,000, not ''"),
        ("0,1,2,3", "t.csv:2: there are more values than columns; quote values that hold a comma"),
    ],
)
def test_a_bad_row_is_named_with_its_line(row: str, expected: str) -> None:
    """Each kind of mistake says what was expected."""
    assert problems(f"t_s,input_tokens,output_tokens\n{row}\n") == [expected]


def test_every_bad_row_is_named_at_once() -> None:
    """Three mistakes are three problems; a file full of them is cut short."""
    head = "t_s,input_tokens,output_tokens\n"
    assert len(problems(head + "a,1,2\n0,1,2\nb,1,2\n0,c,2\n")) == 3
    many = problems(head + "a,1,2\n" * 25)
    assert (len(many), many[-1]) == (21, "… and 5 more")


def test_unknown_names_get_the_nearest_ones() -> None:
    """A class that the demo's policy does not have would only be refused later; a tenant need only be a name."""
    head = "t_s,input_tokens,output_tokens,tenant,class\n"
    [near] = problems(head + "0,1,2,acme,cod\n")
    assert near == "t.csv:2: class 'cod' is not in the demo's policy; did you mean 'code'?"
    [request_class] = problems(head + "0,1,2,,zzz\n")
    assert request_class == "t.csv:2: class 'zzz' is not in the demo's policy; there are chat, code"
    [tenant] = problems(head + "0,1,2,a b,\n")
    assert tenant == "t.csv:2: tenant is up to 64 letters, digits, '.', '_' and '-', not 'a b'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "t.csv:1: column 't_s' is missing"),
        ("t_s,input_tokens\n", "t.csv:1: column 'output_tokens' is missing"),
        ("t_s,input_tokens,output_tokens,prompt\n", "t.csv:1: unknown column 'prompt'"),
        ("t_s,t_s,input_tokens,output_tokens\n", "t.csv:1: a column stands there twice"),
        ("t_s,input_tokens,output_tokens\n", "t.csv:1: there are no rows below the header"),
    ],
)
def test_a_bad_header_says_what_the_columns_are(text: str, expected: str) -> None:
    """The first line is checked before any row."""
    [problem] = problems(text)
    assert problem.startswith(expected)


def test_a_file_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    """Missing files, bytes that are no UTF-8 and broken archives are problems with the file's name."""
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c.csv.gz").write_bytes(b"no archive")
    for name in ("a.csv", "b.csv", "c.csv.gz"):
        with pytest.raises(FileProblem, match=f"{name}:1: the trace cannot be read"):
            read_trace(tmp_path / name, NAMES)
