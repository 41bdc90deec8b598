"""Past answers page by page, in a file and in PostgreSQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pricing.ledger import answers
from pricing.ledger.answers import PastAnswer, answers_after, newest_since
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.rows import RequestRow
from pricing.ledger.upgrade import ensure_current
from support.money import request
from support.shared_ledger import fill, fill_file

FOREVER = 1 << 60


@pytest.fixture(params=["file", "database"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerPlace:
    """An empty ledger of either kind."""
    made = (
        tmp_path / "ledger.sqlite" if request.param == "file" else PostgresUrl(request.getfixturevalue("postgres_url"))
    )
    ensure_current(made)
    return made


async def write(place: LedgerPlace, rows: list[RequestRow]) -> None:
    if isinstance(place, PostgresUrl):
        await fill(place, (), rows)
    else:
        fill_file(place, (), rows)


def answered(number: int, at_us: int) -> RequestRow:
    """Of so many tokens as its number says, in two sequences."""
    return request(f"r{number:03}", at_us=at_us, completion_tokens=2 * number, sequences=2, features=("tools",))


def read(place: LedgerPlace, since_us: int, before_us: int, page: int) -> list[PastAnswer]:
    """All pages."""
    found, after = list[PastAnswer](), (since_us, "")
    while True:
        each = answers_after(place, after, before_us, page)
        found += each.answers
        if each.last is None:
            return found
        after = each.last


async def test_pages_hold_each_complete_answer_once_oldest_first(place: LedgerPlace) -> None:
    """Whatever the size of a page, also where requests share an instant; those without tokens or answer are not in."""
    rows = [answered(number, number // 4) for number in range(40)]
    lost = [
        request("r100", at_us=3, outcome="broken"),
        request("r101", at_us=3, prompt_tokens=None, completion_tokens=None),
        request("r102", at_us=9, completion_tokens=None),
        request("r103", at_us=9, outcome="client_gone"),
    ]
    await write(place, [*reversed(rows), *lost])
    for page in (1, 3, 40, 1_000):
        assert [each.tokens_each for each in read(place, 0, FOREVER, page)] == list(range(40)), page
    [first, *_] = read(place, 0, FOREVER, 50)
    assert (first.tenant, first.features, first.sequences, first.ended_us) == ("acme", ("tools",), 2, 2_000_000)
    assert [each.tokens_each for each in read(place, 5, 7, 3)] == list(range(20, 28))


async def test_the_newest_are_counted_before_an_instant(place: LedgerPlace) -> None:
    """The time of the oldest of them; 0 where there are fewer, and in an empty ledger."""
    assert newest_since(place, 1, FOREVER) == 0
    await write(place, [answered(number, 10 * number) for number in range(1, 9)])
    assert [newest_since(place, count, FOREVER) for count in (1, 3, 8, 9)] == [80, 60, 10, 0]
    assert [newest_since(place, count, 50) for count in (1, 4, 5)] == [40, 10, 0]


def test_neither_reads_more_of_a_file_than_it_needs(tmp_path: Path) -> None:
    """Both go by the index of times, so that a ledger of years costs what one of a day does."""
    ensure_current(tmp_path / "ledger.sqlite")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        for statement, values in ((answers._BEGIN, [FOREVER, 5]), (answers._PAGE, [0, "", FOREVER, 5])):
            plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values))
            assert "ix_requests_at_us" in plan
            assert "SCAN" not in plan
