"""Bills as CSV: both shapes, and every way in which a line is wrong, with file and line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pricing.errors import FileProblem
from pricing.prices.resources import Resource
from pricing.reconcile.bill import Bill, resource_of
from pricing.reconcile.csv_bill import read_csv_bill

HOUR = 3_600 * 10**6
BEGIN = 1_793_491_200 * 10**6  # 2026-11-01
HEADER = "interval_start,app,resource,cost,currency"


def pool_of(name: str, tags: Mapping[str, str]) -> str | None:
    return tags.get("pool") or (name if name in ("l4", "a10") else None)


def read(folder: Path, *lines: str, window: tuple[int, int] = (BEGIN, BEGIN + 48 * HOUR)) -> Bill:
    path = folder / "bill.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_csv_bill(path, pool_of, *window)


def problems(folder: Path, *lines: str) -> list[str]:
    with pytest.raises(FileProblem) as raised:
        read(folder, *lines)
    return [problem.replace(f"{folder}/", "") for problem in raised.value.problems]


def test_our_columns(tmp_path: Path) -> None:
    """Any offset is brought to UTC; sums are exact and rounded once, half to even, at the nano-dollar."""
    bill = read(
        tmp_path,
        HEADER,
        "2026-11-01T01:00Z,l4,L4,0.8,USD",
        "2026-11-01T02:00+01:00,l4,CPU,$0.0000000005,usd",
        "2026-11-01T02:00:00,a10,,1.5,",
        "2026-11-01T02:00:00,shop,cpu,2,USD",
    )
    assert bill.amounts == {
        ("l4", BEGIN + HOUR): {Resource.GPU: 800_000_000, Resource.CPU: 0},
        ("a10", BEGIN + 2 * HOUR): {Resource.CONTAINER: 1_500_000_000},
    }
    assert (bill.unknown, bill.total_nusd) == ({"shop": 2_000_000_000}, 2_300_000_000)
    assert (bill.since_us, bill.until_us) == (BEGIN + HOUR, BEGIN + 3 * HOUR)


def test_modal_s_columns(tmp_path: Path) -> None:
    """As its command writes them: the pool stands in the tags, and two Apps of one name are two."""
    bill = read(
        tmp_path,
        "Object ID,Description,Environment,Interval Start,Resource,Cost,Tags",
        'ap-1,x,main,2026-11-01T01:00:00,H100,3.95,"{""pool"": ""big""}"',
        'ap-2,x,main,2026-11-01T01:00:00,H100,0.05,"{""pool"": ""big""}"',
        "ap-3,l4,main,2026-11-01T01:00:00,Memory,0.008,",
    )
    assert bill.amounts == {
        ("big", BEGIN + HOUR): {Resource.GPU: 4_000_000_000},
        ("l4", BEGIN + HOUR): {Resource.MEMORY: 8_000_000},
    }


def test_another_environment_is_another_deployment(tmp_path: Path) -> None:
    """Staging has Apps of the same names and tags; where ours is named they are no pool, and are listed as its own."""
    path = tmp_path / "bill.csv"
    lines = ("main,l4,1", "dev,l4,2", ",l4,4", "dev,notebooks,8")
    text = "\n".join(["environment,app,cost,interval_start", *(f"{line},2026-11-01T01:00Z" for line in lines)])
    path.write_text(text, encoding="utf-8")
    everywhere = read_csv_bill(path, pool_of, BEGIN, BEGIN + 48 * HOUR)
    assert everywhere.amounts == {("l4", BEGIN + HOUR): {Resource.CONTAINER: 7_000_000_000}}
    assert everywhere.unknown == {"notebooks": 8_000_000_000}
    ours = read_csv_bill(path, pool_of, BEGIN, BEGIN + 48 * HOUR, "main")
    assert ours.amounts == {("l4", BEGIN + HOUR): {Resource.CONTAINER: 5_000_000_000}}
    assert ours.unknown == {
        "l4 in environment dev": 2_000_000_000,
        "notebooks in environment dev": 8_000_000_000,
    }


def test_what_a_spreadsheet_adds_is_read_over(tmp_path: Path) -> None:
    """A byte order mark, CRLF, quotes around everything, empty rows at the end."""
    path = tmp_path / "bill.csv"
    lines = ("interval_start,app,resource,cost,currency", "2026-11-01T01:00Z,l4,L4,0.8,USD")
    quoted = [",".join(f'"{field}"' for field in line.split(",")) for line in lines]
    path.write_text("\r\n".join([*quoted, ",,,,", '"","","","",""', ""]), encoding="utf-8-sig", newline="")
    bill = read_csv_bill(path, pool_of, BEGIN, BEGIN + 48 * HOUR)
    assert bill.amounts == {("l4", BEGIN + HOUR): {Resource.GPU: 800_000_000}}


def test_lines_outside_the_window_are_left_out(tmp_path: Path) -> None:
    """They say how far the bill reaches, and no more."""
    lines = [f"2026-11-01T{hour:02d}:00Z,l4,L4,1,USD" for hour in range(6)]
    bill = read(tmp_path, HEADER, *lines, window=(BEGIN + 2 * HOUR, BEGIN + 4 * HOUR))
    assert sorted(at_us for _, at_us in bill.amounts) == [BEGIN + 2 * HOUR, BEGIN + 3 * HOUR]
    assert (bill.since_us, bill.until_us) == (BEGIN + 2 * HOUR, BEGIN + 4 * HOUR)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("soon,l4,L4,1,USD", "interval_start 'soon' is not an instant; write 2026-11-01T14:00Z"),
        ("2026-11-01,l4,L4,1,USD", "interval_start '2026-11-01' is a day; `modal billing report --resolution h"),
        ("2026-11-01T01:30Z,l4,L4,1,USD", "is not the begin of an hour of UTC"),
        ("2026-11-01T01:00+05:30,l4,L4,1,USD", "is not the begin of an hour of UTC"),
        ("2026-11-01T01:00Z,l4,L4,much,USD", "cost 'much' is not a number"),
        ("2026-11-01T01:00Z,l4,L4,1_0,USD", "cost '1_0' is not a number"),
        ("2026-11-01T01:00Z,l4,L4,NaN,USD", "cost 'NaN' is not an amount of dollars"),
        ("2026-11-01T01:00Z,l4,L4,1e99,USD", "cost '1e99' is not an amount of dollars"),
        ("2026-11-01T01:00Z,l4,L4,-1,USD", "cost -1 is a credit: hours are compared by what was metered"),
        ("2026-11-01T01:00Z,l4,L4,1,EUR", "currency EUR beside US dollars"),
        ("2026-11-01T01:00Z,,L4,1,USD", "no app, object or pool is named"),
        ("2026-11-01T02:00Z,l4,L4,1,USD", "the same interval, object and resource as in line 2; keep one of them"),
        ("2026-11-01T02:00Z,l4,l4,1,USD", "the same interval, object and resource as in line 2; keep one of them"),
        ("2026-11-01T02:00Z,l4,,1,USD", "line 3 has together what line 2 has a part of, which would count twice"),
        ("2026-11-01T02:00Z,l4,Total,1,USD", "line 3 has together what line 2 has a part of"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    """By file and line, with what to do; nothing of the bill is used."""
    [problem] = problems(tmp_path, HEADER, "2026-11-01T02:00Z,l4,L4,1,USD", line)
    assert problem.startswith("bill.csv:3: ")
    assert said in problem


def test_a_sum_is_told_apart_from_its_parts_in_any_order(tmp_path: Path) -> None:
    """A part after the sum is refused like a sum after the part; two spellings of one resource are one."""
    found = problems(
        tmp_path,
        HEADER,
        "2026-11-01T02:00Z,l4,,1,USD",
        "2026-11-01T02:00Z,l4,CPU,1,USD",
        "2026-11-01T02:00Z,l4,total,1,USD",
    )
    assert [problem.split(": ", 1) for problem in found] == [
        ["bill.csv:3", "line 2 has together what line 3 has a part of, which would count twice; keep either"],
        ["bill.csv:4", "the same interval, object and resource as in line 2; keep one of them"],
    ]
    found = problems(tmp_path, HEADER, "2026-11-01T02:00Z,l4,mem,1,USD", "2026-11-01T02:00Z,l4,Memory,1,USD")
    assert [problem.split(": ", 1)[0] for problem in found] == ["bill.csv:3"]


def test_all_bad_lines_are_named_at_once(tmp_path: Path) -> None:
    """So that a file is mended in one go."""
    found = problems(tmp_path, HEADER, "a,l4,L4,1,USD", "2026-11-01T02:00Z,l4,L4,1,USD", "b,l4,L4,x,USD")
    assert [problem.split(" ")[0] for problem in found] == ["bill.csv:2:", "bill.csv:4:"]


def test_a_bill_that_is_wrong_throughout_does_not_fill_the_screen(tmp_path: Path) -> None:
    """Twenty lines say what is wrong, and one how many there are besides."""
    found = problems(tmp_path, HEADER, *(f"2026-11-01T01:00Z,l4,L4,{cost},EUR" for cost in range(1_500)))
    assert [problem.split(" ")[0] for problem in found[:-1]] == [f"bill.csv:{number}:" for number in range(2, 22)]
    assert found[-1] == "bill.csv: and 1,480 more lines like these"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["interval_start,cost"], "bill.csv:1: column app is missing"),
        (["app,cost"], "bill.csv:1: column interval_start is missing"),
        ([""], "bill.csv:1: column interval_start is missing"),
        (["interval_start;app;cost", "2026-11-01T01:00Z;l4;0,8"], "between semicolons or tabs; save it with commas"),
        (["interval_start\tapp\tcost"], "bill.csv:1: columns stand between semicolons or tabs"),
        (["app,app,interval_start,cost"], "bill.csv:1: column app is there twice"),
        ([HEADER, "2026-11-01T01:00Z,l4"], "bill.csv:2: 2 fields, the header has 5"),
        ([HEADER, '2026-11-01T01:00Z,"l4'], "bill.csv: cannot be read"),
        (["app,interval_start,cost,tags", "l4,2026-11-01T01:00Z,1,x"], "bill.csv:2: tags are no JSON object"),
        (["app,interval_start,cost,tags", "l4,2026-11-01T01:00Z,1,[]"], "bill.csv:2: tags are no JSON object"),
        ([HEADER, "2026-11-02T00:00Z,l4,L4,9,USD"], "it is a report by day"),
    ],
)
def test_what_is_no_bill_is_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    """Header, shape and a report by day, which cannot be held against hours."""
    [problem] = problems(tmp_path, *lines)
    assert said in problem


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Because it is not there, or no text: says so, and no more."""
    with pytest.raises(FileProblem, match="cannot be read"):
        read_csv_bill(tmp_path / "none.csv", pool_of, 0, HOUR)
    (tmp_path / "utf16.csv").write_text(HEADER, encoding="utf-16")
    with pytest.raises(FileProblem, match="it is not UTF-8 text; save it as CSV in UTF-8"):
        read_csv_bill(tmp_path / "utf16.csv", pool_of, 0, HOUR)


@pytest.mark.parametrize(
    ("word", "resource"),
    [
        ("CPU", Resource.CPU),
        ("Memory", Resource.MEMORY),
        ("", Resource.CONTAINER),
        ("GPU", Resource.GPU),
        ("GPU-H100", Resource.GPU),
        ("A10G", Resource.GPU),
        ("A100", Resource.GPU),
        ("A100_80GB", Resource.GPU),
        ("nvidia tokens", Resource.OTHER),
        ("tokens", Resource.TOKENS),
        ("Volume", Resource.OTHER),
    ],
)
def test_names_of_resources(word: str, resource: Resource) -> None:
    """GPUs by any of their names; what is not known is no GPU."""
    assert resource_of(word) is resource
